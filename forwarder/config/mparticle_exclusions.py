"""Which paths of ``settings.metadata_field_exclusion`` can match: judged when a file is read.

A path that never matches removes nothing, and whoever wrote it believes that it does. What
documents hold is that of mParticle's inbound schema (tests/data/mparticle-inbound-schema.json);
keys that it does not name pass through (docs/mparticle-format.md), and so may be excluded.
"""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from forwarder.config.yaml.sections import SectionValues

EXCLUSION_KEY = "metadata_field_exclusion"

_SET_BY_US = {
    "message_id": "every batch needs its id",
    "message_type": "every batch names its type",
    "schema_version": "every batch names its version",
    "batch_id": "every batch needs its id",
    "timestamp_unixtime_ms": "every batch carries its time",
    "unique_id": "set unique_id: null instead",
}
_NEVER_SENT = frozenset({"api_key", "api_keys"})
# mParticle's reserved user attributes begin with $, as $Gender does.
_SEGMENT = re.compile(r"\$?[^\s.*?\[\]{}\"'\\/$]{1,255}")

_VALUE, _LIST, _FREE = "a single value", "a list", "an object with any keys"
_Shape = str | Mapping[str, Any]


def _values(names: str) -> dict[str, _Shape]:
    return dict.fromkeys(names.split(), _VALUE)


_APPLICATION: dict[str, _Shape] = {
    **_values(
        "application_name application_version application_build_number install_referrer package os"
    ),
    "apple_search_ads_attributes": _FREE,
}
_DEVICE = _values(
    "brand product device android_uuid device_manufacturer platform os_version device_model "
    "screen_height screen_width screen_dpi device_country locale_language locale_country "
    "network_country network_carrier network_code network_mobile_country_code timezone_offset "
    "build_identifier http_header_user_agent ios_advertising_id att_authorization_status "
    "att_timestamp_unixtime_ms push_token cpu_architecture is_tablet "
    "push_notification_sound_enabled push_notification_vibrate_enabled radio_access_technology "
    "supports_telephony has_nfc bluetooth_enabled bluetooth_version ios_idfv "
    "android_advertising_id build_version_release limit_ad_tracking amp_id is_dst "
    "roku_advertising_id roku_publisher_id microsoft_advertising_id microsoft_publisher_id "
    "fire_advertising_id"
)
_PLACE = _values(
    "latitude longitude accuracy dma_code country_code region_code postal_code location_source "
    "city_name"
)
_IDENTITIES = _values(
    "other customer_id customerid facebook twitter google microsoft yahoo email alias "
    "facebook_custom_audience_id other_id_2 other_id_3 other_id_4 other_id_5 other_id_6 "
    "other_id_7 other_id_8 other_id_9 other_id_10 mobile_number phone_number_2 phone_number_3"
)
DOCUMENT: dict[str, _Shape] = {
    **_values(
        "source_request_id environment ip partner_identity mp_deviceid mpid origin_mpid "
        "sdk_version job_id"
    ),
    "application_info": _APPLICATION,
    "attribution_info": _values("service_provider publisher campaign"),
    "consent_state": {"gdpr": _FREE, "ccpa": _FREE},
    "context": {"data_plan": _values("plan_id plan_version"), "location": _PLACE},
    "deleted_user_attributes": _LIST,
    "device_info": _DEVICE,
    "integration_attributes": _FREE,
    "partner_identities": _FREE,
    "source_info": _values("channel partner replay_request_id replay_job_id is_historical"),
    "system_notifications": _LIST,
    "user_attributes": _FREE,
    "user_identities": _IDENTITIES,
}
"""What a document may hold besides events and the keys of ``_SET_BY_US``; objects are open."""

DROPPED: dict[str, tuple[str, ...]] = {
    "mp_deviceid": ("include_mp_deviceid",),
    "device_info": ("include_metadata",),
    "source_info": ("include_metadata",),
    "user_identities": ("include_user_identities",),
    "consent_state": ("include_consent_state",),
    "system_notifications": ("include_system_notifications",),
    "context.location": ("include_location_information", "include_event_batch_location"),
}
"""Path -> the settings without any one of which it is left out whole."""

_MAX_PATH_KEYS = 32
"""Keys of a path: mParticle's schema nests four objects, and each key costs all those above it."""

_MIN_WORD_CHARS = 4
_NEAR = 0.85


def path_complaint(text: str) -> str | None:
    """Complain about a path that may not, or can never, be removed; ``{}`` stands for it."""
    segments = text.split(".", _MAX_PATH_KEYS)
    first = segments[0]
    if len(segments) > _MAX_PATH_KEYS:
        return f"has more than {_MAX_PATH_KEYS} keys; no document nests that deep, delete it"
    if not all(map(_SEGMENT.fullmatch, segments)) or "" in segments or first[0] == "$":
        return "must be keys joined by dots, without wildcards, is {}; write device_info.imei, say"
    if first == "events":
        return "reaches into events; only context can be excluded, use the include_… settings"
    if first in _SET_BY_US:
        return f"cannot be removed, is {{}}; {_SET_BY_US[first]}"
    if first in _NEVER_SENT:
        return "is {}, which is never sent; delete it from the list"
    return _out_of_reach(segments)


def _out_of_reach(segments: list[str]) -> str | None:
    """Complain about a path that leads beside, or beyond, what a document holds."""
    shape: _Shape = DOCUMENT
    for depth, name in enumerate(segments):
        above = ".".join(segments[:depth])
        if shape is _FREE:
            return None
        if isinstance(shape, str):
            return f"can never match, is {{}}: {above} is {shape}; write {above}, or delete it"
        if name not in shape:
            near = _misspelt(name, shape, at_top=not depth)
            return near and (
                f"can never match, is {{}}: no {'batch' if not depth else above} has {name} "
                f"(did you mean {near}?); correct it"
            )
        shape = shape[name]
    return None


def _misspelt(name: str, known: Iterable[str], *, at_top: bool) -> str | None:
    """Return the well-known key that this is in another spelling, None for a key of its own.

    What differs in digits alone is a key of its own, as ``other_id_11`` is.
    """
    words = [word for word in known if _without_digits(word) != _without_digits(name)]
    found = next((word for word in words if _folded(word) == _folded(name)), None)
    if found is None and len(name) >= _MIN_WORD_CHARS:
        found = next((word for word in words if _is_one_typo(name.lower(), word)), None)
    if found is None and at_top:
        found = next(iter(get_close_matches(name.lower(), words, n=1, cutoff=_NEAR)), None)
    return found


def _folded(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "")


def _without_digits(word: str) -> str:
    return re.sub("[0-9]+", "0", word)


def _is_one_typo(wrong: str, right: str) -> bool:
    """Tell whether one letter too many, too few or another one, or two swapped, is all there is."""
    if abs(len(wrong) - len(right)) > 1:
        return False
    start = next((i for i, (a, b) in enumerate(zip(wrong, right, strict=False)) if a != b), -1)
    rest, other = (wrong[start:], right[start:]) if start >= 0 else (wrong, right)
    if start < 0:
        return True  # one is the other and a letter more
    swapped = rest[1::-1] == other[:2] and rest[2:] == other[2:]
    return swapped or rest[1:] == other[1:] or rest[1:] == other or rest == other[1:]


def check_exclusions(section: SectionValues) -> None:
    """Fault the paths of a connection's settings that other settings leave nothing to remove."""
    paths = section.get(EXCLUSION_KEY)
    if not paths:
        return
    given = set(paths)
    for path, node in zip(paths, section.nodes[EXCLUSION_KEY].elements("paths"), strict=True):
        off = _left_out_by(path, section)
        above = next((part for part in _parents(path) if part in given), None)
        if off:
            what = f"can never match: settings.{off} is off, which leaves {path} out"
            node.fault(f"{what}; delete it, or turn that on")
        elif above:
            node.fault(f"can never match: {above} is removed whole; delete one of the two")


def _left_out_by(path: str, section: SectionValues) -> str | None:
    """Return the setting that leaves a path out; None where it is sent."""
    needed = [name for part in (path, *_parents(path)) for name in DROPPED.get(part, ())]
    if path.startswith("application_info.") and path != "application_info.package":
        needed.append("include_metadata")
    return next((name for name in needed if section.get(name) is False), None)


def _parents(path: str) -> list[str]:
    """Return the paths above a path, nearest first."""
    segments = path.split(".")
    return [".".join(segments[:count]) for count in range(len(segments) - 1, 0, -1)]

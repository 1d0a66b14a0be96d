"""Say what must come out, from the documents alone: shares no code with the stages.

Numbers are kept as the text they came in, objects as ordered pairs would be: a plain dict keeps
their order. Everything is done one event at a time and as simply as can be.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from forwarder.config.connection import Connection, Settings
from forwarder.config.targets import FirehoseTarget, KinesisTarget, Target
from tests.builders import Rec


@dataclass(frozen=True)
class Number:
    """A JSON number, as exact as its text."""

    text: str


Position = tuple[int, int]

SWITCHES: dict[str, str] = {
    "send_lifecycle_events": "session_start session_end application_state_transition first_run",
    "send_screen_views": "screen_view",
    "send_crash_events": "crash_report breadcrumb",
    "send_network_performance_events": "network_performance",
    "send_custom_events": "custom_event",
    "send_push_registrations_and_receipts": "push_registration push_message push_reaction",
    "send_profile_change_events": "profile",
    "send_commerce_events": "commerce_event",
    "include_user_attribute_change_events": "user_attribute_change",
    "include_user_identity_change_events": "user_identity_change",
    "send_validation_results": "validation_result",
    "": "opt_out uninstall pre_attribution",
}
SWITCH_OF = {kind: switch for switch, kinds in SWITCHES.items() for kind in kinds.split()}
_ONLY_UPLOADS = (
    "mpid mp_deviceid user_identities user_attributes deleted_user_attributes device_info "
    "application_info consent_state source_request_id"
)
ONLY_UPLOADS = set(_ONLY_UPLOADS.split())
_NONE = (
    "unknown null undefined none nil n/a na nan anonymous anon guest true false -1 android deface "
    "9774d56d682e549c 02:00:00:00:00:00 (null) <null> (nil) <nil> optional(nil) [] {}"
)
NONE_WORDS = {*_NONE.split(), "not set", "(not set)", "not available", "[object object]"}
OURS = (
    "message_id",
    "message_type",
    "schema_version",
    "batch_id",
    "timestamp_unixtime_ms",
    "unique_id",
)
ID_NAMES = (
    "android_uuid android_advertising_id ios_idfv ios_advertising_id roku_advertising_id "
    "fire_advertising_id amp_id microsoft_advertising_id roku_publisher_id "
    "microsoft_publisher_id"
)
DEVICE_IDS = ID_NAMES.split()


class Twice(dict[str, Any]):
    """An object that has a key twice; the last value counts. It equals none that has it once."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Twice) and dict.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other  # a dictionary's own looks at what it holds alone

    __hash__ = None


def exact(text: bytes | str) -> Any:  # noqa: ANN401  # any JSON value
    """Return a JSON value with its numbers as text; raises ValueError."""
    return json.loads(
        text,
        parse_int=Number,
        parse_float=Number,
        parse_constant=_no_constant,
        object_pairs_hook=_object,
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else Twice(found)


def _no_constant(name: str) -> None:
    raise ValueError(name)


@dataclass
class Seen:
    """One upload: where it stands and what it says."""

    offset: int
    first: int
    time: int
    clock: int
    content: dict[str, Any]
    events: list[Any]

    @property
    def slots(self) -> int:
        """Return how many positions it takes."""
        return max(len(self.events), 1)


def uploads_of(value: bytes) -> list[dict[str, Any]] | None:
    """Return the uploads of a record, None if it belongs to the dead letters."""
    try:
        content = exact(value.decode())
    except (ValueError, RecursionError):
        return None
    many = content if isinstance(content, list) else [content]
    return many if many and all(_is_upload(one) for one in many) else None


def _is_upload(one: object) -> bool:
    if not isinstance(one, dict) or isinstance(one, Twice):
        return False
    if "event_type" in one and "data" in one:
        return False
    events = one.get("events")
    if events is not None:
        return isinstance(events, list) and all(isinstance(e, dict) for e in events)
    wrapped = any(isinstance(one.get(name), dict) for name in ("batch", "payload", "message"))
    return bool(ONLY_UPLOADS & set(one)) and not wrapped


def read(records: Iterable[Rec], now: int) -> tuple[list[Seen], list[int]]:
    """Return all uploads in order, and the offsets of the rejected records."""
    seen: list[Seen] = []
    rejected: list[int] = []
    clock = 0
    for record in records:
        clock = max(clock, min(record.timestamp, now))
        if record.value is None:
            continue
        many = uploads_of(record.value)
        if many is None:
            rejected.append(record.offset)
            continue
        first = 0
        for content in many:
            events = content.get("events") or []
            seen.append(Seen(record.offset, first, record.timestamp, clock, content, events))
            first += seen[-1].slots
    return seen, rejected


def matches(content: dict[str, Any], connection: Connection) -> bool:
    """Tell whether the connection wants the upload."""
    match = connection.match
    keys = [content.get("api_key"), *(content.get("api_keys") or [])]
    told = (
        (match.environment, [content.get("environment") or "production"]),
        (match.application, [_dig(content, "application_info", "package")]),
        (match.platform, [str(_dig(content, "device_info", "platform") or "").lower()]),
        (match.api_key, keys),
    )
    return all(wanted is None or wanted & set(found) for wanted, found in told)


def wanted(event: dict[str, Any], settings: Settings) -> bool:
    """Tell whether the settings let the event pass."""
    kind = event.get("event_type")
    if not isinstance(kind, str) or kind not in SWITCH_OF:
        return settings.send_unknown_events
    return not SWITCH_OF[kind] or bool(getattr(settings, SWITCH_OF[kind]))


def device(seen: Seen) -> tuple[object, ...]:
    """Return whose upload it is as deliveries are ordered, as anything that can be compared."""
    content = seen.content
    ids = [content.get("mp_deviceid")]
    ids += [_dig(content, "device_info", name) for name in DEVICE_IDS]
    found = next((named(one) for one in ids if named(one)), "")
    mpid = named(content.get("mpid"))
    if not found and not mpid:
        return ("own", seen.offset, seen.first)
    environment = content.get("environment") or "production"
    return (environment, _text(_dig(content, "application_info", "package")), found, mpid)


def owner(seen: Seen) -> tuple[object, ...]:
    """Return who may share a document: a device's user, by its mpid, else by its identities."""
    whose = device(seen)
    return whose if whose[0] == "own" or whose[-1] else (*whose, *people(seen.content))


def people(content: dict[str, Any]) -> list[tuple[str, str]]:
    """Return who the user is said to be: object and array say the same."""
    said = content.get("user_identities") or {}
    if isinstance(said, list):
        said = {one["identity_type"]: one.get("identity") for one in said}
    found = {("customer_id" if k == "customerid" else k): named(v) for k, v in said.items()}
    return sorted((kind, one) for kind, one in found.items() if one)


def session(event: dict[str, Any]) -> str:
    """Return the name of the session an event belongs to, empty for none."""
    data = event.get("data")
    if not isinstance(data, dict):
        return ""
    return named(data.get("session_id")) or named(data.get("session_uuid")).lower()


def named(value: object) -> str:
    """Return an id as text, empty if it means none."""
    text = value.text if isinstance(value, Number) else value
    if not isinstance(text, str):
        return ""
    bare = text.strip().lower()
    zero = not bare.strip("0-+:.,_{}()* \t\n\0")
    if isinstance(value, Number) and not zero:
        zero = float(bare) == 0
    return "" if zero or bare in NONE_WORDS else text


def _text(value: object) -> str:
    if isinstance(value, Number):
        return value.text
    return "" if value is None else str(value)


def _dig(content: dict[str, Any], *path: str) -> Any:  # noqa: ANN401  # any JSON value
    found: Any = content
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def governed(event: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Return the event as the settings have it forwarded."""
    data = event.get("data")
    if not isinstance(data, dict):
        return event
    data = dict(data)
    if not settings.include_location_information:
        data.pop("location", None)
        if isinstance(data.get("breadcrumbs"), list):
            data["breadcrumbs"] = [_crumb(crumb) for crumb in data["breadcrumbs"]]
    return {**event, "data": _strings(data) if settings.int64_as_string else data}


def _crumb(crumb: object) -> object:
    if not isinstance(crumb, dict):
        return crumb
    left = {key: value for key, value in crumb.items() if key != "location"}
    if isinstance(left.get("data"), dict):
        left["data"] = {k: v for k, v in left["data"].items() if k != "location"}
    return left


def _strings(fields: dict[str, Any]) -> dict[str, Any]:
    quoted = {}
    for key, value in fields.items():
        whole = isinstance(value, Number) and not set(value.text) & set(".eE")
        named = key in {"event_id", "session_id", "mpid", "batch_id"}
        quoted[key] = value.text if whole and named else value
    return quoted


def events(records: Iterable[Rec], connection: Connection, now: int) -> dict[Position, Any]:
    """Return every event the connection must forward, by position."""
    return {
        (seen.offset, seen.first + i): governed(one, connection.settings)
        for seen in read(records, now)[0]
        if matches(seen.content, connection)
        for i, one in enumerate(seen.events)
        if wanted(one, connection.settings)
    }


@dataclass
class Pile:
    """An open window of the oracle."""

    deadline: int
    device: tuple[object, ...] = ()
    context: dict[str, Any] = field(default_factory=dict)
    identities_ms: int = 0
    newest_ms: int = 0
    events: list[Any] = field(default_factory=list)
    positions: list[Position] = field(default_factory=list)

    def learn(self, seen: Seen) -> None:
        """Merge a newer upload's context."""
        new = {k: v for k, v in seen.content.items() if v is not None and k != "events"}
        old = self.context
        merged = {**new, **{k: v for k, v in old.items() if k not in new}}
        if "system_notifications" in old and "system_notifications" in new:
            merged["system_notifications"] = (
                old["system_notifications"] + new["system_notifications"]
            )
        if "deleted_user_attributes" in old:
            set_again = new.get("user_attributes", {})
            gone = [n for n in old["deleted_user_attributes"] if n not in set_again]
            gone += new.get("deleted_user_attributes", [])
            merged["deleted_user_attributes"] = list(dict.fromkeys(gone))
        if "user_identities" in new:
            self.identities_ms = seen.time
        self.newest_ms = seen.time
        self.context = merged


@dataclass
class Expected:
    """A document but for its ids, and where its events came from."""

    content: dict[str, Any]
    positions: list[Position]


def documents(records: Sequence[Rec], connection: Connection, now: int) -> list[Expected]:
    """Return the documents of a connection that sends batches or single events."""
    settings, done = connection.settings, list[Pile]()
    piles: dict[object, Pile] = {}
    for seen in read(records, now)[0]:
        if not matches(seen.content, connection):
            continue
        key = owner(seen)
        if key in piles and piles[key].deadline <= seen.clock:
            done.append(piles.pop(key))
        chosen = [
            (i, governed(one, settings))
            for i, one in enumerate(seen.events)
            if wanted(one, settings)
        ]
        if not chosen and not settings.send_batches_without_events:
            if key in piles:
                piles[key].learn(seen)
            continue
        for i, one in chosen or [(0, {})]:
            deadline = seen.clock + connection.batching.max_age_ms
            pile = piles.setdefault(key, Pile(deadline, device(seen)))
            if not pile.positions or pile.positions[-1] < (seen.offset, seen.first):
                pile.learn(seen)
            pile.positions.append((seen.offset, seen.first + i))
            pile.events += [one] if chosen else []
            if not settings.send_as_batch or len(pile.events) == connection.batching.max_events:
                done += _closed(piles, key)
    done += piles.values()
    return [Expected(content(pile, settings), pile.positions) for pile in done]


def _closed(piles: dict[object, Pile], key: object) -> list[Pile]:
    """Take out a pile, and what other users of its device began before."""
    pile = piles[key]
    first = pile.positions[0]
    gone = [k for k, p in piles.items() if p.device == pile.device and p.positions[0] <= first]
    return [piles.pop(k) for k in gone]


def content(pile: Pile, settings: Settings) -> dict[str, Any]:
    """Return what a document says, ids apart."""
    ours: dict[str, Any] = {
        "events": pile.events,
        "message_type": "events",
        "schema_version": Number("2"),
        "timestamp_unixtime_ms": Number(str(pile.newest_ms)),
    }
    if settings.unique_id is not None:
        ours["unique_id"] = settings.unique_id
    context = {k: v for k, v in pile.context.items() if k not in {*OURS, "api_key", "api_keys"}}
    _leave_out(context, settings)
    if isinstance(context.get("user_identities"), dict):
        context["user_identities"] = [
            {
                "identity_type": "customer_id" if kind == "customerid" else kind,
                "identity": _text(identity),
                "timestamp_unixtime_ms": Number(str(pile.identities_ms)),
            }
            for kind, identity in context["user_identities"].items()
            if identity is not None
        ]
    if settings.include_system_notifications:
        context.setdefault("system_notifications", [])
    for path in settings.metadata_field_exclusion:
        if path.startswith("user_identities."):
            _remove_identity(context, path.removeprefix("user_identities."))
        else:
            _remove(context, path.split("."))
    return {**ours, **(_strings(context) if settings.int64_as_string else context)}


def record_bytes(document: dict[str, Any], connection: Connection) -> int:
    """Return how much of a record's limit a document takes, its ids and partition key included."""
    number = Number("9" * 19).text if connection.settings.int64_as_string else Number("9" * 19)
    whole = {**document, "message_id": "0" * 36, "batch_id": number}
    return len(compact(whole).encode()) + _key_bytes(document, connection.sink)


def _key_bytes(document: dict[str, Any], sink: Target) -> int:
    if not isinstance(sink, KinesisTarget):
        return 1 if isinstance(sink, FirehoseTarget) else 0
    mpid = _text(document.get("mpid"))
    by_mpid = sink.partition_key.value == "mpid" and 0 < len(mpid) <= 256
    return len(mpid.encode()) if by_mpid else {"batch": 36}.get(sink.partition_key.value, 32)


def compact(value: Any) -> str:  # noqa: ANN401  # any JSON value
    """Return JSON without a space."""
    if isinstance(value, Number):
        return value.text
    if isinstance(value, dict):
        return f"{{{','.join(f'{compact(k)}:{compact(v)}' for k, v in value.items())}}}"
    if isinstance(value, list):
        return f"[{','.join(map(compact, value))}]"
    return json.dumps(value, ensure_ascii=False)


def fits_alone(seen: Seen, event: dict[str, Any] | None, connection: Connection) -> bool:
    """Tell whether an event fits into a record with the context of its own upload."""
    pile = Pile(0, events=[] if event is None else [governed(event, connection.settings)])
    pile.learn(seen)
    document = content(pile, connection.settings)
    return record_bytes(document, connection) <= getattr(connection.sink, "max_record_bytes", 10**7)


def _leave_out(context: dict[str, Any], settings: Settings) -> None:
    keep = {
        "mp_deviceid": settings.include_mp_deviceid,
        "device_info": settings.include_metadata,
        "source_info": settings.include_metadata,
        "user_identities": settings.include_user_identities,
        "consent_state": settings.include_consent_state,
        "system_notifications": settings.include_system_notifications,
    }
    for name in [name for name, kept in keep.items() if not kept]:
        context.pop(name, None)
    if not settings.include_metadata and "application_info" in context:
        package = _dig(context, "application_info", "package")
        if package is None:
            del context["application_info"]
        else:
            context["application_info"] = {"package": package}
    located = settings.include_event_batch_location and settings.include_location_information
    if isinstance(context.get("context"), dict) and not located:
        context["context"] = {k: v for k, v in context["context"].items() if k != "location"}


def _remove(fields: dict[str, Any], path: list[str]) -> None:
    name, *rest = path
    if rest and isinstance(fields.get(name), dict):
        fields[name] = dict(fields[name])
        _remove(fields[name], rest)
    elif not rest:
        fields.pop(name, None)


def _remove_identity(fields: dict[str, Any], kind: str) -> None:
    def same(one: object) -> bool:
        named = one.get("identity_type") if isinstance(one, dict) else None
        return _text(named).lower().replace("customerid", "customer_id") == kind

    if isinstance(fields.get("user_identities"), list):
        fields["user_identities"] = [one for one in fields["user_identities"] if not same(one)]

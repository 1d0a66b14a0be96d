"""Keep of every upload the events that the settings of a connection want, changed as they ask.

Nothing is parsed that need not change. Values are never parsed and written again (they would lose
digits); objects on the way to a member are taken apart level by level. Changing twice changes
nothing more.
"""

from collections.abc import Callable, Iterable, Sequence

from msgspec import Raw

from forwarder.config.connection import Settings
from forwarder.formats import rawjson
from forwarder.formats.contract import DUPLICATE, DUPLICATES, Kept, Upload
from forwarder.formats.ids import digest
from forwarder.formats.pieces import runs
from forwarder.model import Piece

JUDGEMENT = 1
"""Goes up when a filter makes something else of an event under the same settings: windows saved
before are judged anew then."""

UNKNOWN_EVENTS = "send_unknown_events"

SETTING_BY_EVENT_TYPE: dict[str, str | None] = {
    "session_start": "send_lifecycle_events",
    "session_end": "send_lifecycle_events",
    "application_state_transition": "send_lifecycle_events",
    "first_run": "send_lifecycle_events",
    "screen_view": "send_screen_views",
    "crash_report": "send_crash_events",
    "breadcrumb": "send_crash_events",
    "network_performance": "send_network_performance_events",
    "custom_event": "send_custom_events",
    "push_registration": "send_push_registrations_and_receipts",
    "push_message": "send_push_registrations_and_receipts",
    "push_reaction": "send_push_registrations_and_receipts",
    "profile": "send_profile_change_events",
    "commerce_event": "send_commerce_events",
    "user_attribute_change": "include_user_attribute_change_events",
    "user_identity_change": "include_user_identity_change_events",
    "validation_result": "send_validation_results",
    "opt_out": None,
    "uninstall": None,
    "pre_attribution": None,
}
"""Event type -> the setting that lets it pass; None: always sent."""

INTEGER_IDS = ("event_id", "session_id", "mpid", "batch_id")
_LOCATION = "location"
_Object = dict[str, Raw]

# Plain flags: operators of enum.IntFlag cost microseconds, and this is asked per upload.
STRIP_LOCATION = 1
QUOTE_INTEGERS = 2


def rule_of(settings: Settings) -> str:
    """Name by which rule events are kept and changed: stored with what was kept by it."""
    passes = sorted(
        (kind, s is None or getattr(settings, s)) for kind, s in SETTING_BY_EVENT_TYPE.items()
    )
    rest = settings.send_unknown_events, settings.send_batches_without_events
    told = (JUDGEMENT, passes, rest, _transform_of(settings))
    return digest(repr(told).encode()).hex()


def _transform_of(settings: Settings) -> int:
    """Return what these settings change in every event, as flags."""
    strip = 0 if settings.include_location_information else STRIP_LOCATION
    return strip | (QUOTE_INTEGERS if settings.int64_as_string else 0)


def _reasons(settings: Settings) -> tuple[str, ...]:
    """Return the settings by which a connection leaves events out, as they are counted."""
    names = [
        name for name in (*dict.fromkeys(SETTING_BY_EVENT_TYPE.values()), UNKNOWN_EVENTS) if name
    ]
    return tuple(name for name in names if not getattr(settings, name))


class MParticleEventFilter:
    """The keep table of one connection, and what its settings change: ``contract.EventFilter``.

    ``strips_location``: whether it has to know which events may carry a location.
    """

    def __init__(self, connection: str, settings: Settings) -> None:
        """Compile the settings; ``connection`` is the name under which events are counted."""
        self._lane = connection
        self._transform = _transform_of(settings)
        self.strips_location = bool(self._transform & STRIP_LOCATION)
        self.empty_too = settings.send_batches_without_events
        self.rule = rule_of(settings)
        self.reasons = _reasons(settings)
        self._dropped = {
            kind: name
            for kind, name in SETTING_BY_EVENT_TYPE.items()
            if name and not getattr(settings, name)
        }
        self._drop = frozenset(self._dropped) | {DUPLICATE}
        self._keep = frozenset(SETTING_BY_EVENT_TYPE) - self._drop
        self._unknown_pass = settings.send_unknown_events
        self._all_pass: Callable[[Iterable[str]], bool] = (
            self._drop.isdisjoint if self._unknown_pass else self._keep.issuperset
        )

    def sift(
        self, uploads: Sequence[Upload], filtered: dict[tuple[str, str], int]
    ) -> tuple[list[Kept], list[Upload]]:
        """Return what is kept of each upload, and the uploads that could not be changed.

        Adds to ``filtered``, by (lane, setting), the events that are left out.
        """
        kept: list[Kept] = []
        failed: list[Upload] = []
        for upload in uploads:
            try:
                kept.append((upload, self._sift(upload, filtered)))
            except (ValueError, RecursionError):  # never forward what could not be stripped
                failed.append(upload)
        return kept, failed

    def keeps_all(self, upload: Upload) -> bool:
        """Tell whether all events pass and none is changed; False where that is not sure."""
        return self._all_pass(upload.types) and not needed_changes(upload, self._transform)

    def passes(self, types: set[str], *, governed: bool) -> bool:
        """Tell whether all events of these types pass, and none is changed."""
        transform = self._transform if governed else self._transform & ~STRIP_LOCATION
        return not transform and self._all_pass(types)

    def _sift(self, upload: Upload, filtered: dict[tuple[str, str], int]) -> list[Piece]:
        types = upload.types
        if types and self._all_pass(types):
            joined = changed_body(upload, self._transform)
            if joined is upload.body and upload.piece is not None:
                return [upload.piece]
            return [(upload.offset, upload.start, len(types), upload.time, joined)]
        pieces = self._pick(upload, filtered) if types else []
        if not pieces and self.empty_too:
            return [(upload.offset, upload.start, 0, upload.time, b"")]
        return pieces

    def _pick(self, upload: Upload, filtered: dict[tuple[str, str], int]) -> list[Piece]:
        """Return the events that pass, as runs without gaps."""
        wanted: list[int] = []
        refused: list[str] = []
        for i, kind in enumerate(upload.types):
            setting = self._refusal(kind)
            if setting is None:
                wanted.append(i)
            else:
                refused.append(setting)
        # Before anything is counted: what cannot be changed becomes a letter with all its events.
        events = changed_events(upload, self._transform) if wanted else []
        for setting in refused:
            key = (self._lane, setting)
            filtered[key] = filtered.get(key, 0) + 1
        if not wanted:
            return []
        return [
            (upload.offset, upload.start + a, b - a, upload.time, b",".join(events[a:b]))
            for a, b in runs(wanted)
        ]

    def _refusal(self, kind: str) -> str | None:
        """Return the setting that keeps a type out, None if it passes."""
        if kind in SETTING_BY_EVENT_TYPE:
            return self._dropped.get(kind)
        if kind is DUPLICATE:
            return DUPLICATES
        return None if self._unknown_pass else UNKNOWN_EVENTS


def changed_body(upload: Upload, transform: int) -> bytes:
    """Return all events of the upload joined by commas, changed."""
    transform = needed_changes(upload, transform)
    if not transform:
        return upload.body
    if upload.bodies is None:
        upload.bodies = {}
    found = upload.bodies.get(transform)
    if found is None:
        found = upload.bodies[transform] = b",".join(changed_events(upload, transform))
    return found


def changed_events(upload: Upload, transform: int) -> list[bytes]:
    """Return the events of the upload one by one, changed."""
    transform = needed_changes(upload, transform)
    if upload.forms is None:
        upload.forms = {}
    found = upload.forms.get(transform)
    if found is None:
        found = upload.forms[transform] = _change(upload, transform)
    return found


def quote_integers(fields: _Object) -> None:
    """Quote the ids among these members that are integers."""
    for name in INTEGER_IDS:
        if name in fields and rawjson.is_integer(value := bytes(fields[name])):
            fields[name] = Raw(b'"%b"' % value)


def needed_changes(upload: Upload, transform: int) -> int:
    """Return what of the transform may have to be done with this upload."""
    return transform if upload.governed else transform & ~STRIP_LOCATION


def _change(upload: Upload, transform: int) -> list[bytes]:
    events: list[bytes] = [upload.body]
    if len(upload.types) > 1:
        events = [bytes(event) for event in rawjson.split_values(upload.body)]
    if transform & STRIP_LOCATION:
        for i in upload.governed:
            events[i] = _inside(events[i], _strip)
    if transform & QUOTE_INTEGERS:
        events = [_inside(event, quote_integers) for event in events]
    return events


def _inside(event: bytes, change: Callable[[_Object], None]) -> bytes:
    """Return the event with its ``data`` changed, if that is an object, and every key once."""
    fields = rawjson.fields(event)
    raw = fields.get("data")
    if raw is not None and _is_object(raw):
        content = rawjson.fields(raw)
        change(content)
        fields["data"] = Raw(rawjson.encode_object(content))
    return rawjson.encode_exact(fields)


def _strip(content: _Object) -> None:
    """Drop the event's own location and those of its breadcrumbs, in both their spellings."""
    content.pop(_LOCATION, None)
    crumbs = content.get("breadcrumbs")
    if crumbs is None:
        return
    if bytes(crumbs)[:1] == b"[":
        stripped = [_strip_crumb(crumb) for crumb in rawjson.elements(crumbs)]
        content["breadcrumbs"] = Raw(rawjson.encode_array(stripped))
    else:
        content["breadcrumbs"] = _strip_crumb(crumbs)  # one, where a list should be


def _strip_crumb(crumb: Raw) -> Raw:
    if not _is_object(crumb):
        return crumb
    fields = rawjson.fields(crumb)
    fields.pop(_LOCATION, None)
    raw = fields.get("data")
    if raw is not None and _is_object(raw):
        content = rawjson.fields(raw)
        content.pop(_LOCATION, None)
        fields["data"] = Raw(rawjson.encode_object(content))
    return Raw(rawjson.encode_object(fields))


def _is_object(raw: Raw) -> bool:
    return bytes(raw)[:1] == b"{"

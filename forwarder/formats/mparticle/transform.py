"""Change the events of an upload as settings ask: nothing is parsed that need not change.

Values are never parsed and written again (they would lose digits); objects on the way to a
member are taken apart level by level. Doing it twice changes nothing more.
"""

from collections.abc import Callable

from msgspec import Raw

from forwarder.formats import rawjson
from forwarder.formats.contract import Upload

INTEGER_IDS = ("event_id", "session_id", "mpid", "batch_id")
_LOCATION = "location"
_Object = dict[str, Raw]


# Plain flags: operators of enum.IntFlag cost microseconds, and this is asked per upload.
STRIP_LOCATION = 1
QUOTE_INTEGERS = 2


def body(upload: Upload, transform: int) -> bytes:
    """Return all events of the upload joined by commas, changed."""
    transform = needed(upload, transform)
    if not transform:
        return upload.body
    if upload.bodies is None:
        upload.bodies = {}
    found = upload.bodies.get(transform)
    if found is None:
        found = upload.bodies[transform] = b",".join(parts(upload, transform))
    return found


def parts(upload: Upload, transform: int) -> list[bytes]:
    """Return the events of the upload one by one, changed."""
    transform = needed(upload, transform)
    if upload.forms is None:
        upload.forms = {}
    found = upload.forms.get(transform)
    if found is None:
        found = upload.forms[transform] = _change(upload, transform)
    return found


def quote(fields: _Object) -> None:
    """Quote the ids among these members that are integers."""
    for name in INTEGER_IDS:
        if name in fields and rawjson.is_integer(value := bytes(fields[name])):
            fields[name] = Raw(b'"%b"' % value)


def needed(upload: Upload, transform: int) -> int:
    """Return what of the transform may have to be done with this upload."""
    return transform if upload.governed else transform & ~STRIP_LOCATION


def _change(upload: Upload, transform: int) -> list[bytes]:
    events: list[bytes] = [upload.body]
    if len(upload.types) > 1:
        events = [bytes(event) for event in rawjson.split(upload.body)]
    if transform & STRIP_LOCATION:
        for i in upload.governed:
            events[i] = _inside(events[i], _strip)
    if transform & QUOTE_INTEGERS:
        events = [_inside(event, quote) for event in events]
    return events


def _inside(event: bytes, change: Callable[[_Object], None]) -> bytes:
    """Return the event with its ``data`` changed, if that is an object, and every key once."""
    fields = rawjson.fields(event)
    raw = fields.get("data")
    if raw is not None and _is_object(raw):
        content = rawjson.fields(raw)
        change(content)
        fields["data"] = Raw(rawjson.encode(content))
    return rawjson.stored(fields)


def _strip(content: _Object) -> None:
    """Drop the event's own location and those of its breadcrumbs, in both their spellings."""
    content.pop(_LOCATION, None)
    crumbs = content.get("breadcrumbs")
    if crumbs is None:
        return
    if bytes(crumbs)[:1] == b"[":
        stripped = [_strip_crumb(crumb) for crumb in rawjson.elements(crumbs)]
        content["breadcrumbs"] = Raw(rawjson.array(stripped))
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
        fields["data"] = Raw(rawjson.encode(content))
    return Raw(rawjson.encode(fields))


def _is_object(raw: Raw) -> bool:
    return bytes(raw)[:1] == b"{"

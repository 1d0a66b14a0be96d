"""Merge the context of a newer upload into that of a window, byte for byte."""

import msgspec
from msgspec import Raw

from forwarder.collect.windows.window import Window
from forwarder.formats import rawjson
from forwarder.formats.contract import Names, Upload

_DELETED = "deleted_user_attributes"
_NOTIFICATIONS = "system_notifications"
_MERGED = frozenset({_DELETED, _NOTIFICATIONS})
_SHARED = 4
"""How many times an upload's context a merge may be, before and after, that is kept for the other
lanes until their poll ends: a few bytes may join a context of megabytes, with every upload."""

_SMALL = 64 * 1024
"""Bytes of a merge that is kept all the same: of a poll's thousand uploads 64 MiB at the worst."""

_MOST_NAMES = 64
_MOST_CHARACTERS = 1024
"""Keys, and characters in them, that are described one by one. The format has 31 keys."""

_MANY = {told: Names(frozenset(), plain=False, identities=told) for told in (False, True)}
"""Stand for any other keys: such contexts are merged key by key."""

_TEXTS = msgspec.json.Decoder(list[str]).decode
_KEYS = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode


def names_of(fields: dict[str, Raw]) -> Names:
    """Describe the keys of a context; of many, or long ones, alike: each window would keep them."""
    identities = "user_identities" in fields
    if len(fields) > _MOST_NAMES or sum(map(len, fields)) > _MOST_CHARACTERS:
        return _MANY[identities]
    keys = frozenset(fields)
    return Names(keys, keys.isdisjoint(_MERGED), identities)


def absorb(window: Window, upload: Upload) -> int:
    """Bring the window's context up to the upload's; the newest wins, a null never erases.

    Returns by how many bytes it is longer now.
    """
    names, before = upload.names, len(window.context)
    if window.names is names and names.plain:
        window.context = upload.context
    else:
        window.context, window.names = _merged(window, upload)
    if names.identities:
        window.identities_ms = upload.time
    window.newest_ms = upload.time
    return len(window.context) - before


def merged(window: Window, upload: Upload) -> bytes:
    """Return what ``absorb`` would make of the window's context."""
    return _merged(window, upload)[0]


def release(upload: Upload) -> None:
    """Let go of the merge that was made last, unless it is of the order of the upload itself.

    Caller: the windows, once they have taken an upload; those of a poll live until it ends.
    """
    known = upload.merged
    if known is not None:
        old, (new, _) = known
        if len(old) + len(new) > max(_SHARED * len(upload.context), _SMALL):
            upload.merged = None


def has_had(window: Window, upload: Upload) -> bool:
    """Tell whether an upload has joined a window before: other events of it, of the same session.

    Its context is in the window's by then, and must not be appended to it once more.
    """
    return window.touched >= (upload.offset, upload.start)


def _merged(window: Window, upload: Upload) -> tuple[bytes, Names]:
    names = upload.names
    if names.plain and window.names.plain and window.names.keys <= names.keys:
        return upload.context, names
    if has_had(window, upload):
        return window.context, window.names
    if (known := upload.merged) is not None and known[0] is window.context:
        return known[1]  # it was judged before it is taken
    both = merge(rawjson.fields(window.context), rawjson.fields(upload.context))
    found = rawjson.stored(both), names_of(both)
    upload.merged = window.context, found
    return found


def merge(old: dict[str, Raw], new: dict[str, Raw]) -> dict[str, Raw]:
    """Return the merged context: keys as ``new`` has them, then those only ``old`` has."""
    merged = new | {key: value for key, value in old.items() if key not in new}
    if _NOTIFICATIONS in old and _NOTIFICATIONS in new:
        merged[_NOTIFICATIONS] = _append(old[_NOTIFICATIONS], new[_NOTIFICATIONS])
    if _DELETED in old:
        merged[_DELETED] = _union(old[_DELETED], new.get(_DELETED), new.get("user_attributes"))
    return merged


def _append(old: Raw, new: Raw) -> Raw:
    """Return both arrays as one; the newer value alone where either is none."""
    try:
        return Raw(rawjson.array(rawjson.elements(old) + rawjson.elements(new)))
    except rawjson.ShapeError:
        return new


def _union(old: Raw, new: Raw | None, attributes: Raw | None) -> Raw:
    """Return old deletions that were not set again, then the new ones, each name once."""
    plain = _plain_union(bytes(old), bytes(new or b"[]"), bytes(attributes or b""))
    if plain is not None:
        return plain
    try:
        again = _set(attributes)
        names = [n for n in rawjson.elements(old) if rawjson.token(bytes(n)) not in again]
        both = names + (rawjson.elements(new) if new is not None else [])
    except rawjson.ShapeError:
        return old if new is None else new
    return Raw(rawjson.array(list({rawjson.token(bytes(name)): name for name in both}.values())))


def _plain_union(old: bytes, new: bytes, attributes: bytes) -> Raw | None:
    """Return the union where all names are texts without an escape; None: look at each."""
    if b"\\" in old or b"\\" in new or b"\\" in attributes:
        return None
    try:
        again = _KEYS(attributes) if attributes[:1] == b"{" else {}
        names = dict.fromkeys(name for name in _TEXTS(old) if name not in again)
        return Raw(_encode([*(names | dict.fromkeys(_TEXTS(new)))]))
    except msgspec.DecodeError:
        return None


def _set(attributes: Raw | None) -> frozenset[bytes]:
    if attributes is None:
        return frozenset()
    try:
        return frozenset(rawjson.quoted(key) for key in rawjson.fields(attributes))
    except rawjson.ShapeError:
        return frozenset()

"""Merge the context of a newer upload into that of a window, byte for byte."""

import msgspec
from msgspec import Raw

from forwarder.formats import rawjson
from forwarder.formats.contract import ContextShape

_DELETED = "deleted_user_attributes"
_NOTIFICATIONS = "system_notifications"
_MERGED = frozenset({_DELETED, _NOTIFICATIONS})

_MOST_NAMES = 64
_MOST_CHARACTERS = 1024
"""Keys, and characters in them, that are described one by one. The format has 31 keys."""

_MANY = {told: ContextShape(frozenset(), plain=False, dated=told) for told in (False, True)}
"""Stand for any other keys: such contexts are merged key by key."""

_TEXTS = msgspec.json.Decoder(list[str]).decode
_KEYS = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode


def shape_of(fields: dict[str, Raw]) -> ContextShape:
    """Describe the keys of a context; of many, or long ones, alike: each window would keep them."""
    identities = "user_identities" in fields
    if len(fields) > _MOST_NAMES or sum(map(len, fields)) > _MOST_CHARACTERS:
        return _MANY[identities]
    keys = frozenset(fields)
    return ContextShape(keys, keys.isdisjoint(_MERGED), identities)


def shape(context: bytes) -> ContextShape:
    """Describe a context."""
    return shape_of(rawjson.fields(context))


def merge(old: bytes, new: bytes) -> tuple[bytes, ContextShape]:
    """Return the merged context; the newest wins, a null never erases."""
    both = merge_fields(rawjson.fields(old), rawjson.fields(new))
    return rawjson.encode_exact(both), shape_of(both)


def merge_fields(old: dict[str, Raw], new: dict[str, Raw]) -> dict[str, Raw]:
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
        return Raw(rawjson.encode_array(rawjson.elements(old) + rawjson.elements(new)))
    except rawjson.ShapeError:
        return new


def _union(old: Raw, new: Raw | None, attributes: Raw | None) -> Raw:
    """Return old deletions that were not set again, then the new ones, each name once."""
    plain = _plain_union(bytes(old), bytes(new or b"[]"), bytes(attributes or b""))
    if plain is not None:
        return plain
    try:
        again = _set(attributes)
        names = [n for n in rawjson.elements(old) if rawjson.name_token(bytes(n)) not in again]
        both = names + (rawjson.elements(new) if new is not None else [])
    except rawjson.ShapeError:
        return old if new is None else new
    return Raw(
        rawjson.encode_array(
            list({rawjson.name_token(bytes(name)): name for name in both}.values())
        )
    )


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
        return frozenset(rawjson.quote(key) for key in rawjson.fields(attributes))
    except rawjson.ShapeError:
        return frozenset()

"""Contexts of Pinpoint's uploads: which keys they have, and how they are merged.

A context is the record without its events, ``ApplicationId``, ``EndpointId``, ``ArrivalTimestamp``
and ``Endpoint`` (an EndpointResponse), and ``Application``: the members ``AppPackageName``,
``AppTitle``, ``AppVersionCode``, ``SdkName`` and ``ClientSdkVersion`` of its first event.
"""

from msgspec import Raw

from forwarder.formats import rawjson
from forwarder.formats.contract import ContextShape

_MAX_KEYS = 64
_MAX_KEY_CHARACTERS = 1024
"""Keys, and characters in them, that are described one by one; a gateway writes five."""

_MANY = ContextShape(frozenset(), plain=False, dated=False)
"""Stands for any other keys: such contexts are merged key by key."""


def shape_of(fields: dict[str, Raw]) -> ContextShape:
    """Describe the keys of a context; of many, or long ones, alike: each window would keep them."""
    if len(fields) > _MAX_KEYS or sum(map(len, fields)) > _MAX_KEY_CHARACTERS:
        return _MANY
    return ContextShape(frozenset(fields), plain=True, dated=False)


def context_shape(context: bytes) -> ContextShape:
    """Describe a context."""
    return shape_of(rawjson.fields(context))


def merge_contexts(old: bytes, new: bytes) -> tuple[bytes, ContextShape]:
    """Return the merged context: an endpoint is whole in every record, so the newest wins."""
    before, both = rawjson.fields(old), rawjson.fields(new)
    both |= {key: value for key, value in before.items() if key not in both}
    return rawjson.encode_exact(both), shape_of(both)

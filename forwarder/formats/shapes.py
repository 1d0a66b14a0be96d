"""What a decoder says of contexts: one object for all that have the same keys."""

from collections.abc import Callable
from sys import getsizeof

from msgspec import Raw

from forwarder.formats import rawjson
from forwarder.formats.contract import ContextShape
from forwarder.formats.memo import Memo

_MEMO = 1024
_KEY_BYTES = 80
"""Bytes of a key's places, in a tuple and in a set of any fill."""


class Shapes:
    """Describes contexts; remembers what it said. Callers: a decoder, and its native scanner."""

    def __init__(self, shape_of: Callable[[dict[str, Raw]], ContextShape]) -> None:
        """Begin with an empty memory; ``shape_of`` is the format's."""
        self._shape_of = shape_of
        self._memo: Memo[tuple[str, ...], ContextShape] = Memo(_MEMO)

    def of(self, fields: dict[str, Raw]) -> ContextShape:
        """Return the shape of a context with these members."""
        keys = tuple(fields)
        shape = self._memo.get(keys)
        if shape is None:
            size = sum(map(getsizeof, keys)) + _KEY_BYTES * len(keys)
            shape = self._memo.keep(keys, self._shape_of(fields), size)
        return shape

    def of_stored(self, context: bytes) -> ContextShape:
        """Return the shape of a context that is encoded."""
        return self.of(rawjson.fields(context))

"""Nested JSON as attributes, which are texts, and metrics, which are numbers, by path.

Every scalar stays the bytes it came as. What would become too deep, too many or too long stays one
attribute, whose text is the JSON it came as, and so does a list whose first element is no object:
what is made of a value is never much longer.
"""

from msgspec import Raw

from forwarder.formats import rawjson
from forwarder.formats.mparticle.event_filter import INTEGER_IDS

MAX_DEPTH = 8
"""Levels of objects and arrays that become parts of a path."""

MAX_VALUES = 2_000
"""Values in objects and arrays that stand for themselves, of one event or context."""

MAX_PATH_CHARACTERS = 64 * 1024
"""Characters of the paths to them, as far as they are their parents'."""

IDS = frozenset({*INTEGER_IDS, "previous_mpid", "current_mpid", "origin_mpid", "source_message_id"})
"""Members that are ids whatever they are written as: attributes, so that every reader keeps every
digit of them, and one column holds them all."""

_CONTAINERS = frozenset({b"{", b"["})
_TRUTH = frozenset({b"true", b"false"})


class Flat:
    """Attributes and metrics by name; each name once. ``attributes`` are JSON strings.

    Caller: who makes a record of Pinpoint's. First comes what keeps its own name.
    """

    def __init__(self) -> None:
        """Begin without any."""
        self.attributes: dict[str, Raw] = {}
        self.metrics: dict[str, Raw] = {}
        self._values = MAX_VALUES
        self._path_characters = MAX_PATH_CHARACTERS

    def add_own(self, members: dict[str, Raw]) -> None:
        """Add values under names that their sender gave: scalars first, then what is in others."""
        nested: list[tuple[str, Raw]] = []
        for name, raw in members.items():
            value = bytes(raw)
            if value[:1] in _CONTAINERS:
                nested.append((name, raw))
            else:
                self._put(name, name, raw, value)
        for name, raw in nested:
            self._add(name, name, raw)

    def add_all(self, prefix: str, members: dict[str, Raw]) -> None:
        """Add values under their names behind a prefix, or what is in them by path."""
        for name, raw in members.items():
            self._add(prefix + name, name, raw)

    def _add(self, path: str, name: str, raw: Raw, depth: int = 0) -> None:
        value = bytes(raw)
        first = value[:1]
        if first in _CONTAINERS and depth < MAX_DEPTH:
            if first == b"{":
                members = rawjson.fields(raw)
                if members and self._may_descend(path, len(members)):
                    for inner, one in members.items():
                        self._add(f"{path}.{inner}", inner, one, depth + 1)
                    return
            elif value[1:].lstrip()[:1] == b"{":
                several = rawjson.elements(raw)
                if self._may_descend(path, len(several)):
                    for at, one in enumerate(several):
                        self._add(f"{path}.{at}", "", one, depth + 1)
                    return
        self._put(path, name, raw, value)

    def _may_descend(self, path: str, values: int) -> bool:
        """Tell whether what is in a value may stand for itself, and count it if so."""
        taken = values * (len(path) + 1)
        if values > self._values or taken > self._path_characters:
            return False
        self._values -= values
        self._path_characters -= taken
        return True

    def _put(self, path: str, name: str, raw: Raw, value: bytes) -> None:
        """Add one value as what it is; null is not there."""
        first = value[:1]
        if first == b'"':
            _set(self.attributes, path, raw)
        elif first.isdigit() or first == b"-":
            if name in IDS:
                _set(self.attributes, path, Raw(b'"%b"' % value))
            else:
                _set(self.metrics, path, raw)
        elif value in _TRUTH:
            _set(self.attributes, path, Raw(b'"%b"' % value))
        elif value != rawjson.NULL:
            _set(self.attributes, path, Raw(rawjson.quote(value.decode())))


def _set(values: dict[str, Raw], path: str, raw: Raw) -> None:
    """Set what has no value yet; a path that is a name already goes on below ``data``."""
    while path in values:
        path = f"data.{path}"
    values[path] = raw

"""Endpoints in memory, of a store that only this process changes."""

from collections.abc import Iterable

Key = tuple[str, str]
"""App id and endpoint id."""

OVERHEAD = 250
"""Bytes that an entry takes besides its document and its id."""


class EndpointCache:
    """The endpoints used last, up to a number of bytes; never one that is about to be another.

    Caller: the loop of a store that owns its file. It marks keys while a change of them is on its
    way, and tells what they became once that is durable.
    """

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes
        # Used last comes last.
        self._documents: dict[Key, bytes] = {}
        self._changing: dict[Key, int] = {}
        self._blocked = 0

    def get(self, key: Key) -> bytes | None:
        """Return what is stored of a key; None: it is not known, or about to change."""
        if self._blocked or key in self._changing:
            return None
        document = self._documents.pop(key, None)
        if document is not None:
            self._documents[key] = document
        return document

    def put(self, key: Key, document: bytes) -> None:
        """Keep what is stored of a key; b"": nothing is."""
        self.drop(key)
        if document:
            self._documents[key] = document
            self._left -= _size(key, document)
            while self._left < 0:
                self.drop(next(iter(self._documents)))

    def drop(self, key: Key) -> None:
        """Forget a key, if it is here."""
        document = self._documents.pop(key, None)
        if document is not None:
            self._left += _size(key, document)

    def clear(self) -> None:
        """Forget everything; what is marked stays so."""
        for key in list(self._documents):
            self.drop(key)

    def mark(self, keys: Iterable[Key], *, every: bool) -> None:
        """Answer nothing of these keys, or of ``every`` key, until they are unmarked as often."""
        self._blocked += every
        for key in keys:
            self._changing[key] = self._changing.get(key, 0) + 1

    def unmark(self, keys: Iterable[Key], *, every: bool) -> None:
        """Take marks away again."""
        self._blocked -= every
        for key in keys:
            self._changing[key] -= 1
            if not self._changing[key]:
                del self._changing[key]


def _size(key: Key, document: bytes) -> int:
    return len(document) + 4 * len(key[1]) + OVERHEAD

"""Remember answers by the input they depend on, in bounded memory."""

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")

MAX_ENTRY_BYTES = 16 * 1024
"""Bytes of an entry that is remembered; the keys of an upload, as a rule, take a quarter of it."""

MAX_MEMO_BYTES = 4 * 1024 * 1024
"""Bytes that all entries of one memo take; what devices send, as a rule, is a tenth of it."""

ENTRY_BYTES = 200
"""Bytes of an entry besides what its key and its answer say: objects, and a place in the table."""


class Memo(dict[K, V]):
    """Answers by input; empties itself when there are many. Callers: decoder and router.

    Uploads of any size may ask: what takes much is answered and not remembered, and all there is
    takes ``MAX_MEMO_BYTES`` at the worst, as far as callers tell its size.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self._bytes = 0

    def keep(self, key: K, answer: V, size: int) -> V:
        """Return the answer; remember it unless key and answer take more than ``MAX_ENTRY_BYTES``.

        ``size``: bytes of what both say, the objects counted that they consist of.
        """
        size += ENTRY_BYTES
        if size <= MAX_ENTRY_BYTES:
            if len(self) >= self._most or self._bytes + size > MAX_MEMO_BYTES:
                self.clear()
                self._bytes = 0
            self._bytes += size
            self[key] = answer
        return answer

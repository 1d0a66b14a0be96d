"""Remember answers by the input they depend on, in bounded memory."""

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")

LARGEST = 2048
"""Bytes of input an answer is remembered for; what devices send, as a rule, is a tenth of it."""


class Memo(dict[K, V]):
    """Answers by input; empties itself when there are many. Callers: decoder and router.

    Uploads of any size may ask: what depends on much input is answered and not remembered, so that
    ``most`` entries take ``most`` times ``LARGEST`` bytes at the worst.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def keep(self, key: K, answer: V, size: int) -> V:
        """Return the answer, and remember it if it depends on ``size`` bytes of few enough."""
        if size <= LARGEST:
            if len(self) >= self._most:
                self.clear()
            self[key] = answer
        return answer

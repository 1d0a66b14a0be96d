"""The rows of the matrix: which lanes there are, and what AWS does to them."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.faults.aws import Aws

Content = dict[str, Any]
HEALTHY = "healthy"
"""How the names of the lanes begin that nothing happens to."""

SHORTEST = 1.5
"""Seconds that a fault lasts at least, however small the scale."""


class Plot(NamedTuple):
    """What a row's faults are made with; ``seconds`` is how long they last at least.

    ``stream`` and ``role`` return the name of a lane's stream and the ARN of its role; ``last``
    waits for so long, and until somebody has met what the row is about.
    """

    aws: Aws
    stream: Callable[[str], str]
    role: Callable[[str], str]
    last: Callable[[], Awaitable[None]]
    seconds: float


Act = Callable[[Plot], Awaitable[None]]


@dataclass(frozen=True)
class Row:
    """One row. ``lanes`` are those that suffer, by the end of their names.

    ``seconds`` is how long the fault lasts at scale 1, ``calm`` how long all is well before and
    after; ``beside`` is the number of healthy lanes; ``broken`` and ``large`` are records a second
    that are no uploads, or too large for the lanes of the row; ``meets`` is a code
    that must have come up, or nothing was proved, in puts of its lanes or, ``quiet``, in an
    answer that the worker makes good itself; ``weighed``: the worker's memory is told.
    """

    name: str
    told: str
    act: Act
    seconds: float = 30.0
    lanes: Mapping[str, Content] = field(default_factory=lambda: {"": {}})
    beside: int = 2
    calm: float = 5.0
    broken: float = 0.2
    large: float = 0.0
    meets: str = ""
    quiet: bool = False
    weighed: bool = False

    def lasts(self, scale: float) -> float:
        """Return how long the fault lasts, in seconds."""
        return max(SHORTEST, self.seconds * scale)

    def named(self, end: str) -> str:
        """Return the name of one of its lanes."""
        return f"{self.name}-{end}" if end else self.name

"""What the deploys of a soak leave open: which content of a lane governed which records.

While a deploy goes on, old and new pods take turns, and what waited in windows is filtered by
whoever opens the partition next. So an event is wanted for sure, not wanted, or optional.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from forwarder.config.connection import Connection

Offsets = Mapping[int, int]
"""By partition."""


@dataclass
class Era:
    """A lane's content; ``begun``: the watermarks when its deploy began.

    ``done``: the input's ends when every pod had it; None: it never came so far.
    """

    connection: Connection
    begun: Offsets
    done: Offsets | None = None


@dataclass
class Lane:
    """The life of one lane. ``gone``: the watermarks when it began to go for good."""

    eras: list[Era] = field(default_factory=list)
    gone: Offsets | None = None
    gone_ms: float = inf
    deliver_from_ms: int = 0


class History:
    """The lives of all lanes, written down by whoever deploys."""

    def __init__(self) -> None:
        """Begin without lanes."""
        self.lanes: dict[str, Lane] = {}

    def begin(self, connections: Sequence[Connection], watermarks: Offsets) -> None:
        """Note that pods begin to get these connections."""
        for connection in connections:
            lane = self.lanes.setdefault(connection.name, Lane())
            if not lane.eras or lane.eras[-1].connection != connection:
                lane.eras.append(Era(connection, watermarks))
            if connection.deliver_from_ms is not None:
                lane.deliver_from_ms = max(lane.deliver_from_ms, connection.deliver_from_ms)

    def done(self, names: Sequence[str], ends: Offsets) -> None:
        """Note that every pod has what was begun last, and that it is stored."""
        for name in names:
            era = self.lanes[name].eras[-1]
            era.done = ends if era.done is None else era.done

    def leave(self, name: str, watermarks: Offsets, now_ms: int) -> None:
        """Note that a lane begins to go for good."""
        lane = self.lanes[name]
        if lane.gone is None:
            lane.gone, lane.gone_ms = watermarks, now_ms


def told(
    lane: Lane, partition: int, first_seen: int, waiting: Callable[[int], int]
) -> Callable[[int], Sequence[Connection | None]]:
    """Return who may have governed a record of the partition, by its offset.

    ``first_seen`` is the lane's first offset in the outbox: it begins somewhere in its first
    deploy, and from there on everything counts. ``waiting`` returns the lowest offset that may
    still wait in a window while a watermark stands at an offset.
    """
    choices: list[Connection | None] = [era.connection for era in lane.eras]
    begins = [0.0, *(float(waiting(era.begun[partition])) for era in lane.eras[1:])]
    ends = [_done(era, partition) for era in lane.eras]
    ends = [min(ends[i:]) for i in range(len(ends))]
    there = min(ends[0], first_seen)
    gone = inf if lane.gone is None else waiting(lane.gone[partition])

    def governing(offset: int) -> Sequence[Connection | None]:
        found = [
            choice
            for i, choice in enumerate(choices)
            if begins[i] <= offset and (i + 1 == len(choices) or ends[i + 1] > offset)
        ]
        return [*found, None] if offset < there or offset >= gone else found

    return governing


def _done(era: Era, partition: int) -> float:
    return inf if era.done is None else era.done[partition]


def waits(times: Sequence[tuple[int, int]], longest_ms: int) -> Callable[[int], int]:
    """Return what ``told`` asks for; ``times``: (offset, record time), both rising."""
    offsets, clocks = [offset for offset, _ in times], [clock for _, clock in times]

    def waiting(watermark: int) -> int:
        at = bisect_left(offsets, watermark)
        if at == 0 or not clocks:
            return 0
        clock = clocks[min(at, len(clocks) - 1)]
        return offsets[bisect_left(clocks, clock - longest_ms)]

    return waiting

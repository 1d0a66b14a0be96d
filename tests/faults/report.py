"""What the rows cost, as a table for people."""

from collections.abc import Iterable, Sequence
from math import ceil
from typing import NamedTuple

from tests.conservation import FAULTS, Lane
from tests.faults.judge import Delay
from tests.faults.rows import HEALTHY, Row
from tests.faults.stage import Outcome

LOST = ("lost", "missing")
REORDERED = ("order", "stream_order")
HEAD = (
    "", "fault", "wanted", "lost", "reordered", "other", "repeated", "dead letters",
    "healthy: p99 before", "during", "after", "longest", "suffering: longest",
)  # fmt: skip


class Line(NamedTuple):
    """A row's figures: of its own lanes and the healthy ones beside; delays in milliseconds."""

    name: str
    seconds: float
    wanted: int
    lost: int
    reordered: int
    other: int
    repeated: int
    letters: int
    before: float | None
    during: float | None
    after: float | None
    longest: float | None
    suffering: float | None

    @property
    def faults(self) -> int:
        """Return how many things are wrong."""
        return self.lost + self.reordered + self.other


def lines(outcome: Outcome) -> list[Line]:
    """Return a line for each row of a run."""
    return [_line(outcome, row) for row in outcome.rows]


def _line(outcome: Outcome, row: Row) -> Line:
    own = {row.named(end) for end in row.lanes}
    seen = [
        lane
        for lane in outcome.found.verdict.lanes
        if lane.name in own or lane.name.startswith(HEALTHY)
    ]
    began, ended = outcome.spans[row.name]
    healthy = _delays(outcome, [lane.name for lane in seen if lane.name not in own])
    during = [delay for delay in healthy if began <= delay.at < ended]
    after = [delay for delay in healthy if ended <= delay.at]
    verdict = outcome.found.verdict
    lost, reordered = _sum(seen, LOST), _sum(seen, REORDERED)
    return Line(
        row.name,
        (ended - began) / 1000,
        sum(lane.events for lane in seen),
        lost + verdict.letters_lost,
        reordered,
        _sum(seen, FAULTS) - lost - reordered + verdict.letters_invented + verdict.letters_twice,
        sum(lane.repeats for lane in seen),
        sum(outcome.found.letters[name] for name in ["", *own]),
        _p99(delay for delay in healthy if outcome.warm <= delay.at < began),
        _p99(during),
        _p99(after),
        max((delay.took for delay in [*during, *after]), default=None),
        max((delay.took for delay in _delays(outcome, own)), default=None),
    )


def _sum(lanes: Iterable[Lane], names: Iterable[str]) -> int:
    return sum(getattr(lane, name) for lane in lanes for name in names)


def _delays(outcome: Outcome, lanes: Iterable[str]) -> list[Delay]:
    return [delay for lane in lanes for delay in outcome.found.delays[lane]]


def _p99(delays: Iterable[Delay]) -> float | None:
    ordered = sorted(delay.took for delay in delays)
    return ordered[ceil(0.99 * len(ordered)) - 1] if ordered else None


def faults(outcome: Outcome) -> int:
    """Return how many things a run found wrong."""
    return outcome.found.verdict.faults + len(outcome.wrong) + len(_idle(outcome))


def table(found: Sequence[Line]) -> str:
    """Return the lines as a table."""
    rows = [HEAD, *(_cells(line) for line in found)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    )


def _cells(line: Line) -> tuple[str, ...]:
    counts = line.wanted, line.lost, line.reordered, line.other, line.repeated, line.letters
    delays = line.before, line.during, line.after, line.longest, line.suffering
    return (
        line.name,
        f"{line.seconds:,.0f} s",
        *(f"{count:,}" for count in counts),
        *("-" if delay is None else f"{delay / 1000:,.2f} s" for delay in delays),
    )


def wrong(outcome: Outcome) -> list[str]:
    """Return in words what is wrong, and examples of what is counted."""
    return [*outcome.wrong, *_idle(outcome), *outcome.found.verdict.examples]


def _idle(outcome: Outcome) -> list[str]:
    """Return the lanes that had nothing to forward: of them nothing can be lost."""
    lanes = outcome.found.verdict.lanes
    return [f"{lane.name} had nothing to forward" for lane in lanes if not lane.events]


def memory(outcome: Outcome, row: Row) -> str:
    """Tell the worker's resident size around a row's fault, in MiB."""
    began, ended = outcome.spans[row.name]
    early, late = began + (ended - began) // 10, ended - (ended - began) // 5
    before = _mean(outcome, outcome.warm, began)
    first, last = _mean(outcome, early, early + (early - began)), _mean(outcome, late, ended)
    return (
        f"{row.name}: memory {before:.0f} MiB before, {first:.0f} after a tenth of it, {last:.0f} "
        f"in its last fifth ({_grown(before, last)}, {_grown(first, last)} since the tenth), "
        f"{_mean(outcome, ended, outcome.memory[-1][0] + 1):.0f} afterwards"
    )


def _mean(outcome: Outcome, since: int, until: int) -> float:
    sizes = [size / 2**20 for at, size in outcome.memory if since <= at < until]
    return sum(sizes) / max(1, len(sizes))


def _grown(before: float, after: float) -> str:
    return f"{100 * (after / before - 1):+.1f} %" if before else "-"

"""What a soak found, as tables for people."""

from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from tests.conservation import Verdict
from tests.soak.disturb import Recovery, recovered
from tests.soak.repeats import Repeats, Share

CRASHES = ("kill", "kill all")
"""What costs less than a tick's worth of repeats."""

GENTLE = ("deploy", "drain", "scale")
"""What costs no repeats at all."""

EXPECTED: frozenset[str] = frozenset()
"""Events that may be logged as errors."""

PARTS = 6
"""How many parts of its time the growth of memory is told in."""


class Result(NamedTuple):
    """What a soak found; ``wrong`` is what is not counted elsewhere."""

    verdict: Verdict
    repeats: Repeats
    recoveries: Sequence[Recovery]
    changes: Counter[str]
    memory: Sequence[tuple[float, str, int]]
    logged: Counter[tuple[str, str]]
    wrong: Sequence[str]
    sent: int
    sent_again: int
    seconds: float

    @property
    def faults(self) -> int:
        """Return how many things are wrong."""
        return self.verdict.faults + len(self._told())

    def _told(self) -> list[str]:
        """Return in words what is wrong beside the verdict."""
        never = [
            f"{one.kind}: not processing again: {one.said}"
            for one in self.recoveries
            if one.seconds is None
        ]
        errors = [
            f"logged as {level} {count} times: {event}"
            for (level, event), count in self.logged.items()
            if level != "warning" and event not in EXPECTED
        ]
        shares = {share.kind: share for share in self.repeats.shares}
        crashes = [shares[kind] for kind in CRASHES if kind in shares]
        worth, cost = sum(s.worth for s in crashes), sum(s.repeats for s in crashes)
        dear = [f"kills cost {cost} repeats, a tick's worth is {worth}"] if cost > worth else []
        gentle = [
            f"{kind} cost {shares[kind].repeats} repeats"
            for kind in GENTLE
            if kind in shares and shares[kind].repeats
        ]
        return [*self.wrong, *never, *errors, *dear, *gentle, *self.repeats.examples]

    def text(self) -> str:
        """Return it for people."""
        return "\n".join(
            [
                f"{self.sent:,} records in {self.seconds:,.0f} s, {self.sent_again} sent again",
                "",
                _table(_disturbances(self.recoveries, self.repeats.shares)),
                "",
                "deploys: " + _counted(self.changes),
                "",
                self.verdict.text(),
                "",
                f"repeats: {self.repeats.total:,}: " + _counted(Counter(self.repeats.causes)),
                _memory(self.memory),
                "logged: "
                + _counted(Counter({f"{k} {e}": n for (k, e), n in self.logged.items()})),
                *(f"WRONG: {told}" for told in self._told()),
                f"{self.faults:,} faults",
            ]
        )


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.most_common()) or "nothing"


def _disturbances(recoveries: Sequence[Recovery], shares: Sequence[Share]) -> list[tuple[str, ...]]:
    """Return a row for each kind."""
    costs = {share.kind: share for share in shares}
    rows: list[tuple[str, ...]] = [
        (
            "",
            "times",
            "stood still, median",
            "longest",
            "hits",
            "repeats",
            "worst",
            "a tick's worth",
        )
    ]
    for kind, took in recovered(list(recoveries)).items():
        done = [seconds for seconds in took if seconds is not None]
        times = (f"{median(done):.1f} s", f"{max(done):.1f} s") if done else ("-", "-")
        cost = costs.get(kind)
        figures = (cost.hits, cost.repeats, cost.worst, cost.worth) if cost else ()
        rows.append((kind, str(len(took)), *times, *(map(str, figures or ("",) * 4))))
    return rows


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    )


def _memory(samples: Sequence[tuple[float, str, int]]) -> str:
    """Return the largest resident size, and the mean in each part of the time."""
    if not samples:
        return "memory: not looked at"
    begun, span = samples[0][0], max(samples[-1][0] - samples[0][0], 1e-9)
    parts: list[list[int]] = [[] for _ in range(PARTS)]
    for at, _, size in samples:
        parts[min(int(PARTS * (at - begun) / span), PARTS - 1)].append(size)
    means = [f"{sum(p) / len(p) / 2**20:.0f}" for p in parts if p]
    most = max(size for _, _, size in samples) / 2**20
    return f"memory of a worker: at most {most:.0f} MiB; mean over time {', '.join(means)} MiB"

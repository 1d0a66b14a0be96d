"""Repeats in the stream, each with its cause, against what one tick's worth of batches is."""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tests.fake_aws.books import Put

LOST = "an answer was lost"
UNEXPLAINED = "nothing known"
IN_FLIGHT_MS = 500
"""How long after a worker's death what it has sent may still be stored."""
AFTERWARDS = {"wake": 2_000}
"""How long after a hit a worker may still put what it does not own any more, by kind."""
REACH_MS = 60_000
"""How long after a hit a repeat is still put down to it."""


class Hit(NamedTuple):
    """A moment at which workers were ended or cut off; ``at`` in wall-clock milliseconds."""

    at: int
    kind: str
    workers: tuple[str, ...]


class Share(NamedTuple):
    """The repeats after hits of one kind.

    ``worth`` is what the workers hit had put within the tick before, or had in flight.
    """

    kind: str
    hits: int
    repeats: int
    worst: int
    worth: int


class Repeats(NamedTuple):
    """All repeats of a soak."""

    total: int
    causes: dict[str, int]
    shares: list[Share]
    examples: list[str]


def explain(stored: Iterable[Put], hits: Sequence[Hit], tick_ms: int) -> Repeats:
    """Put every repeat down to a lost answer or to the hit that came between the two puts."""
    hits = sorted(hits)
    latest: dict[str, tuple[int, str, str]] = {}
    causes: Counter[str] = Counter()
    by_hit: Counter[int] = Counter()
    examples: list[str] = []
    landings: dict[str, list[int]] = defaultdict(list)
    for put in stored:
        landings[put.worker] += [put.at] * len(put.records)
        for record in put.records:
            before = latest.get(record.id)
            if before is not None:
                number = -1 if before[2] == "lost" else _hit(hits, before, put)
                cause = LOST if before[2] == "lost" else _kind(hits, number)
                causes[cause] += 1
                by_hit[number] += number >= 0
                if cause == UNEXPLAINED and len(examples) < 5:
                    examples.append(f"repeat: {record.id} by {before}, again by {put[:4]}")
            latest[record.id] = (put.at, put.worker, put.fate)
    shares = [
        _share(kind, hits, by_hit, landings, tick_ms) for kind in sorted({h.kind for h in hits})
    ]
    return Repeats(causes.total(), dict(causes), shares, examples)


def _hit(hits: Sequence[Hit], before: tuple[int, str, str], put: Put) -> int:
    """Return which hit made a put be repeated: of its worker if possible; -1: none."""
    until = bisect_right(hits, put.at, key=lambda hit: hit.at)
    recent = [i for i in range(until) if hits[i].at >= before[0] - REACH_MS]
    mine = [i for i in recent if before[1] in hits[i].workers]
    between = [i for i in mine if hits[i].at >= before[0] - AFTERWARDS.get(hits[i].kind, 0)]
    return between[0] if between else recent[-1] if recent else -1


def _kind(hits: Sequence[Hit], number: int) -> str:
    return UNEXPLAINED if number < 0 else hits[number].kind


def _share(
    kind: str,
    hits: Sequence[Hit],
    by_hit: Counter[int],
    landings: dict[str, list[int]],
    tick_ms: int,
) -> Share:
    mine = [number for number, hit in enumerate(hits) if hit.kind == kind]
    worth = 0
    for hit in (hits[number] for number in mine):
        for worker in hit.workers:
            at = landings.get(worker, [])
            until = bisect_left(at, hit.at + IN_FLIGHT_MS)
            worth += until - bisect_left(at, hit.at - tick_ms)
    repeats = [by_hit[number] for number in mine]
    return Share(kind, len(mine), sum(repeats), max(repeats, default=0), worth)

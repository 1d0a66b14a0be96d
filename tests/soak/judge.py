"""Judge a soak one partition after the other, so that an hour of it fits into memory."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from forwarder.config.connection import Batching, BatchMode
from tests import conservation, expectation, oracle
from tests.acceptance.cluster import Cluster, Stored
from tests.conservation import Batch, Landed, Letter, Terms, Verdict
from tests.fake_aws.books import puts
from tests.soak import history
from tests.soak.history import History, Lane
from tests.soak.releases import LONGEST, STEADY

PROCESSES = 2
NEVER = 2**62
"""A time that no batch may have been closed at: it should not have been at all."""

SLACK_MS = 5
"""Two clocks of one machine, rounded."""

LAG_MS = 60_000
"""How long before its lane went a batch may have been closed and still wait for its put."""

FULL_BYTES = 512 * 1024
"""A document of this size may close early: uploads with as much context come in, too."""


class Case(NamedTuple):
    """What is judged: where it is stored, and what was meant.

    ``reasons`` are those of broken records, by value; ``letters`` the dead letters found;
    ``window_ms``: how far apart the same request is sent once, 0: it never is the same.
    """

    bootstrap: str
    topic: str
    outbox: str
    streams: str
    books: Path
    history: History
    reasons: Mapping[bytes, str]
    letters: Sequence[Letter]
    window_ms: int = 0


class Found(NamedTuple):
    """What is told of one partition."""

    verdict: Verdict
    records: int
    values: list[bytes]
    ids: list[str]


def partitions(case: Case, count: int) -> list[Found]:
    """Return what is found in every partition."""
    with ProcessPoolExecutor(PROCESSES, get_context("spawn"), max_tasks_per_child=1) as pool:
        return list(pool.map(_partition, [case] * count, range(count)))


def _partition(case: Case, partition: int) -> Found:
    sent, stored = asyncio.run(_read(case, partition))
    outbox = conservation.batches((r.partition, r.offset, r.value or b"") for r in stored)
    ids = {batch.id for batch in outbox}
    times = [(one.offset, one.timestamp) for one in sent]
    waiting = history.waits(times, LONGEST * 1000 + 2000)
    lanes, contexts = _expected(case, partition, outbox, waiting)
    requests: dict[str, int] = {}
    for one in sent:
        record = _sent(one)
        for seen in _fresh(expectation.uploads(record), record, requests, case.window_ms):
            marks: expectation.Marks = {}
            for lane in lanes.values():
                lane.take(record, seen, marks)
            contexts.take(record, seen)
    clocked = _Clock(dict(times), outbox)
    verdict = conservation.judge(
        {name: lane.wanted for name, lane in lanes.items()},
        outbox,
        _landed(case, ids),
        (
            expectation.letters(map(_sent, sent), case.reasons),
            [letter for letter in case.letters if letter.partition == partition],
        ),
        identify=expectation.identify,
        terms={
            name: _terms(name, case.history.lanes[name], clocked, contexts)
            for name in case.history.lanes
        },
    )
    values = [conservation.digest(one.value or b"") for one in sent]
    return Found(verdict, len(sent), values, sorted(ids))


class _Sent(NamedTuple):
    """A record of the input, in the oracle's words."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    value: bytes | None


def _sent(one: Stored) -> _Sent:
    return _Sent(one.topic, one.partition, one.offset, one.timestamp, one.value)


def _fresh(
    uploads: Sequence[oracle.Seen], one: _Sent, requests: dict[str, int], window_ms: int
) -> list[oracle.Seen]:
    """Return the uploads whose request did not come before, within the window; note them all.

    Kafka stamps the records, so time only rises: the last time counts. Ids are of chance, so that
    they need no device.
    """
    # An upload without events has none that came before: what it tells of its user counts again.
    names = [str((one.events and one.content.get("source_request_id")) or "") for one in uploads]
    since = one.timestamp_ms - window_ms
    again = [bool(name and window_ms) and requests.get(name, -1) >= since for name in names]
    requests |= {name: one.timestamp_ms for name in names if name}
    return [upload for upload, known in zip(uploads, again, strict=True) if not known]


async def _read(case: Case, partition: int) -> tuple[list[Stored], list[Stored]]:
    async with Cluster(case.bootstrap) as cluster:
        sent = await cluster.read(case.topic, partition)
        return sent, await cluster.read(case.outbox, partition)


def _expected(
    case: Case, partition: int, outbox: Sequence[Batch], waiting: Callable[[int], int]
) -> tuple[dict[str, expectation.Lane], expectation.Contexts]:
    firsts: dict[str, int] = {}
    for batch in outbox:
        firsts[batch.lane] = min(firsts.get(batch.lane, NEVER), batch.first[0])
    lanes = {}
    for name, lane in case.history.lanes.items():
        told = history.told(lane, partition, firsts.get(name, NEVER), waiting)
        lanes[name] = expectation.Lane(told, {era.connection.mode for era in lane.eras})
    everything = case.history.lanes[STEADY[0]].eras[0].connection
    return lanes, expectation.Contexts(everything)


def _landed(case: Case, ids: set[str]) -> dict[str, list[Landed]]:
    """Return what landed of these batches, by lane."""
    found: dict[str, list[Landed]] = {name: [] for name in case.history.lanes}
    for put in puts(case.books):
        name = put.stream.removeprefix(f"{case.streams}-")
        found[name] += [record for record in put.records if record.id in ids]
    return found


def _terms(name: str, lane: Lane, clock: "_Clock", contexts: expectation.Contexts) -> Terms:
    explains = contexts.explains if name == STEADY[0] else None
    if name in STEADY:
        connection = lane.eras[0].connection
        by_session = connection.mode is BatchMode.SESSION
        due = _session_due if by_session else _age_due
        return Terms(explains, lambda batch: due(batch, clock, connection.batching) - SLACK_MS)
    # Where modes change, what was keyed by device and what by session wait for different times.
    return Terms(
        droppable=lambda b: _droppable(b, lane), kind=lambda b: b.why.startswith("session")
    )


def _droppable(batch: Batch, lane: Lane) -> bool:
    return batch.closed_at < lane.deliver_from_ms or batch.closed_at > lane.gone_ms - LAG_MS


class _Clock:
    """Record times of a partition, for the windows that its batches were made of."""

    def __init__(self, times: Mapping[int, int], outbox: Sequence[Batch]) -> None:
        self._times = times
        self._opened: dict[tuple[str, bytes, int], int] = {}
        for batch in outbox:
            window = _window(batch)
            self._opened[window] = min(self._opened.get(window, NEVER), batch.first[0])

    def opened(self, batch: Batch) -> int:
        """Return when its window was opened; of a window in parts, what the first begins with."""
        return self._times[self._opened[_window(batch)]]

    def last(self, batch: Batch) -> int:
        """Return the time of its last event."""
        return self._times[batch.last[0]]


def _window(batch: Batch) -> tuple[str, bytes, int]:
    """Return what the parts of one window have in common."""
    return batch.lane, batch.key, batch.closed_at


def _age_due(batch: Batch, clock: _Clock, batching: Batching) -> int:
    """Return when a window of the batch's events was due: by age, where its context is small."""
    if _is_full(batch):
        return 0
    return clock.opened(batch) + batching.max_age_ms if batch.why == "age" else NEVER


def _session_due(batch: Batch, clock: _Clock, batching: Batching) -> int:
    """Return when a session was due at the earliest, for the reason it gives."""
    first, last = clock.opened(batch), clock.last(batch)
    if _is_full(batch):
        return 0
    if batch.why == "age":
        return first + batching.session_max_ms
    if batch.why == "session_timeout":
        return last + batching.session_timeout_ms
    if batch.why != "session_end":
        return NEVER
    # A session without a name ends at once with the next session_start.
    named = any(map(oracle.session, oracle.exact(batch.payload)["events"]))
    return first + batching.session_grace_ms if named else 0


def _is_full(batch: Batch) -> bool:
    """Tell whether the context of another upload may have left no room for its events."""
    return batch.why == "size" and len(batch.payload) > FULL_BYTES


def letters(records: Iterable[Stored]) -> Iterator[Letter]:
    """Return dead letters as their headers describe them."""
    for record in records:
        told = {name: value.decode() for name, value in record.headers.items()}
        where = told["topic"], int(told["partition"]), int(told["offset"])
        yield Letter(told["reason"], *where, told["connection"], record.value or b"")

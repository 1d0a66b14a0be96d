"""Judge a run: what became of every event in every lane, and how long it took to get there."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from forwarder.config.connection import Connection
from tests import conservation, expectation, oracle
from tests.acceptance.cluster import Cluster, Stored
from tests.conservation import Batch, Landed, Letter, Verdict, Wanted
from tests.fake_aws.books import Put, puts
from tests.faults.load import SMALL_BYTES
from tests.oracle import exact
from tests.soak.judge import letters

TOO_LARGE = "event_too_large"
AT_ONCE = 30_000
"""Records of the input up to which a process of its own is not worth its start."""


class Case(NamedTuple):
    """What is judged, and where it is stored.

    ``streams`` are by lane; ``small`` are the lanes for which large events are too large;
    ``reasons`` those of broken records, by value.
    """

    bootstrap: str
    topic: str
    group: str
    books: Path
    streams: Mapping[str, str]
    connections: Mapping[str, Connection]
    small: frozenset[str]
    reasons: Mapping[bytes, str]


class Delay(NamedTuple):
    """When a batch's last event came into Kafka, in wall-clock ms, and how long it took from there.

    To its first landing in the stream, in milliseconds.
    """

    at: int
    took: int


class Found(NamedTuple):
    """What became of one partition, or of all; ``letters`` are dead letters by connection."""

    verdict: Verdict
    delays: dict[str, list[Delay]]
    values: list[bytes]
    ids: list[str]
    letters: Counter[str]


def judge(case: Case, partitions: int, records: int) -> Found:
    """Judge every partition; many ``records`` are shared by two processes."""
    if records <= AT_ONCE:
        return _together([_partition(case, number) for number in range(partitions)])
    with ProcessPoolExecutor(2, get_context("spawn"), max_tasks_per_child=1) as pool:
        return _together(list(pool.map(_partition, [case] * partitions, range(partitions))))


def strangers(case: Case, found: Found) -> list[str]:
    """Return ids of records in the streams that are batches of no partition."""
    known = {*found.ids}
    return [
        record.id for put in puts(case.books) for record in put.records if record.id not in known
    ]


def _together(found: Sequence[Found]) -> Found:
    lanes = found[0].delays
    return Found(
        conservation.together([one.verdict for one in found]),
        {lane: [delay for one in found for delay in one.delays[lane]] for lane in lanes},
        [value for one in found for value in one.values],
        [name for one in found for name in one.ids],
        sum((one.letters for one in found), Counter()),
    )


def _partition(case: Case, partition: int) -> Found:
    sent, stored, dead = asyncio.run(_read(case, partition))
    outbox = conservation.batches((r.partition, r.offset, r.value or b"") for r in stored)
    ids = {batch.id for batch in outbox}
    mine = [put for put in puts(case.books) if any(r.id in ids for r in put.records)]
    records = [_Sent(r.topic, r.partition, r.offset, r.timestamp, r.value) for r in sent]
    wanted, expected = _expected(case, records)
    told = [_bare(letter) for letter in letters(dead) if letter.partition == partition]
    verdict = conservation.judge(
        wanted,
        outbox,
        {lane: list(_landed(mine, ids, stream)) for lane, stream in case.streams.items()},
        (expected, told),
        identify=expectation.identify,
        terms={},
    )
    return Found(
        verdict,
        _delays(case, mine, outbox, {one.offset: one.timestamp_ms for one in records}),
        [conservation.digest(one.value or b"") for one in records],
        sorted(ids),
        Counter(letter.connection for letter in told),
    )


class _Sent(NamedTuple):
    """A record of the input, in the oracle's words."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    value: bytes | None


async def _read(case: Case, partition: int) -> tuple[list[Stored], list[Stored], list[Stored]]:
    async with Cluster(case.bootstrap) as cluster:
        return (
            await cluster.read(case.topic, partition),
            await cluster.read(f"{case.group}.outbox.{case.topic}", partition),
            await cluster.read(f"{case.group}-dead-letters"),
        )


def _expected(case: Case, sent: Sequence[_Sent]) -> tuple[dict[str, list[Wanted]], list[Letter]]:
    """Return what each lane has to forward, and the dead letters there have to be."""
    lanes = {name: _lane(connection) for name, connection in case.connections.items()}
    for record in sent:
        for seen in expectation.uploads(record):
            marks: expectation.Marks = {}
            for lane in lanes.values():
                lane.take(record, seen, marks)
    wanted = {name: lane.wanted for name, lane in lanes.items()}
    expected = expectation.letters(sent, case.reasons)
    for name in case.small:
        letters_of_lane = _misfits(sent, case.connections[name])
        expected += letters_of_lane
        too_large = {one for letter in letters_of_lane for one in letter.value.decode().split()}
        wanted[name] = [one for one in wanted[name] if one.id not in too_large]
    return wanted, expected


def _lane(connection: Connection) -> expectation.Lane:
    return expectation.Lane(lambda _: [connection], {connection.mode})


def _misfits(sent: Sequence[_Sent], connection: Connection) -> list[Letter]:
    """Return the letters of a small lane: one for each upload with events that do not fit alone."""
    found = []
    for one in sent:
        if len(one.value or b"") < SMALL_BYTES // 2:
            continue
        for seen in expectation.uploads(one):
            keen = [e for e in seen.events if oracle.wanted(e, connection.settings)]
            if not keen or not oracle.matches(seen.content, connection):
                continue
            if misfits := [e for e in keen if not oracle.fits_alone(seen, e, connection)]:
                found.append(Letter(TOO_LARGE, *one[:3], connection.name, _names(misfits)))
    return found


def _names(events: Sequence[Mapping[str, Any]]) -> bytes:
    return " ".join(map(expectation.identify, events)).encode()


def _bare(letter: Letter) -> Letter:
    """Return the letter of events with their ids for a value."""
    if letter.reason != TOO_LARGE:
        return letter
    return letter._replace(value=_names(exact(letter.value)["events"]))


def _landed(stored: Sequence[Put], ids: set[str], stream: str) -> Iterator[Landed]:
    for put in stored:
        if put.stream == stream:
            yield from (record for record in put.records if record.id in ids)


def _delays(
    case: Case, stored: Sequence[Put], outbox: Sequence[Batch], clock: Mapping[int, int]
) -> dict[str, list[Delay]]:
    """Return how long every batch took that landed, by lane."""
    landed: dict[tuple[str, str], int] = {}
    for put in stored:
        for record in put.records:
            landed.setdefault((put.stream, record.id), put.at)
    found: dict[str, list[Delay]] = {lane: [] for lane in case.connections}
    for batch in outbox:
        came, at = clock[batch.last[0]], landed.get((case.streams[batch.lane], batch.id))
        if at is not None:
            found[batch.lane].append(Delay(came, at - came))
    return found

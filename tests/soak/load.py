"""The load of the soak, made beforehand and sent at the times its records carry."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import NamedTuple

from tests.acceptance.cluster import Cluster, Sent
from tests.traffic import poison, traffic

SLICE = 0.1
"""Seconds of load sent at once."""


class Load(NamedTuple):
    """What will be sent, in order of time from 0 on; ``reasons`` are those of broken records."""

    records: Sequence[tuple[bytes, bytes, int]]
    reasons: dict[bytes, str]
    events: int


def make(seed: int, devices: int, events: int, broken: int, seconds: float) -> Load:
    """Make the load of ``seconds``; some of its records are no uploads at all."""
    span = round(seconds * 1000)
    start = time.time_ns() // 1_000_000
    uploads = list(traffic(seed, devices, events, start, span))
    malformed = list(poison(seed, broken, start, span))
    # Told apart by trailing blanks, so that every broken record has bytes of its own.
    reasons = {one.value + b" " * i: one.reason for i, one in enumerate(malformed)}
    rows = [(one.timestamp_ms - start, one.key, one.value) for one in uploads]
    rows += [(m.timestamp_ms - start, m.key, v) for m, v in zip(malformed, reasons, strict=True)]
    rows.sort(key=itemgetter(0))
    return Load(
        [(key, value, ms) for ms, key, value in rows],
        reasons,
        sum(len(upload.event_ids) for upload in uploads),
    )


def _slices(load: Load) -> Iterator[tuple[float, list[tuple[bytes, bytes, int]]]]:
    """Yield (seconds from the start, records due then)."""
    due: list[tuple[bytes, bytes, int]] = []
    until = SLICE
    for record in load.records:
        while record[2] / 1000 > until:
            yield until, due
            due = []
            until += SLICE
        due.append(record)
    yield until, due


async def send(cluster: Cluster, topic: str, load: Load) -> list[Sent]:
    """Send the load as it falls due; record time is the time it was due."""
    start, begun = time.time_ns() // 1_000_000, time.monotonic()
    sent: list[Sent] = []
    for due, records in _slices(load):
        await asyncio.sleep(max(0.0, begun + due - time.monotonic()))
        sent += await cluster.send(topic, [(k, v, start + ms) for k, v, ms in records])
    return sent

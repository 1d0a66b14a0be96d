"""What a row sends: the usual traffic, broken records, and events too large for some lanes."""

import heapq
import json
import time
from collections.abc import Iterator
from operator import itemgetter

from tests.soak.load import Load, Row, strangers
from tests.traffic import poison, traffic

SMALL_BYTES = 64 * 1024
"""The record limit of lanes for which some events are too large."""

LARGE_BYTES = 100_000
ODD = 0.5
"""Records a second that are uploads, though such as programs break on."""

LONGEST = 3_600
"""Seconds of load that are prepared; it is stopped when the row is over."""


def make(seed: int, devices: int, rate: float, *, broken: float = 0.2, large: float = 0.0) -> Load:
    """Return an hour's load from now on, made while it is taken; rates are per second."""
    start, span = time.time_ns() // 1_000_000, LONGEST * 1000
    malformed = [
        (one.timestamp_ms, one.key, one.value + b" " * i, one.reason)
        for i, one in enumerate(poison(seed, round(broken * LONGEST), start, span))
    ]
    rows = heapq.merge(
        _uploads(seed, devices, rate, start, span),
        _large(start, large),
        strangers(seed, ODD, start, span),
        (one[:3] for one in malformed),
        key=itemgetter(0),
    )
    return Load(rows, {value: reason for *_, value, reason in malformed})


def _uploads(seed: int, devices: int, rate: float, start: int, span: int) -> Iterator[Row]:
    for upload in traffic(seed, devices, round(rate * LONGEST), start, span):
        yield upload.timestamp_ms, upload.key, upload.value


def _large(start: int, rate: float) -> Iterator[Row]:
    """Yield uploads of an event as usual, one that is too large, and one as usual."""
    for number in range(round(rate * LONGEST)):
        ids = f"before-{number}", f"large-{number}", f"after-{number}"
        sizes = 10, LARGE_BYTES, 10
        events = [
            {
                "event_type": "custom_event",
                "data": {"event_name": "e", "source_message_id": name, "filling": "x" * size},
            }
            for name, size in zip(ids, sizes, strict=True)
        ]
        device = f"with-large-{number % 7}"
        value = json.dumps({"mp_deviceid": device, "mpid": 7, "events": events})
        yield start + round(1000 * number / rate), device.encode(), value.encode()

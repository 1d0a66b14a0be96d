"""docs/scaling.md: what a million events a second take, worked out from what was measured."""

import math
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

TEXT = Path(__file__).parent / "scaling.md.in"

RATE = 1_000_000
"""Events a second, one to an upload of 1 KB."""
UPLOAD_BYTES = 1024
BUSY = 0.7
"""How much of its core a worker has to use at most: the rest is for catching up."""
TICKS = 0.1
"""How much of its core ticks may take."""
WINDOW_SECONDS = 600
MEASURED_PARTITIONS = 32
REPLICAS = 3
OUTBOX_DAYS = 7
PROCESS_MIB = 150
"""What a worker takes beside what waits in its windows."""

SHARD_BYTES, SHARD_RECORDS = 1_000_000, 1_000
"""What a shard of Kinesis takes a second."""
SHARD_HOUR, UNIT_MILLION, UNIT_BYTES = 0.015, 0.014, 25 * 1024
"""US dollars for a shard and hour, and for a million payload units, and their size: AWS's list for
provisioned streams in us-east-1."""
CORE_HOUR = 0.04
"""US dollars for a core and hour with its memory: about what general-purpose instances cost."""

GIB = 1024**3
MIB = 1024**2


class Plan(NamedTuple):
    """What a way of batching takes at the rate."""

    name: str
    spent: float
    """CPU µs of an event."""
    payload: float
    """Bytes of an event in its documents."""
    stored: float
    """The same, as the outbox stores it."""
    documents: float
    """Of an event."""
    waiting: float
    """Bytes of memory of an event for as long as it waits; 0: it does not."""
    ticks: float
    """Share of a core for the ticks of a partition."""

    @property
    def worker_rate(self) -> float:
        """Return the events a second that a worker takes."""
        return BUSY * 1e6 / self.spent

    @property
    def workers(self) -> int:
        """Return how many workers there have to be."""
        return math.ceil(RATE / self.worker_rate)

    @property
    def memory(self) -> float:
        """Return the bytes that all windows take together."""
        return RATE * WINDOW_SECONDS * self.waiting

    @property
    def shards(self) -> int:
        """Return the shards of the stream, by bytes or by records."""
        return math.ceil(RATE * max(self.payload / SHARD_BYTES, self.documents / SHARD_RECORDS))

    @property
    def disk(self) -> float:
        """Return the bytes of the outbox on all brokers."""
        return RATE * self.stored * REPLICAS * OUTBOX_DAYS * 86_400

    @property
    def cost(self) -> dict[str, float]:
        """Return the US dollars of a million events, by what they are for."""
        million = 1e6 / RATE / 3600  # hours
        units = self.documents * math.ceil(self.payload / self.documents / UNIT_BYTES)
        return {
            "workers": self.workers * CORE_HOUR * million,
            "shards": self.shards * SHARD_HOUR * million,
            "puts": units * UNIT_MILLION,
        }

    def rows(self) -> list[str]:
        """Return what the table says of it."""
        return [
            f"{self.spent:.1f}",
            f"{self.worker_rate:,.0f}",
            f"{self.workers:,}",
            f"{self.memory / GIB:,.0f} GiB" if self.waiting else "none",
            f"{self.memory / self.workers / GIB + PROCESS_MIB / 1024:,.1f} GiB",
            f"{RATE * self.documents:,.0f}",
            f"{self.shards:,}",
            f"{RATE * UPLOAD_BYTES / MIB:,.0f} MiB/s",
            f"{RATE * self.stored / MIB:,.0f} MiB/s",
            f"{RATE * self.payload * 4 / 3 / MIB:,.0f} MiB/s",
            f"{self.disk / 1e12:,.0f} TB",
            *(f"{spent:.4f}" for spent in self.cost.values()),
            f"**{sum(self.cost.values()):.4f}**",
        ]


ROWS = (
    "CPU µs an event",
    "events a second of a worker (a core used to 70 %)",
    "workers",
    "memory of open windows, all workers",
    "memory of a worker",
    "documents a second",
    "shards",
    "network: Kafka to the workers",
    "network: workers to the outbox (times three between brokers)",
    "network: workers to Kinesis",
    "disk of the outbox, seven days, three replicas",
    "US$ for a million events: workers",
    "US$: shards",
    "US$: puts",
    "US$: together",
)


def plans(figures: dict[str, Any]) -> list[Plan]:
    """Return the ways there are."""
    bytes_ = figures["others"]["outbox"]
    memory = figures["others"]["memory"]
    ticks = figures["others"]["idle"]["ticking_share"] / MEASURED_PARTITIONS
    many = figures["loads"]["1-event"]["workers"]["worker"]["events_a_document"]
    two = figures["loads"]["1k-devices"]["workers"]["worker"]["events_a_document"]
    context = bytes_["single_payload_bytes"] - bytes_["payload_bytes"]
    return [
        Plan(
            f"busy devices ({many:.0f} events a document)",
            _spent(figures, "1-event"),
            bytes_["payload_bytes"],
            bytes_["stored_bytes"],
            1 / many,
            memory["of_ten_bytes"],
            ticks,
        ),
        Plan(
            f"quiet devices ({two:.1f} events a document)",
            _spent(figures, "1k-devices"),
            bytes_["single_payload_bytes"] - context * (1 - 1 / two),
            (bytes_["stored_bytes"] + bytes_["single_stored_bytes"]) / 2,
            1 / two,
            memory["alone_bytes"],
            ticks,
        ),
        Plan(
            "batching off (every event a document)",
            _spent(figures, "individual"),
            bytes_["single_payload_bytes"],
            bytes_["single_stored_bytes"],
            1.0,
            0.0,
            ticks,
        ),
    ]


def text(figures: dict[str, Any]) -> str:
    """Return the page."""
    found = plans(figures)
    first = found[0]
    partitions = TICKS / first.ticks
    crash = figures["others"]["crash"]
    waiting = first.worker_rate * WINDOW_SECONDS
    parts = {
        "table": "\n".join(_table(found)),
        "commit": figures["about"]["commit"],
        "processor": figures["about"]["processor"],
        "ticks": f"{first.ticks:.2%}",
        "partitions": f"{partitions:,.0f}",
        "topic": f"{_round(first.workers * 4):,}",
        "workers": f"{first.workers:,}",
        "worker_rate": f"{first.worker_rate:,.0f}",
        "waiting": f"{waiting / 1e6:,.0f}",
        "replay": f"{waiting * crash['replaying_us'] / 1e6:,.0f}",
        "replaying": f"{crash['replaying_us']:.1f}",
        "minute": f"{first.memory / WINDOW_SECONDS * 60 / first.workers / GIB:,.1f}",
        "flat": f"{_flat(figures):.2f}",
    }
    page = TEXT.read_text()
    for name, part in parts.items():
        page = page.replace(f"<<{name}>>", part)
    return page


def _flat(figures: dict[str, Any]) -> float:
    return _spent(figures, "2-workers") / _spent(figures, "1-event")


def _spent(figures: dict[str, Any], load: str) -> float:
    rounds: list[float] = figures["loads"][load]["spent"]["worker"]
    return statistics.median(rounds)


def _round(count: int) -> int:
    """Return the next multiple of 12, which has many divisors."""
    return math.ceil(count / 12) * 12


def _table(found: Iterable[Plan]) -> list[str]:
    columns = [[plan.name, *plan.rows()] for plan in found]
    head = ["", *(column[0] for column in columns)]
    body = [[name, *(column[place] for column in columns)] for place, name in enumerate(ROWS, 1)]
    lines = [head, ["---"] * len(head), *body]
    return ["| " + " | ".join(line) + " |" for line in lines]

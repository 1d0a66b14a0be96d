"""What documents take, by themselves and as the outbox stores them: a third of each is noise."""

from collections.abc import Iterator

import zstandard

from forwarder.collect.pipeline import Pipeline
from forwarder.config.connection import Connection, Settings
from forwarder.config.targets import KinesisTarget
from forwarder.model import Batch, Partition
from tests.bench.windows import records
from tests.builders import NOW, finished, lane_set

UPLOADS = 20_000
EACH = 25
"""Uploads of a device, which become one document where events are put together."""
LEVEL = 1
RECORD_BYTES = 256 * 1024
"""About as much as a busy lane has at a tick."""


def measured() -> dict[str, float]:
    """Return bytes of each event: of documents with many, of those with one, and both stored."""
    together, alone = sizes(single=False), sizes(single=True)
    return {
        "payload_bytes": together[0],
        "stored_bytes": together[1],
        "single_payload_bytes": alone[0],
        "single_stored_bytes": alone[1],
    }


def sizes(*, single: bool) -> tuple[float, float]:
    """Return the bytes of an event in its document, and compressed."""
    payload = stored = waiting = 0
    block: list[bytes] = []
    compressor = zstandard.ZstdCompressor(LEVEL)
    for batch in batches(single=single):
        block.append(batch.payload)
        payload += len(batch.payload)
        waiting += len(batch.payload)
        if waiting >= RECORD_BYTES:
            stored += len(compressor.compress(b"".join(block)))
            block, waiting = [], 0
    stored += len(compressor.compress(b"".join(block)))
    return payload / UPLOADS, stored / UPLOADS


def batches(*, single: bool) -> Iterator[Batch]:
    """Yield every batch of the uploads."""
    settings = Settings(send_as_batch=not single)
    acme = Connection("acme", KinesisTarget("acme", "us-east-1"), settings=settings)
    pipeline = Pipeline(Partition("raw", 0), lane_set(acme))
    for poll in records(UPLOADS, UPLOADS // EACH, 1000):
        yield from pipeline.collect(poll, NOW).batches
    for closed in finished(pipeline):
        yield from closed.batches

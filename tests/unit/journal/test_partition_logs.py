"""Where the logs of a partition end, and what is read of its outbox."""

from types import SimpleNamespace

import pytest

from forwarder.errors import JournalError
from forwarder.journal.contract import OutboxRecord
from forwarder.journal.partition_logs import PartitionLogs, risen_end
from forwarder.kafka.admin import KafkaAdmin
from forwarder.kafka.reader import PartitionReader, ReadRecords
from forwarder.model import Partition
from tests.services.kafka_world import World

LOG = Partition("forwarder.outbox.raw-events", 3)


def test_a_log_ends_behind_what_was_stored_last() -> None:
    assert 9 == risen_end(LOG, 5, [6, 7, 8])
    assert 5 == risen_end(LOG, 5, [])


def test_a_record_below_the_end_known_is_in_another_log() -> None:
    with pytest.raises(JournalError, match=r"raw-events/3 stored a record at offset 4.*at 5"):
        risen_end(LOG, 5, [4, 5])


async def test_a_record_that_no_worker_wrote_is_read_with_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = [
        SimpleNamespace(offset=4, key=None, value=b"foreign"),
        SimpleNamespace(offset=5, key=b"\xff", value=b"foreign"),
        SimpleNamespace(offset=6, key=b"acme", value=b"batches"),
    ]

    async def read(*_: object) -> ReadRecords:
        return ReadRecords(found, 7, 21)

    monkeypatch.setattr(PartitionReader, "read", read)
    kafka = World("127.0.0.1:1").settings().kafka
    logs = PartitionLogs(kafka, "me", KafkaAdmin(kafka, "me"), Partition("raw-events", 3))
    records = (await logs.read_outbox(4, 7, 1_000)).records
    assert OutboxRecord(6, "acme", b"batches") == records[-1]
    assert [b"foreign", b"foreign"] == [record.value for record in records[:2]]

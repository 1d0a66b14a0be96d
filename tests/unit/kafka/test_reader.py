"""Why a stretch cannot be read is told as the partition's leader says it."""
# ruff: noqa: SLF001  # a client is put in place by hand

import time
from types import SimpleNamespace

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaStorageError

from forwarder.errors import JournalError
from forwarder.kafka import reader as kafka_reader
from forwarder.kafka.patches.consumers import FetchError
from forwarder.kafka.reader import PartitionReader
from forwarder.model import Partition
from tests.services.kafka_world import World

OUTBOX = Partition("outbox", 0)
WHERE = TopicPartition("outbox", 0)


class Nothing:
    """A consumer that brings no record."""

    def __init__(self, refused: dict[TopicPartition, FetchError]) -> None:
        client = SimpleNamespace(refused=refused)
        self._fetcher = SimpleNamespace(_client=client, _records={})

    def seek(self, *_: object) -> None:
        """Go there."""

    pause = resume = seek

    async def position(self, _: object) -> int:
        return 0

    async def getmany(self, **_: object) -> dict[object, object]:
        return {}


@pytest.mark.parametrize("refused", [True, False])
async def test_a_reader_that_waits_in_vain_says_what_its_leader_answers(
    monkeypatch: pytest.MonkeyPatch,
    refused: bool,  # noqa: FBT001
) -> None:
    monkeypatch.setattr(kafka_reader, "STALL_SECONDS", 0.05)
    reader = PartitionReader(World("127.0.0.1:1").settings().kafka, "me", [OUTBOX])
    said = {WHERE: FetchError(KafkaStorageError("code 56"), time.monotonic())} if refused else {}
    reader._consumer = Nothing(said)
    with pytest.raises(JournalError, match="outbox/0 cannot be read") as told:
        await reader.read(OUTBOX, 0, 9, 1000)
    assert refused is ("code 56" in told.value.what)
    assert refused is ("disks" in told.value.remedy)

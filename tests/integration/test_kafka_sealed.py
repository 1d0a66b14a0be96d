"""What the readers of the journal and of dead letters do about a batch beyond the bound."""

import pytest

from forwarder.errors import JournalError
from forwarder.kafka.patches.records import LIMIT
from forwarder.kafka.reader import PartitionReader
from forwarder.model import Partition, Sealed
from tests.services import kafka_batches
from tests.services.kafka_world import World

pytestmark = pytest.mark.service

MIB = 1024 * 1024


async def test_a_reader_of_the_journal_names_it_and_one_of_letters_passes_over_it(
    kafka: str,
) -> None:
    world = World(kafka, partitions=1)
    await world.create_input()
    records = b"".join(kafka_batches.record(n, b" " * MIB) for n in range(70))
    packed = kafka_batches.packed(records, 70, "zstd")
    await world.produce([b"one"])
    await kafka_batches.send(kafka, world.topic, 0, packed)
    await world.produce([b"last"])
    where = Partition(world.topic, 0)

    reader = PartitionReader(world.settings().kafka, "reader", [where])
    with pytest.raises(JournalError, match=rf"{world.topic}/0 cannot be read: .* 1 to 70") as told:
        assert [] == [one async for one in reader.records(where, 0, 72) if one.offset > 0]
    assert "only workers may write" in told.value.remedy
    with pytest.raises(JournalError, match="max_unpacked_batch"):
        await reader.read(where, 0, 72, MIB, [])
    await reader.close()

    letters = PartitionReader(world.settings().kafka, "letters", [where], any_writer=True)
    found = [one async for one in letters.records(where, 0, 72)]
    assert [0, 70, 71] == [one.offset for one in found]
    assert isinstance(found[1].value, Sealed)
    assert LIMIT < 70 * MIB
    await letters.close()

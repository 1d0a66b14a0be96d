"""The far end: every record of the streams, as a consumer in the customer's account reads them."""

from typing import Any

from tests.demo.connections import CONNECTIONS
from tests.services.ministack import CUSTOMER_ACCOUNT, MiniStack, Stored, root_of


class Streams:
    """A place in every shard of every stream."""

    def __init__(self, emulator: MiniStack) -> None:
        """Begin at the oldest record."""
        self._kinesis = emulator.client("kinesis", root_of(CUSTOMER_ACCOUNT))
        self._places = {
            (shown.name, shard["ShardId"]): self._beginning(shown.name, shard["ShardId"])
            for shown in CONNECTIONS
            for shard in self._kinesis.list_shards(StreamName=shown.name)["Shards"]
        }

    def poll(self) -> dict[str, list[Stored]]:
        """Return what has arrived since the last call, by stream."""
        found: dict[str, list[Stored]] = {shown.name: [] for shown in CONNECTIONS}
        for (stream, shard), place in self._places.items():
            answer = self._kinesis.get_records(ShardIterator=place)
            self._places[stream, shard] = answer["NextShardIterator"]
            found[stream] += map(_stored, answer["Records"])
        return found

    def _beginning(self, stream: str, shard: str) -> str:
        answer = self._kinesis.get_shard_iterator(
            StreamName=stream, ShardId=shard, ShardIteratorType="TRIM_HORIZON"
        )
        return str(answer["ShardIterator"])


def _stored(record: dict[str, Any]) -> Stored:
    return Stored(record["PartitionKey"], record["SequenceNumber"], record["Data"])

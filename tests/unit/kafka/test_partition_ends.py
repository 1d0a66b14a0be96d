"""Who holds a partition back, as far as the brokers tell it."""

from types import SimpleNamespace
from typing import Any

import pytest

from forwarder.kafka import partition_ends
from forwarder.kafka.protocol import (
    DescribeProducersRequest,
    DescribeTransactionsRequest,
    ListTransactionsRequest,
)
from forwarder.model import OpenTransaction
from forwarder.ops.stall import transaction_text


class Broker:
    """One broker, asked through a client; producer 4711 wrote last at 9 s."""

    def __init__(self, *, names: bool, describes: bool) -> None:
        self._names = names
        self._describes = describes
        self.cluster = SimpleNamespace(
            leader_for_partition=lambda _: 1, brokers=lambda: [SimpleNamespace(nodeId=1)]
        )

    async def send(self, _: int, request: object) -> Any:  # noqa: ANN401  # as the client's own
        if isinstance(request, DescribeProducersRequest):
            producers: list[Any] = [(4711, 0, 5, 9_000, 0, 12, {})]
            return SimpleNamespace(topics=[("raw", [(0, 0, None, producers, {})])])
        if isinstance(request, ListTransactionsRequest):
            found: list[Any] = [("billing-7", 4711, "Ongoing", {})] if self._names else []
            return SimpleNamespace(transaction_states=found)
        assert isinstance(request, DescribeTransactionsRequest)
        if not self._describes:
            raise OSError
        state: Any = (0, "billing-7", "Ongoing", 60_000, 4_000, 4711, 0, [], {})
        return SimpleNamespace(transaction_states=[state])


@pytest.mark.parametrize(
    ("tells", "expected", "said"),
    [
        ("", OpenTransaction(4711, wrote_ms=9_000), "is open, and last wrote at"),
        ("name", OpenTransaction(4711, 0, "billing-7", 0, 9_000), "is open, and last wrote at"),
        ("all", OpenTransaction(4711, 4_000, "billing-7", 60_000, 9_000), "is open since"),
    ],
)
async def test_the_time_of_the_last_record_is_never_taken_for_the_begin(
    tells: str, expected: OpenTransaction, said: str
) -> None:
    client = Broker(names=bool(tells), describes=tells == "all")
    assert expected == await partition_ends.oldest_transaction(client, "raw", 0)
    assert said in transaction_text(expected)


def test_where_no_time_is_told_none_is_said() -> None:
    said = transaction_text(OpenTransaction(1))
    assert "(its transactional id is not told) is open" == said.partition("r 1 ")[2]

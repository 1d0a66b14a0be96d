"""A transaction of the client goes step by step, whatever is answered."""
# ruff: noqa: ANN401, SLF001  # the client ships no types, and has no public way to these

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    InvalidTxnState,
    KafkaError,
    OutOfOrderSequenceNumber,
    ProducerFenced,
    for_code,
)

from forwarder.kafka import patches
from forwarder.kafka.patches import senders

CONCURRENT = 51
FENCED = 47
NO_LEADER = 6
LOADING = 14
INVALID_STATE = 48
CHAIN = ["AddPartitionsToTxn", "Produce", "AddOffsetsToTxn", "TxnOffsetCommit", "EndTxn"]
RAW = TopicPartition("raw", 0)


class Brokers:
    """Answers every request; keeps what was asked, and of whom."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.stored: asyncio.Queue[int] = asyncio.Queue()
        self.codes: dict[str, list[int]] = {}
        self.held: asyncio.Event | None = None
        self.offset = 0

    async def send(self, node: int, request: Any, **_: object) -> Any:
        name = type(request).__name__.removesuffix("Request")
        self.asked.append(name)
        code = self.codes[name].pop(0) if self.codes.get(name) else 0
        if name == "Produce":
            self.stored.put_nowait(node)
            return await self._store(request, code)
        await asyncio.sleep(0)
        named = getattr(request, "_topics", ())
        rows = [(topic, [(one[0] if type(one) is tuple else one, code) for one in its])
                for topic, its in named]  # fmt: skip
        return SimpleNamespace(error_code=code, errors=rows, producer_id=7, producer_epoch=1)

    async def _store(self, request: Any, code: int) -> Any:
        if self.held is not None:
            await self.held.wait()
        self.offset += 10
        rows = [
            (topic, [(number, code, self.offset, -1, 0) for number, _ in its])
            for topic, its in request._topics
        ]
        return SimpleNamespace(API_VERSION=7, topics=rows)


@pytest.fixture
async def brokers(monkeypatch: pytest.MonkeyPatch) -> Brokers:
    patches.install()
    monkeypatch.setattr("aiokafka.producer.sender.BACKOFF_OVERRIDE", 0.0)
    return Brokers()


@pytest.fixture
async def producer(brokers: Brokers) -> AsyncIterator[Any]:
    """Give a producer that has begun, whose partitions have a leader each."""
    made: Any = AIOKafkaProducer(
        bootstrap_servers="127.0.0.1:1",
        transactional_id="g/raw/0",
        acks="all",
        max_batch_size=2000,
        retry_backoff_ms=1,
    )

    async def known(*_: object, **__: object) -> Any:
        return 1

    client = made.client
    client.send, client.coordinator_lookup, client.ready = brokers.send, known, known
    client._wait_on_metadata = client._maybe_wait_metadata = known
    client.force_metadata_update = lambda: None
    client.cluster.partitions_for_topic = lambda _: {0, 1}
    client.cluster.leader_for_partition = lambda tp: tp.partition + 1
    await made._sender.start()
    brokers.asked.clear()
    yield made
    if brokers.held is not None:
        brokers.held.set()
    await made.stop()


async def commit(producer: Any, *numbers: int, size: int = 10) -> list[int]:
    """Write a message into each of these partitions, and commit an offset."""
    await producer.begin_transaction()
    sent = [await producer.send("raw", b"x" * size, partition=number) for number in numbers]
    found = [one.offset for one in await asyncio.gather(*sent)]
    await producer.send_offsets_to_transaction({RAW: (5, "")}, "g")
    await producer.commit_transaction()
    return found


async def test_each_step_is_asked_once_and_in_its_order(producer: Any, brokers: Brokers) -> None:
    assert type(producer._sender) is senders.StepwiseSender
    assert [10] == await commit(producer, 0)
    assert brokers.asked == CHAIN
    assert [20] == await commit(producer, 0)
    assert brokers.asked == CHAIN + CHAIN


async def test_messages_of_one_partition_go_together_and_those_that_do_not_fit_after_them(
    producer: Any, brokers: Brokers
) -> None:
    assert [10, 11, 12] == await commit(producer, 0, 0, 0)
    brokers.asked.clear()
    assert [20, 30, 40] == await commit(producer, 0, 0, 0, size=1500)
    assert [CHAIN[0], *[CHAIN[1]] * 3, *CHAIN[2:]] == brokers.asked


async def test_several_brokers_are_sent_to_at_once(producer: Any, brokers: Brokers) -> None:
    brokers.held = asyncio.Event()
    task = asyncio.ensure_future(commit(producer, 0, 1))
    async with asyncio.timeout(5):
        assert {1, 2} == {await brokers.stored.get(), await brokers.stored.get()}
    brokers.held.set()
    assert {10, 20} == set(await task)


@pytest.mark.parametrize(
    ("step", "code"),
    [
        ("AddPartitionsToTxn", CONCURRENT),
        ("Produce", NO_LEADER),
        ("AddOffsetsToTxn", CONCURRENT),
        ("TxnOffsetCommit", LOADING),
        ("EndTxn", CONCURRENT),
    ],
)
async def test_a_step_that_is_refused_for_a_time_is_asked_again(
    producer: Any, brokers: Brokers, step: str, code: int
) -> None:
    brokers.codes[step] = [code, code]
    await commit(producer, 0)
    expected = [one for known in CHAIN for one in [known] * (3 if known == step else 1)]
    assert expected == brokers.asked


@pytest.mark.parametrize("step", CHAIN)
async def test_a_fence_ends_the_transaction_and_the_sender(
    producer: Any, brokers: Brokers, step: str
) -> None:
    brokers.codes[step] = [FENCED]
    with pytest.raises(ProducerFenced):
        async with asyncio.timeout(5):
            await commit(producer, 0)
    assert brokers.asked == CHAIN[: CHAIN.index(step) + 1]


async def test_whatever_else_ends_the_sender_is_the_cause_of_an_error(
    producer: Any, brokers: Brokers
) -> None:
    brokers.codes["EndTxn"] = [INVALID_STATE]
    with pytest.raises(KafkaError, match="Unexpected error") as caught:
        await commit(producer, 0)
    assert for_code(INVALID_STATE) is InvalidTxnState is type(caught.value.__cause__)


async def test_a_sender_that_is_ended_has_no_error(producer: Any, brokers: Brokers) -> None:
    brokers.held = asyncio.Event()
    task = asyncio.ensure_future(commit(producer, 0))
    await brokers.stored.get()
    await producer._sender.close()
    assert producer._sender.sender_task.done()
    assert producer._sender.sender_task.exception() is None
    task.cancel()
    brokers.held.set()
    producer._message_accumulator.fail_all(OutOfOrderSequenceNumber())


async def test_an_aborted_transaction_commits_nothing(producer: Any, brokers: Brokers) -> None:
    await producer.begin_transaction()
    await (await producer.send("raw", b"", partition=0))
    await producer.abort_transaction()
    assert [CHAIN[0], CHAIN[1], CHAIN[4]] == brokers.asked

"""When a transaction is given up, without a broker."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    ConsumerStoppedError,
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    ProducerClosed,
    ProducerFenced,
)

from forwarder.config.settings import InputTopic, Kafka
from forwarder.errors import FencedError, JournalError
from forwarder.kafka import client as kafka_client
from forwarder.kafka.patches import requests
from forwarder.kafka.producer import TICK_SECONDS, TRANSACTION_MS, TransactionalProducer
from forwarder.kafka.reader import PartitionReader
from forwarder.model import Partition
from forwarder.sources import kafka as source
from forwarder.worker import worker
from tests.world import virtually


class Client:
    """The connections of a producer."""

    _sync_task = _md_update_fut = None

    def __init__(self) -> None:
        self.closed = False

    async def close(self) -> None:
        self.closed = True


class Producer:
    """A producer that never answers, and whose sender ends as told."""

    def __init__(self, fault: BaseException, seconds: float) -> None:
        self.client = Client()
        self.stopping = asyncio.Event()
        self._sender = SimpleNamespace(sender_task=asyncio.ensure_future(fail(fault, seconds)))
        self._txn_manager = SimpleNamespace(_transaction_waiter=None)
        self._message_accumulator = SimpleNamespace(fail_all=lambda _: None, _batches={})

    async def begin_transaction(self) -> None:
        await asyncio.Event().wait()

    async def stop(self) -> None:
        self.stopping.set()
        await asyncio.Event().wait()


class Ending(Producer):
    """One that accepts everything, and whose commit waits for its end, as the client's does."""

    cancels = False

    async def begin_transaction(self) -> None:
        pass

    async def commit_transaction(self) -> None:
        await self.stopping.wait()
        if self.cancels:
            raise asyncio.CancelledError
        raise ProducerClosed

    async def stop(self) -> None:
        self.stopping.set()


async def fail(fault: BaseException, seconds: float) -> None:
    await asyncio.sleep(seconds)
    raise fault


def writer(fault: BaseException, seconds: float) -> TransactionalProducer:
    made = TransactionalProducer(Kafka(("127.0.0.1:1",), (InputTopic("raw"),)), "c", "g/raw/0")
    producer: Any = Producer(fault, seconds)
    made._producer = producer  # noqa: SLF001  # the real one needs a broker
    return made


async def until_given_up(made: TransactionalProducer) -> tuple[type[BaseException], float]:
    """Return how a commit ended, and after how many seconds."""
    begun = asyncio.get_running_loop().time()
    with pytest.raises(JournalError) as caught:
        await made.commit([], {})
    return caught.type, asyncio.get_running_loop().time() - begun


@virtually
async def test_a_transaction_is_given_up_as_soon_as_the_clients_sender_has_ended() -> None:
    made = writer(KafkaConnectionError("closed"), 3.0)
    assert (JournalError, 3.0) == await until_given_up(made)
    assert (JournalError, 0.0) == await until_given_up(made)


@virtually
async def test_a_sender_that_ended_of_a_fence_tells_of_another_owner() -> None:
    assert (FencedError, 3.0) == await until_given_up(writer(ProducerFenced(), 3.0))


@virtually
async def test_a_transaction_is_given_up_in_time_though_the_sender_lives() -> None:
    made = writer(KafkaConnectionError("closed"), 1e6)
    assert (JournalError, TICK_SECONDS) == await until_given_up(made)
    made._producer._sender.sender_task.cancel()  # noqa: SLF001


@virtually
async def test_nothing_of_a_closed_producer_goes_on_however_it_was_caught() -> None:
    made = TransactionalProducer(Kafka(("127.0.0.1:1",), (InputTopic("raw"),)), "c", "g/raw/0")
    producer = AIOKafkaProducer(**made._arguments)  # noqa: SLF001
    sender = producer._sender  # noqa: SLF001
    producer._txn_manager.set_pid_and_epoch(1, 0)  # noqa: SLF001  # as if it had been told
    producer._txn_manager.begin_transaction()  # noqa: SLF001
    producer._txn_manager.maybe_add_partition_to_txn(TopicPartition("raw", 0))  # noqa: SLF001
    waiting = producer._message_accumulator  # noqa: SLF001
    sent = await waiting.add_message(TopicPartition("raw", 0), None, b"x", 1)
    producer.client.coordinator_lookup = lambda *_: fail(NodeNotReadyError(), 0.1)
    await sender.start()  # it waits for news of the cluster, to ask again for the coordinator
    made._producer = producer  # noqa: SLF001
    await asyncio.sleep(1)
    await made.close()
    await asyncio.sleep(60)
    assert isinstance(sent.exception(), KafkaError)
    assert {asyncio.current_task()} == asyncio.all_tasks()


def writing(made: TransactionalProducer, kind: type[Producer]) -> Any:  # noqa: ANN401  # what the client is like
    """Have a writer use a producer of a kind whose sender goes on."""
    made._producer = kind(KafkaConnectionError("closed"), 1e6)  # noqa: SLF001  # no broker is here
    return made._producer  # noqa: SLF001


def unstarted() -> TransactionalProducer:
    return TransactionalProducer(Kafka(("127.0.0.1:1",), (InputTopic("raw"),)), "c", "g/raw/0")


@virtually
async def test_a_transaction_that_its_writer_is_closed_under_has_failed_like_any_other() -> None:
    made = unstarted()
    writing(made, Ending)
    committing = asyncio.ensure_future(made.commit([], {}))
    await asyncio.sleep(1)
    await made.close()
    with pytest.raises(JournalError, match="ProducerClosed"):
        await committing
    with pytest.raises(JournalError, match="ProducerClosed"):
        await made.commit([], {})


@virtually
async def test_a_transaction_of_a_writer_that_was_never_started_or_is_closed_fails_alike() -> None:
    with pytest.raises(JournalError, match="its producer is closed"):
        await unstarted().commit([], {})
    made = unstarted()
    writing(made, Ending)
    await made.close()
    with pytest.raises(JournalError, match="its producer is closed"):
        await made.prove("raw", 0)


@virtually
async def test_a_transaction_that_its_client_cancels_has_failed_like_any_other() -> None:
    made = unstarted()
    producer: Any = writing(made, Ending)
    producer.cancels = True
    committing = asyncio.ensure_future(made.commit([], {}))
    await asyncio.sleep(1)
    producer.stopping.set()
    with pytest.raises(JournalError, match="given up half-way"):
        await committing
    await made.close()


@virtually
async def test_a_transaction_that_is_cancelled_ends_as_cancelled() -> None:
    made = unstarted()
    writing(made, Ending)
    committing = asyncio.ensure_future(made.commit([], {}))
    await asyncio.sleep(1)
    committing.cancel()
    await asyncio.wait({committing})
    assert committing.cancelled()
    await made.close()


@virtually
async def test_a_close_that_is_cancelled_goes_on_and_the_next_waits_for_its_end() -> None:
    made = unstarted()
    producer = writing(made, Producer)
    first = asyncio.ensure_future(made.close())
    await asyncio.sleep(1)
    first.cancel()
    await asyncio.wait({first})
    assert (True, False) == (first.cancelled(), producer.client.closed)
    begun = asyncio.get_running_loop().time()
    await made.close()
    waited = asyncio.get_running_loop().time() - begun
    assert (True, kafka_client.CLOSE_SECONDS - 1) == (producer.client.closed, waited)
    await asyncio.sleep(1)
    assert {asyncio.current_task()} == asyncio.all_tasks(), "its sender has ended"


class Consumer:
    """A reader's consumer whose own way to stop hangs."""

    def __init__(self) -> None:
        self._client = Client()

    async def stop(self) -> None:
        await asyncio.Event().wait()


@virtually
async def test_a_reader_whose_close_is_cancelled_leaves_no_connection_open() -> None:
    reader = PartitionReader(
        Kafka(("127.0.0.1:1",), (InputTopic("raw"),)), "c", [Partition("raw", 0)]
    )
    consumer: Any = Consumer()
    reader._consumer = consumer  # noqa: SLF001  # the real one needs a broker
    first = asyncio.ensure_future(reader.close())
    await asyncio.sleep(1)
    first.cancel()
    await asyncio.wait({first})
    await reader.close()
    assert consumer._client.closed  # noqa: SLF001
    with pytest.raises(ConsumerStoppedError):  # as one that another task closes while it reads
        await reader._fetch(TopicPartition("raw", 0), 1)  # noqa: SLF001


def test_what_a_revoked_partition_may_take_fits_into_the_rebalance() -> None:
    heartbeat = source.HEARTBEAT_MS / 1000
    # A tick takes longer only where Kafka does not answer within the client's patience.
    longest = heartbeat + worker.SETTLE_SECONDS + requests.IMPATIENCE
    assert longest < source.REBALANCE_MS / 1000 < source.REQUEST_MS / 1000


def test_the_broker_ends_no_transaction_that_a_tick_may_still_commit() -> None:
    assert TICK_SECONDS < TRANSACTION_MS / 1000

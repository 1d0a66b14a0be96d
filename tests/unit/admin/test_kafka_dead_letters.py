"""Sending dead letters back is ended between transactions, never in one."""

import asyncio
from collections.abc import Sequence

import pytest

from forwarder.admin.kafka_dead_letters import KafkaDeadLetterTopic, KafkaRedriveProducer
from forwarder.config.settings import InputTopic, Kafka
from forwarder.errors import FencedError, JournalError
from forwarder.kafka.admin import KafkaAdmin
from tests import doubles

KAFKA = Kafka(("127.0.0.1:1",), (InputTopic("raw"),), "g")


class Writer:
    """Takes a second for a transaction."""

    def __init__(self) -> None:
        self.done = 0

    async def commit(self, _messages: Sequence[object], _offsets: object) -> None:
        await asyncio.sleep(1)
        self.done += 1


def producer() -> KafkaRedriveProducer:
    letters = KafkaDeadLetterTopic(KAFKA, "me", KafkaAdmin(KAFKA, "me"))
    return KafkaRedriveProducer(KAFKA, "me", letters)


def test_a_transaction_under_way_is_ended_before_the_courier_is() -> None:
    async def story() -> int:
        stopped, writer = producer(), Writer()
        stopped._writer = writer  # type: ignore[assignment]  # noqa: SLF001  # without a Kafka
        sending = asyncio.create_task(stopped.send([]))
        await asyncio.sleep(0.1)
        sending.cancel()
        await asyncio.wait({sending})
        assert sending.cancelled()
        return writer.done

    assert 1 == doubles.run_virtually(story())


async def test_who_is_replaced_by_another_redrive_is_told_so() -> None:
    class Fenced(Writer):
        async def commit(self, _messages: Sequence[object], _offsets: object) -> None:
            text = "g/redrive: another owner took over"
            raise FencedError(text)

    replaced = producer()
    replaced._writer = Fenced()  # type: ignore[assignment]  # noqa: SLF001  # without a Kafka
    with pytest.raises(FencedError, match="another redrive of this group has begun"):
        await replaced.send([])


async def test_a_courier_that_was_not_started_sends_nothing() -> None:
    with pytest.raises(JournalError, match="not started"):
        await producer().send([])

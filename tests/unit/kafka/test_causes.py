"""Why a connection failed and why a message is sent again is known to whoever waited in vain."""

import time
from types import SimpleNamespace

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka import client as connecting
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    ConcurrentTransactions,
    KafkaConnectionError,
    MessageSizeTooLargeError,
    NodeNotReadyError,
    NotEnoughReplicasError,
)
from aiokafka.producer.sender import InitPIDHandler, SendProduceReqHandler

from forwarder.kafka import causes
from tests.services.kafka import free_port


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causes, "_failed", {})
    causes.install()


async def bootstrap(port: int) -> BaseException:
    client = AIOKafkaClient(bootstrap_servers=f"127.0.0.1:{port}")
    try:
        with pytest.raises(KafkaConnectionError) as error:
            await client.bootstrap()
        found: BaseException = error.value
        return found
    finally:
        await client.close()


async def test_a_broker_that_refuses_is_what_the_failure_is_about() -> None:
    port = free_port()
    error = await bootstrap(port)
    for follows in (error, TimeoutError(), NodeNotReadyError()):
        server, cause = causes.of(follows)
        assert (f"127.0.0.1:{port}", ConnectionRefusedError) == (server, type(cause))


async def test_it_explains_no_other_error_and_none_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await bootstrap(free_port())
    for other in (MessageSizeTooLargeError(), NotEnoughReplicasError()):
        assert ("", other) == causes.of(other)
    late = time.monotonic() + causes.FRESH + 1
    monkeypatch.setattr(causes, "time", SimpleNamespace(monotonic=lambda: late))
    gone = TimeoutError()
    assert ("", gone) == causes.of(gone)


async def test_a_connection_that_works_again_is_forgotten() -> None:
    answers: list[BaseException | None] = [ConnectionResetError(), None]

    async def connect(*_: object) -> str:
        if (error := answers.pop(0)) is not None:
            raise error
        return "connection"

    kept, gone = causes._kept(connect), TimeoutError()  # noqa: SLF001  # what install puts there
    with pytest.raises(ConnectionResetError):
        await kept("b", 1)
    assert "b:1" == causes.of(gone)[0]
    assert "connection" == await kept("b", 1)
    assert ("", gone) == causes.of(gone)


async def test_a_message_that_is_sent_again_says_why() -> None:
    producer = AIOKafkaProducer(bootstrap_servers="127.0.0.1:1")
    assert causes.refusal(producer) is None
    handler = SendProduceReqHandler(producer._sender, {})  # noqa: SLF001  # as a sender makes it
    batch = SimpleNamespace(tp=TopicPartition("outbox", 0), expired=lambda: False)
    error = NotEnoughReplicasError()
    assert handler._can_retry(error, batch)  # noqa: SLF001  # as above
    assert ("outbox", error) == causes.refusal(producer)
    await producer.stop()


async def test_a_transactional_id_that_is_not_given_yet_says_why() -> None:
    producer = AIOKafkaProducer(bootstrap_servers="127.0.0.1:1", transactional_id="t")
    handler = InitPIDHandler(producer._sender)  # noqa: SLF001  # as a sender makes it
    answer = SimpleNamespace(error_code=ConcurrentTransactions.errno)
    assert handler.handle_response(answer)
    topic, error = causes.refusal(producer) or ("?", None)
    assert ("", ConcurrentTransactions) == (topic, type(error))
    await producer.stop()


def test_every_name_of_the_client_that_is_replaced_is_where_it_was() -> None:
    causes.install()
    assert causes.__name__ == connecting.create_conn.__module__
    assert causes.__name__ == SendProduceReqHandler._can_retry.__module__  # noqa: SLF001
    assert causes.__name__ == InitPIDHandler.handle_response.__module__

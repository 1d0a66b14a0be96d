"""Why a connection failed and why a message is sent again is known to whoever waited in vain."""

from types import SimpleNamespace

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    ConcurrentTransactions,
    KafkaConnectionError,
    MessageSizeTooLargeError,
    NodeNotReadyError,
    NotEnoughReplicasError,
)
from aiokafka.producer.sender import InitPIDHandler, SendProduceReqHandler

from forwarder import clock
from forwarder.kafka.patches import connections, producers
from tests.services.kafka import free_port


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
        server, cause = connections.explain(follows)
        assert (f"127.0.0.1:{port}", ConnectionRefusedError) == (server, type(cause))


async def test_it_explains_no_other_error_and_none_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await bootstrap(free_port())
    for other in (MessageSizeTooLargeError(), NotEnoughReplicasError()):
        assert ("", other) == connections.explain(other)
    late = clock.monotonic() + connections.FRESH + 1
    monkeypatch.setattr(clock, "monotonic", lambda: late)
    gone = TimeoutError()
    assert ("", gone) == connections.explain(gone)


async def test_a_connection_that_works_again_is_forgotten() -> None:
    answers: list[BaseException | None] = [ConnectionResetError(), None]

    async def connect(*_: object) -> str:
        if (error := answers.pop(0)) is not None:
            raise error
        return "connection"

    kept, gone = connections._keeping_failures(connect), TimeoutError()  # noqa: SLF001  # what install puts there
    with pytest.raises(ConnectionResetError):
        await kept("b", 1)
    assert "b:1" == connections.explain(gone)[0]
    assert "connection" == await kept("b", 1)
    assert ("", gone) == connections.explain(gone)


async def test_a_message_that_is_sent_again_says_why() -> None:
    producer = AIOKafkaProducer(bootstrap_servers="127.0.0.1:1")
    assert producers.retried_error(producer) is None
    handler = SendProduceReqHandler(producer._sender, {})  # noqa: SLF001  # as a sender makes it
    batch = SimpleNamespace(tp=TopicPartition("outbox", 0), expired=lambda: False)
    error = NotEnoughReplicasError()
    assert handler._can_retry(error, batch)  # noqa: SLF001  # as above
    assert ("outbox", error) == producers.retried_error(producer)
    await producer.stop()


async def test_a_transactional_id_that_is_not_given_yet_says_why() -> None:
    producer = AIOKafkaProducer(bootstrap_servers="127.0.0.1:1", transactional_id="t")
    handler = InitPIDHandler(producer._sender)  # noqa: SLF001  # as a sender makes it
    answer = SimpleNamespace(error_code=ConcurrentTransactions.errno)
    assert handler.handle_response(answer)
    topic, error = producers.retried_error(producer) or ("?", None)
    assert ("", ConcurrentTransactions) == (topic, type(error))
    await producer.stop()

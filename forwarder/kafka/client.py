"""How every Kafka client of the program is set up, quietened and closed."""

import asyncio
import logging
import time
import weakref
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from aiokafka import TopicPartition
from aiokafka.conn import CloseReason
from aiokafka.errors import (
    ConsumerStoppedError,
    IllegalOperation,
    IncompatibleBrokerVersion,
    KafkaError,
    RequestTimedOutError,
)
from aiokafka.helpers import create_ssl_context
from aiokafka.protocol.group import JoinGroupRequest, SyncGroupRequest

from forwarder.config.settings import Kafka, Mechanism, Security, SecurityProtocol
from forwarder.errors import ForwarderError, StartupError
from forwarder.kafka import (
    answers,
    batches,
    cancellation,
    causes,
    error_codes,
    fetching,
    metadata,
    msk,
)
from forwarder.kafka.error_codes import Fault, Place

FAILURES = (KafkaError, ConsumerStoppedError, IllegalOperation, AssertionError, OSError)
"""What a client raises when Kafka, or its own idea of Kafka, fails; TimeoutError is an OSError.
AssertionError: it asserts on partitions its metadata does not know yet."""

UNKNOWN = (NotImplementedError, IncompatibleBrokerVersion)
"""What a client raises where the brokers know no version of a request."""

CLOSE_SECONDS = 5.0
"""How long a client may take to close before it is cut off."""

IMPATIENCE = 10.0
"""Seconds a broker may take over an answer before the connection counts as dead. Below the limit
of every step that waits for one (15 s and more): those give up and leave the connection."""

_CONNECTIONS: "weakref.WeakSet[Any]" = weakref.WeakSet()

METADATA_AGE_MS = 60_000
"""How long partitions added to a topic may go unseen; aiokafka's own default is 5 minutes."""

REPEAT_SECONDS = 60.0
"""How often one and the same message of the client library is let through."""

NOWHERE = Place()
_ENCRYPTED = (SecurityProtocol.SSL, SecurityProtocol.SASL_SSL)
_NOISY = {
    "aiokafka": logging.WARNING,
    "aiokafka.conn": logging.WARNING,
    "aiokafka.cluster": logging.WARNING,
    "aiokafka.admin.client": logging.WARNING,
    "aiokafka.consumer.consumer": logging.WARNING,
    "aiokafka.consumer.fetcher": logging.ERROR,
    # Back-to-back transactions are answered with NotEnoughReplicas while the last markers are
    # still being written, and every rebalance is a "failed" heartbeat: both are no news.
    "aiokafka.producer.sender": logging.ERROR,
    "aiokafka.consumer.group_coordinator": logging.ERROR,
}


def arguments(kafka: Kafka, client_id: str) -> dict[str, Any]:
    """Return the arguments that every client shares; raises StartupError for unusable files."""
    batches.install(kafka.max_unpacked_batch)
    causes.install()
    answers.install()
    metadata.install()
    fetching.install()
    return {
        "bootstrap_servers": list(kafka.bootstrap_servers),
        "client_id": client_id,
        "metadata_max_age_ms": METADATA_AGE_MS,
        **security_arguments(kafka.security),
    }


def security_arguments(security: Security) -> dict[str, Any]:
    """Return what the client needs to know about transport and authentication."""
    found: dict[str, Any] = {"security_protocol": security.protocol.value}
    if security.protocol in _ENCRYPTED:
        found["ssl_context"] = _ssl_context(security)
    if security.mechanism is Mechanism.AWS_MSK_IAM:
        found["sasl_mechanism"] = "OAUTHBEARER"
        found["sasl_oauth_token_provider"] = msk.provider(security)
    elif security.mechanism is not None:
        found["sasl_mechanism"] = security.mechanism.value
        found["sasl_plain_username"] = security.username
        found["sasl_plain_password"] = security.password
    return found


def _ssl_context(security: Security) -> Any:  # noqa: ANN401  # the client ships no types
    try:
        return create_ssl_context(
            cafile=security.ca_file,
            certfile=security.cert_file,
            keyfile=security.key_file,
            password=security.key_password or "",  # without one OpenSSL asks on the terminal
        )
    except OSError as error:
        text = f"the certificates for Kafka cannot be used: {error}"
        raise StartupError(text) from error


def describe(error: BaseException) -> str:
    """Return one line for people: the kind of error, and its text where it has one."""
    text = str(error).replace("\n", " ")
    name = type(error).__name__
    return text if name in text else f"{name}: {text}" if text else name


_Failed = TypeVar("_Failed", bound=ForwarderError)


def failed(kind: type[_Failed], what: str, error: BaseException, place: Place = NOWHERE) -> _Failed:
    """Return an error of the program for one of the client: what failed, why, and what to do.

    Where a broker could not be reached, why not takes the place of what followed from it.
    """
    server, cause = causes.of(error)
    said = f"{server}: {describe(cause)}" if server else describe(cause)
    lasting = error_codes.fault(cause) is Fault.OPERATOR
    return kind(f"{what}: {said}", error_codes.remedy(cause, place), lasting=lasting)


def impatient(client: Any, joining: float = 0.0) -> None:  # noqa: ANN401  # the client ships no types
    """Have a client give a silent connection up after ``IMPATIENCE`` seconds, and make a new one.

    A connection that a firewall forgot, or whose host vanished, is never reset. Behind a limit
    around the whole question it would stay, and every later question would wait on it again.
    ``joining``: seconds that the answer to joining a group may take, it waits for all members.
    """
    client._request_timeout_ms = round(IMPATIENCE * 1000)  # noqa: SLF001  # see below
    connect: Callable[..., Awaitable[Any]] = client._get_conn  # noqa: SLF001  # no public way in

    async def connected(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        connection = await connect(*arguments, **options)
        if connection is not None and "send" not in vars(connection):
            _limit(connection, joining)
        return connection

    client._get_conn = connected  # noqa: SLF001


def seal(client: Any) -> None:  # noqa: ANN401  # the client ships no types
    """Let a client make no connection any more; those it has are closed by its own ``close``.

    A producer's tasks outlive its ``stop``: what they connect to then, nobody would close, and
    news of the cluster, on which they wait between two tries, would never come.
    """

    async def none(*_: Any, **__: Any) -> None:  # noqa: ANN401
        """Return no connection: the client takes the broker for not ready."""

    def no_news() -> asyncio.Future[Any]:
        never = asyncio.get_running_loop().create_future()
        never.cancel()
        return never

    client._get_conn = none  # noqa: SLF001  # no public way in
    client.force_metadata_update = no_news
    # In this order: the task would give its news to a future that is cancelled already.
    for pending in (client._sync_task, client._md_update_fut):  # noqa: SLF001
        if pending is not None:
            pending.cancel()


def _limit(connection: Any, joining: float) -> None:  # noqa: ANN401
    usual: Callable[..., Awaitable[Any]] = connection.send
    _CONNECTIONS.add(connection)
    connection.joins = False

    async def answer(pending: Awaitable[Any], asked: float) -> Any:  # noqa: ANN401
        try:
            return await pending
        except TimeoutError as error:
            # The client's own way looks the connection up again, which may be gone: a KeyError
            # that ends its background tasks for good. A request for metadata leaves it open.
            _give_up(connection)
            _give_up_silent(connection.host, connection.port, asked)
            raise RequestTimedOutError from error
        finally:
            connection.joins = False

    def send(request: Any, expect_response: bool = True) -> Awaitable[Any]:  # noqa: ANN401, FBT001, FBT002
        connection.joins = isinstance(request, JoinGroupRequest | SyncGroupRequest)
        # Read at once, by the call that follows.
        connection._request_timeout = joining if connection.joins else IMPATIENCE  # noqa: SLF001
        return answer(usual(request, expect_response), time.monotonic())

    connection.send = send


def _give_up_silent(host: str, port: int, since: float) -> None:
    """Give up the process's other connections to a broker that have been silent all the while.

    Each would be found dead by itself, but one after the other, and only once it is needed.
    """
    for other in list(_CONNECTIONS):
        silent = other._last_action < since and not other.joins  # noqa: SLF001
        if silent and (other.host, other.port) == (host, port) and other.connected():
            _give_up(other)


def _give_up(connection: Any) -> None:  # noqa: ANN401
    writer = connection._writer  # noqa: SLF001  # unsent bytes would keep it open
    connection.close(reason=CloseReason.CONNECTION_TIMEOUT)
    if writer is not None:
        writer.transport.abort()


async def close(*steps: Callable[[], Awaitable[object]], seconds: float = CLOSE_SECONDS) -> None:
    """Run each step for ``seconds`` at most, whatever the earlier ones raised, and to the last one.

    Whoever is cancelled meanwhile waits no longer, and the steps go on: what the rest of them leave
    open nobody would close any more, and it would live as long as the process.
    A fenced producer raises from ``stop()`` and leaves its connections open, so that closing
    the client underneath is a step of its own. A consumer raises even CancelledError, of a
    fetch it cancelled itself: each step gets a task, so that this cannot be taken for ours.
    """
    await asyncio.shield(cancellation.unbroken(_close(steps, seconds)))


async def _close(steps: Iterable[Callable[[], Awaitable[object]]], seconds: float) -> None:
    for step in steps:
        task = asyncio.ensure_future(step())
        try:
            await asyncio.wait({task}, timeout=seconds)
        finally:
            task.cancel()
        await asyncio.wait({task}, timeout=seconds)
        if task.done() and not task.cancelled():
            task.exception()


async def close_consumer(consumer: Any, seconds: float = CLOSE_SECONDS) -> None:  # noqa: ANN401  # the client ships no types
    """Close a consumer and, where its own way fails, the connections it leaves open."""
    connections = consumer._client  # noqa: SLF001  # there is no public way to them
    await close(consumer.stop, connections.close, seconds=seconds)


def forget_fetched(consumer: Any, partition: TopicPartition) -> None:  # noqa: ANN401  # the client ships no types
    """Let go of what a consumer fetched and nobody took, before it seeks elsewhere.

    The client drops it too, but what it drops refers to itself and a whole fetch with it: all of
    them would stay until the garbage collector comes.
    """
    fetched = consumer._fetcher._records.pop(partition, None)  # noqa: SLF001  # no public way to it
    records = getattr(fetched, "_partition_records", None)
    if records is not None:
        records._records_iterator = None  # noqa: SLF001  # refers to the records


def quiet(*, entirely: bool = False) -> None:
    """Keep the client library's log to what an operator can use. Called once, by the app.

    ``entirely``: to nothing, for a command, whose only answer is why it has none.
    """
    for name, level in _NOISY.items():
        logger = logging.getLogger(name)
        logger.setLevel(logging.CRITICAL if entirely else level)
        if not any(isinstance(known, _Repeats) for known in logger.filters):
            logger.addFilter(_Repeats())
    loop_log = logging.getLogger("asyncio")
    if not any(isinstance(known, _Abandoned) for known in loop_log.filters):
        loop_log.addFilter(_Abandoned())


class _Repeats(logging.Filter):
    """Let a message through once per minute: clients retry ten times a second in an outage.

    As a warning at most: what the client does not mend by itself it raises, and then the worker
    says what it means.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether the last one like it is long enough ago."""
        last = self._last.get(record.msg)
        if last is not None and record.created - last < REPEAT_SECONDS:
            return False
        self._last[record.msg] = record.created
        if record.levelno > logging.WARNING:
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        return True


class _Abandoned(logging.Filter):
    """Drop what asyncio says of futures that a fenced producer fails and nobody can reach."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether this is anything but an unread exception of the Kafka client."""
        error = record.exc_info[1] if record.exc_info else None
        return not (isinstance(error, KafkaError) and "never retrieved" in record.getMessage())

"""How every Kafka client of the program is set up, quietened and closed."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from aiokafka.conn import create_conn, get_ip_port_afi
from aiokafka.errors import (
    ConsumerStoppedError,
    IllegalOperation,
    IncompatibleBrokerVersion,
    KafkaError,
)
from aiokafka.helpers import create_ssl_context

from forwarder import cancellation
from forwarder.config.settings import Kafka, Mechanism, Security, SecurityProtocol
from forwarder.errors import ForwarderError, StartupError
from forwarder.kafka import error_codes, msk, patches
from forwarder.kafka.error_codes import ErrorContext, KafkaErrorClass
from forwarder.kafka.patches import connections, producers

FAILURES = (KafkaError, ConsumerStoppedError, IllegalOperation, AssertionError, OSError)
"""What a client raises when Kafka, or its own idea of Kafka, fails; TimeoutError is an OSError.
AssertionError: it asserts on partitions its metadata does not know yet."""

UNKNOWN = (NotImplementedError, IncompatibleBrokerVersion)
"""What a client raises where the brokers know no version of a request."""

CLOSE_SECONDS = 5.0
"""How long a client may take to close before it is cut off."""

METADATA_AGE_MS = 60_000
"""How long partitions added to a topic may go unseen; aiokafka's own default is 5 minutes."""

REPEAT_SECONDS = 60.0
"""How often one and the same message of the client library is let through."""

NOWHERE = ErrorContext()
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


def client_arguments(kafka: Kafka, client_id: str) -> dict[str, Any]:
    """Return the arguments that every client shares; raises StartupError for unusable files.

    Raises RuntimeError before the client is patched.
    """
    patches.check_installed()
    return {
        "bootstrap_servers": list(kafka.bootstrap_servers),
        "client_id": client_id,
        "metadata_max_age_ms": METADATA_AGE_MS,
        **security_arguments(kafka.security),
    }


async def try_login(kafka: Kafka, client_id: str, server: str, seconds: float) -> None:
    """Connect and log in to one broker; raises ForwarderError with what keeps it from that.

    Caller: a checkup. The client library says in its log alone why it gets in nowhere.
    """
    host, port, _ = get_ip_port_afi(server)
    own = client_arguments(kafka, client_id)
    options = {k: v for k, v in own.items() if k.startswith(("security_", "ssl_", "sasl_"))}
    try:
        async with asyncio.timeout(seconds):
            connection = await create_conn(
                host, port, client_id=client_id, request_timeout_ms=10_000, **options
            )
    except FAILURES as error:
        what = f"{server} lets nobody in: {error_text(error)}"
        raise ForwarderError(what, error_codes.remedy(error, NOWHERE)) from error
    connection.close()


def security_arguments(security: Security) -> dict[str, Any]:
    """Return what the client needs to know about transport and authentication."""
    found: dict[str, Any] = {"security_protocol": security.protocol.value}
    if security.protocol in _ENCRYPTED:
        found["ssl_context"] = _ssl_context(security)
    if security.mechanism is Mechanism.AWS_MSK_IAM:
        found["sasl_mechanism"] = "OAUTHBEARER"
        found["sasl_oauth_token_provider"] = msk.token_provider(security)
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


def error_text(error: BaseException) -> str:
    """Return one line for people: the kind of error, and its text where it has one."""
    text = str(error).replace("\n", " ")
    name = type(error).__name__
    return text if name in text else f"{name}: {text}" if text else name


_Failed = TypeVar("_Failed", bound=ForwarderError)


def client_error(
    kind: type[_Failed], what: str, error: BaseException, place: ErrorContext = NOWHERE
) -> _Failed:
    """Return an error of the program for one of the client: what failed, why, and what to do.

    Where a broker could not be reached, why not takes the place of what followed from it.
    """
    server, cause = connections.explain(error)
    said = f"{server}: {error_text(cause)}" if server else error_text(cause)
    lasting = error_codes.error_class(cause) is KafkaErrorClass.OPERATOR
    return kind(f"{what}: {said}", error_codes.remedy(cause, place), lasting=lasting)


async def close_all(
    *steps: Callable[[], Awaitable[object]], seconds: float = CLOSE_SECONDS
) -> None:
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
    await close_all(consumer.stop, connections.client_of(consumer).close, seconds=seconds)


async def close_producer(producer: Any, *, flush: bool, seconds: float = CLOSE_SECONDS) -> None:  # noqa: ANN401  # as above
    """Close a producer and, where its own way fails, what it leaves behind.

    ``flush``: what it was given and has not sent is sent first, if that goes in time; else what
    waits fails at once, and what is on its way to a broker may still be stored.
    """

    async def end() -> None:
        producers.abandon(producer)
        connections.stop_connecting(producer.client)
        await producer.client.close()

    steps = (producer.stop, end) if flush else (end, producer.stop)
    await close_all(*steps, seconds=seconds)
    producers.read_exceptions(producer)


def quiet_client_log(*, entirely: bool = False) -> None:
    """Keep the client library's log to what an operator can use. Called once, by the app.

    ``entirely``: to nothing, for a command, whose only answer is why it has none.
    """
    for name, level in _NOISY.items():
        logger = logging.getLogger(name)
        logger.setLevel(logging.CRITICAL if entirely else level)
        if not any(isinstance(known, _OncePerMinute) for known in logger.filters):
            logger.addFilter(_OncePerMinute())
    loop_log = logging.getLogger("asyncio")
    if not any(isinstance(known, _AbandonedFutures) for known in loop_log.filters):
        loop_log.addFilter(_AbandonedFutures())


class _OncePerMinute(logging.Filter):
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


class _AbandonedFutures(logging.Filter):
    """Drops asyncio's "exception was never retrieved" for futures that a fenced producer leaves."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether this is anything but an unread exception of the Kafka client."""
        error = record.exc_info[1] if record.exc_info else None
        return not (isinstance(error, KafkaError) and "never retrieved" in record.getMessage())

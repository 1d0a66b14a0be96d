"""The client's connections: what is patched in them, and why one of them failed.

* Why a broker could not be reached is kept: the client only logs it, and an operator needs it where
  a question or a transaction took too long.
* An answer is read up to a bound: the client reads whatever length is announced.
* An answer about the cluster that makes no sense is none, and the client asks again: else the one
  task that knows brokers and leaders would end without a word.
* A refused OAUTHBEARER token is taken for a refusal.
"""

# ruff: noqa: SLF001  # see the package

import asyncio
import struct
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

from aiokafka import client as connecting
from aiokafka import conn
from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import (
    AuthenticationFailedError,
    GroupCoordinatorNotAvailableError,
    KafkaConnectionError,
    KafkaError,
    KafkaProtocolError,
    KafkaTimeoutError,
    NoBrokersAvailable,
    NodeNotReadyError,
    RequestTimedOutError,
    StaleMetadata,
)

from forwarder import clock

FRESH = 60.0
"""Seconds after which a failure to connect explains nothing any more."""

LARGEST_ANSWER = 256 * 1024 * 1024
"""Bytes of one answer: five times what a fetch asks for at most (50 MiB), and more than the largest
batch that a topic of ours takes beside it."""

CLUSTER_NEWS = "news of the cluster"
"""What failed, in the place of a server, where an answer about the cluster makes no sense."""

_LENGTH = struct.Struct(">i")
_PORTS = range(1, 1 << 16)
_PATCHED = "is_patched"

_FOLLOWS = (
    TimeoutError,
    GroupCoordinatorNotAvailableError,
    KafkaConnectionError,
    KafkaTimeoutError,
    NoBrokersAvailable,
    NodeNotReadyError,
    RequestTimedOutError,
    StaleMetadata,
)
"""What follows from a broker that cannot be reached, and does not say so itself."""


class BrokerFailure(NamedTuple):
    """Why a broker could not be reached or logged in to, and when (seconds, monotonic)."""

    server: str
    error: BaseException
    at: float


_failed: dict[str, BrokerFailure] = {}


def install() -> None:
    """Patch every connection that is made from now on; more than once changes nothing."""
    if not hasattr(connecting.create_conn, _PATCHED):
        connecting.create_conn = _keeping_failures(connecting.create_conn)
    AIOKafkaConnection._read = staticmethod(_read_answers)
    if not hasattr(ClusterMetadata.update_metadata, _PATCHED):
        ClusterMetadata.update_metadata = _checking(ClusterMetadata.update_metadata)
    if not hasattr(AIOKafkaClient._metadata_update, _PATCHED):
        AIOKafkaClient._metadata_update = _lasting(AIOKafkaClient._metadata_update)
    conn.OAuthAuthenticator = RefusalAwareAuthenticator


# ----------------------------------------------------------------- why a connection failed


def explain(error: BaseException) -> tuple[str, BaseException]:
    """Return the server whose connection failed last, and why, where that explains an error.

    Of any other error an empty server, and the error itself.
    """
    explained = isinstance(error, _FOLLOWS)
    now = clock.monotonic()
    recent = [one for one in _failed.values() if now - one.at < FRESH]
    if not (explained and recent):
        return "", error
    last = max(recent, key=lambda one: one.at)
    return last.server, last.error


def forget_failures() -> None:
    """Forget why every server could not be reached. Caller: tests, between each other."""
    _failed.clear()


def _note(server: str, error: BaseException) -> None:
    _failed[server] = BrokerFailure(server, error, clock.monotonic())


def _keeping_failures(connect: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def kept(host: str, port: int, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        server = f"{host}:{port}"
        try:
            connection = await connect(host, port, *arguments, **options)
        except (OSError, KafkaError) as error:
            _note(server, error)
            raise
        except (ValueError, OverflowError) as error:
            # A name or a port that is none, of a broker as an answer named it.
            _note(server, error)
            raise KafkaConnectionError(str(error)) from error
        _failed.pop(server, None)  # it answers
        return connection

    setattr(kept, _PATCHED, True)
    return kept


# ----------------------------------------------------------------- answers have a bound


async def _read_answers(alive: Callable[[], Any]) -> None:
    """Read answers until the connection ends: aiokafka 0.14's own way, with a bound.

    ``alive`` is a weak reference: a connection that nobody holds any more is not kept by this. What
    is raised here closes it.
    """
    connection = alive()
    if connection is None:
        return
    reader = connection._reader
    del connection
    while True:
        (size,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        if not 0 <= size <= LARGEST_ANSWER:
            most = LARGEST_ANSWER
            message = f"an answer of {size} bytes is announced, no broker sends one of {most}"
            raise KafkaProtocolError(message)
        answer = await reader.readexactly(size)
        connection = alive()
        if connection is None:
            return
        connection._handle_frame(answer)
        del connection, answer


# ----------------------------------------------------------------- news of the cluster


def _checking(update: Callable[..., None]) -> Callable[..., None]:
    """Raise KafkaProtocolError for whatever an answer is not; what was known stays known then."""

    def checking(cluster: Any, answer: Any) -> None:  # noqa: ANN401  # the client ships no types
        try:
            _check_brokers(answer.brokers)
            update(cluster, answer)
        except KafkaError:
            raise
        except Exception as error:
            said = f"an answer that makes no sense ({type(error).__name__}: {error})"
            raise KafkaProtocolError(said) from error

    setattr(checking, _PATCHED, True)
    return checking


def _check_brokers(brokers: Iterable[Any]) -> None:
    for _, host, port, *_ in brokers:
        if not host or port not in _PORTS:
            message = f"an answer that makes no sense (a broker at {host}:{port})"
            raise KafkaProtocolError(message)


def _lasting(update: Callable[..., Awaitable[bool]]) -> Callable[..., Awaitable[bool]]:
    """Wrap the client's metadata update so that it never raises.

    The error is kept as the cause of what follows from it.
    """

    async def lasting(client: Any, cluster: Any, topics: Any) -> bool:  # noqa: ANN401
        try:
            updated = await update(client, cluster, topics)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return _no_news(cluster, error)  # somebody else's, of what was waited for
        except Exception as error:  # noqa: BLE001  # the task that asks must not end
            return _no_news(cluster, error)
        _failed.pop(CLUSTER_NEWS, None)
        return updated

    setattr(lasting, _PATCHED, True)
    return lasting


def _no_news(cluster: Any, error: BaseException) -> bool:  # noqa: ANN401
    _note(CLUSTER_NEWS, error)
    cluster.failed_update(error)
    return False


# ----------------------------------------------------------------- what a client holds


def client_of(owner: Any) -> Any:  # noqa: ANN401  # the client ships no types
    """Return what holds the connections of a consumer or an admin client."""
    return owner._client


async def send_request(admin: Any, request: Any, node: int | None = None) -> Any:  # noqa: ANN401
    """Ask with a request of our own, the controller unless a node is named. Raises KafkaError."""
    return await admin._send_request(request, node)


def stop_connecting(client: Any) -> None:  # noqa: ANN401  # the client ships no types
    """Forbid a client to open further connections; those it has are closed by its own ``close``.

    A producer's tasks outlive its ``stop``: what they connect to then, nobody would close, and
    news of the cluster, on which they wait between two tries, would never come.
    """

    async def none(*_: Any, **__: Any) -> None:  # noqa: ANN401
        """Return no connection: the client takes the broker for not ready."""

    def no_news() -> asyncio.Future[Any]:
        never = asyncio.get_running_loop().create_future()
        never.cancel()
        return never

    client._get_conn = none
    client.force_metadata_update = no_news
    # In this order: the task would give its news to a future that is cancelled already.
    for pending in (client._sync_task, client._md_update_fut):
        if pending is not None:
            pending.cancel()


# ----------------------------------------------------------------- a refused token


class RefusalAwareAuthenticator(conn.OAuthAuthenticator):  # type: ignore[misc]  # no types
    """The client's own, which takes a refusal for success and then waits in vain for answers.

    A broker refuses a token by a challenge without an error code (RFC 7628, 3.2.2).
    """

    def __init__(self, *, sasl_oauth_token_provider: Any) -> None:  # noqa: ANN401
        super().__init__(sasl_oauth_token_provider=sasl_oauth_token_provider)
        self._provider = sasl_oauth_token_provider
        self._sent = ""

    def _build_oauth_client_request(self, token: str, token_extensions: str) -> Any:  # noqa: ANN401
        self._sent = token
        return super()._build_oauth_client_request(token, token_extensions)

    async def step(self, payload: bytes | None) -> Any:  # noqa: ANN401  # as above
        """Take the next answer of the broker; raises AuthenticationFailedError."""
        if not payload:
            return await super().step(payload)
        self._provider.refused(self._sent)
        said = payload.decode(errors="replace")[:200]
        text = f"the broker refuses the token: {said}; check the IAM policy of who signs it"
        raise AuthenticationFailedError(text)

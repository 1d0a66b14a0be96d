"""What the client only writes into its log: why a connection failed, why a message is sent again.

An operator needs both where a question or a transaction took too long. Both are kept from places
inside aiokafka 0.14 that have no public name; a test fails where one of them is another.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from aiokafka import client as connecting
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    NoBrokersAvailable,
    NodeNotReadyError,
    RequestTimedOutError,
    StaleMetadata,
    for_code,
)
from aiokafka.producer.sender import InitPIDHandler, SendProduceReqHandler

FRESH = 60.0
"""Seconds after which a failure to connect explains nothing any more."""

AGAIN = 5.0
"""Seconds within which a message that is refused for a time is sent again, and refused again."""

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

_WRAPPED = "is_kept"


class Failure(NamedTuple):
    """Why a broker could not be reached or logged in to, and when (seconds, monotonic)."""

    server: str
    error: BaseException
    at: float


_failed: dict[str, Failure] = {}


def install() -> None:
    """Have every client of this process keep them; more than once changes nothing."""
    if not hasattr(connecting.create_conn, _WRAPPED):
        connecting.create_conn = _kept(connecting.create_conn)
    if not hasattr(SendProduceReqHandler._can_retry, _WRAPPED):  # noqa: SLF001  # see above
        SendProduceReqHandler._can_retry = _noted(SendProduceReqHandler._can_retry)  # noqa: SLF001
    if not hasattr(InitPIDHandler.handle_response, _WRAPPED):
        InitPIDHandler.handle_response = _heard(InitPIDHandler.handle_response)


def of(error: BaseException) -> tuple[str, BaseException]:
    """Return the server whose connection failed last, and why, where that explains an error.

    Of any other error an empty server, and the error itself.
    """
    explained = isinstance(error, _FOLLOWS)
    now = time.monotonic()
    recent = [one for one in _failed.values() if now - one.at < FRESH]
    if not (explained and recent):
        return "", error
    last = max(recent, key=lambda one: one.at)
    return last.server, last.error


def note(server: str, error: BaseException) -> None:
    """Keep why a server could not be reached, or what else that follows from."""
    _failed[server] = Failure(server, error, time.monotonic())


def forget(server: str) -> None:
    """Forget what was kept of a server: it answers."""
    _failed.pop(server, None)


def refusal(producer: Any) -> tuple[str, BaseException] | None:  # noqa: ANN401  # no types
    """Return topic and error of what a producer has to ask or send again, if there is any.

    The topic is empty where it is its transactional id that it does not get.
    """
    topic, error, at = getattr(producer._sender, "refused", ("", None, float("-inf")))  # noqa: SLF001
    return (topic, error) if error is not None and time.monotonic() - at < AGAIN else None


def _kept(connect: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def kept(host: str, port: int, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        server = f"{host}:{port}"
        try:
            connection = await connect(host, port, *arguments, **options)
        except (OSError, KafkaError) as error:
            note(server, error)
            raise
        except (ValueError, OverflowError) as error:
            # A name or a port that is none, of a broker as an answer named it.
            note(server, error)
            raise KafkaConnectionError(str(error)) from error
        forget(server)
        return connection

    setattr(kept, _WRAPPED, True)
    return kept


def _noted(can_retry: Callable[..., bool]) -> Callable[..., bool]:
    def noted(handler: Any, error: BaseException, batch: Any) -> bool:  # noqa: ANN401
        retries = can_retry(handler, error, batch)
        handler._sender.refused = batch.tp.topic, error, time.monotonic()  # noqa: SLF001
        return retries

    setattr(noted, _WRAPPED, True)
    return noted


def _heard(handle: Callable[..., float | None]) -> Callable[..., float | None]:
    def heard(handler: Any, answer: Any) -> float | None:  # noqa: ANN401
        if answer.error_code:
            error = for_code(answer.error_code)()
            handler._sender.refused = "", error, time.monotonic()  # noqa: SLF001
        return handle(handler, answer)

    setattr(heard, _WRAPPED, True)
    return heard

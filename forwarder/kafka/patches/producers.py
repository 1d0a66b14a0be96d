"""The client's transactional producer: why it has ended, what it sends again and leaves behind.

A fence that is found between two sends shows up in the second as "not in a transaction"; a message
that brokers refuse for a time is sent again without a word; a producer that is fenced leaves
background tasks and futures with unread exceptions.
"""
# ruff: noqa: SLF001  # see the package

import asyncio
from collections.abc import Callable
from typing import Any

from aiokafka.errors import KafkaError, for_code
from aiokafka.producer.sender import InitPIDHandler, SendProduceReqHandler

from forwarder import clock

AGAIN = 5.0
"""Seconds within which a message that is refused for a time is sent again, and refused again."""

_PATCHED = "is_patched"


def install() -> None:
    """Have every producer of this process keep why it asks again; twice changes nothing."""
    if not hasattr(SendProduceReqHandler._can_retry, _PATCHED):
        SendProduceReqHandler._can_retry = _noted(SendProduceReqHandler._can_retry)
    if not hasattr(InitPIDHandler.handle_response, _PATCHED):
        InitPIDHandler.handle_response = _heard(InitPIDHandler.handle_response)


def retried_error(producer: Any) -> tuple[str, BaseException] | None:  # noqa: ANN401  # no types
    """Return topic and error of what a producer has to ask or send again, if there is any.

    The topic is empty where it is its transactional id that it does not get.
    """
    topic, error, at = getattr(producer._sender, "refused", ("", None, float("-inf")))
    return (topic, error) if error is not None and clock.monotonic() - at < AGAIN else None


def sender_task(producer: Any) -> asyncio.Task[None] | None:  # noqa: ANN401  # no types
    """Return the task that sends what a producer is given; None while that is being started."""
    task: asyncio.Task[None] | None = producer._sender.sender_task
    return task


def ended_by(producer: Any, error: BaseException) -> BaseException:  # noqa: ANN401  # no types
    """Return what ended the transaction, where the error only says that it has ended.

    A fence that is found between two sends shows up in the second as "not in a transaction".
    """
    sender = sender_task(producer)
    if isinstance(error, TimeoutError) and sender is not None and sender.done():
        ended_by = None if sender.cancelled() else sender.exception()
        return (ended_by.__cause__ or ended_by) if ended_by else error
    waiter = producer._txn_manager._transaction_waiter
    ended = waiter is not None and waiter.done() and not waiter.cancelled()
    return (waiter.exception() if ended else None) or error


def abandon(producer: Any) -> None:  # noqa: ANN401  # the client ships no types
    """End the background tasks that ``stop`` leaves behind when it is cut off."""
    if producer._sender and producer._sender.sender_task:
        producer._sender.sender_task.cancel()
    producer._message_accumulator.fail_all(KafkaError("the producer is closed"))


def read_exception(future: asyncio.Future[Any]) -> None:
    """Read the exception of a future that is done: nobody else will."""
    if future.done() and not future.cancelled():
        future.exception()


def read_exceptions(producer: Any) -> None:  # noqa: ANN401  # the client ships no types
    """Read the exceptions that a fenced producer leaves in futures of its own.

    Unread, each is logged with a traceback, from the garbage collector, at any time later.
    """
    if producer._txn_manager._transaction_waiter is not None:
        read_exception(producer._txn_manager._transaction_waiter)
    for batches in producer._message_accumulator._batches.values():
        for batch in batches:
            read_exception(batch._drain_waiter)


def _noted(can_retry: Callable[..., bool]) -> Callable[..., bool]:
    def noted(handler: Any, error: BaseException, batch: Any) -> bool:  # noqa: ANN401
        retries = can_retry(handler, error, batch)
        handler._sender.refused = batch.tp.topic, error, clock.monotonic()
        return retries

    setattr(noted, _PATCHED, True)
    return noted


def _heard(handle: Callable[..., float | None]) -> Callable[..., float | None]:
    def heard(handler: Any, answer: Any) -> float | None:  # noqa: ANN401
        if answer.error_code:
            error = for_code(answer.error_code)()
            handler._sender.refused = "", error, clock.monotonic()
        return handle(handler, answer)

    setattr(heard, _PATCHED, True)
    return heard

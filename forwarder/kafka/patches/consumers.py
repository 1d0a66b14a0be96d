"""The client's consumers: fetching that ended is begun anew, and what leaders answer is kept.

The client fetches in one task. An answer that it can take apart and makes no sense of, such as
one that names a partition nobody asked for, ends that task with an error nobody sees: the consumer
stays a member of its group and never returns a record again. An answer with an error that it does
not know, such as one of a disk, it only logs and asks again.
"""
# ruff: noqa: SLF001  # see the package

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.errors import for_code
from aiokafka.protocol.fetch import FetchRequest

from forwarder import clock

FRESH = 30.0
"""Seconds for which the error of a fetch is one that lasts: the client asks again within less."""

_PATCHED = "is_patched"


class FetchError(NamedTuple):
    """What a fetch of a partition was answered, and when (seconds, monotonic)."""

    error: BaseException
    at: float


def install() -> None:
    """Have every consumer of this process keep the errors; more than once changes nothing."""
    if not hasattr(Fetcher.__init__, _PATCHED):
        Fetcher.__init__ = _heard(Fetcher.__init__)


def fetch_error(consumer: Any, partition: TopicPartition) -> BaseException | None:  # noqa: ANN401  # the client ships no types
    """Return the error that fetches of a partition are answered with now, if they are."""
    refused: dict[TopicPartition, FetchError] = consumer._fetcher._client.refused
    found = refused.get(partition)
    fresh = found is not None and clock.monotonic() - found.at < FRESH
    return found.error if found is not None and fresh else None


def end_fetching(consumer: Any) -> None:  # noqa: ANN401  # the client ships no types
    """Have a consumer's fetching end, so that ``restart_fetching`` begins it anew."""
    consumer._fetcher._fetch_task.cancel()


def restart_fetching(consumer: Any) -> BaseException | None:  # noqa: ANN401  # the client ships no types
    """Have a consumer fetch again; return what had ended its fetching, None if nothing had.

    What it had fetched and not returned is dropped, and fetched once more: its positions move only
    as records are returned.
    """
    fetcher = consumer._fetcher
    ended = fetcher._fetch_task
    if not ended.done() or fetcher._closed:
        return None
    # Those that failed are among them, and would end the new task as they ended the old one.
    for pending in fetcher._pending_tasks:
        pending.cancel()
    fetcher._pending_tasks.clear()
    fetcher._in_flight.clear()
    fetcher._fetch_task = asyncio.ensure_future(fetcher._fetch_requests_routine())
    fault: BaseException | None = None if ended.cancelled() else ended.exception()
    return (fault.__cause__ or fault) if fault is not None else RuntimeError("fetching ended")


def assignment(consumer: Any) -> Any:  # noqa: ANN401  # the client ships no types
    """Return the client's assignment, None if it has none.

    It has a new one some steps of the loop before it calls back.
    """
    subscription = consumer._subscription.subscription
    return None if subscription is None else subscription.assignment


def member_id(consumer: Any) -> str:  # noqa: ANN401  # the client ships no types
    """Return the id that the coordinator gave this member; empty before it has joined."""
    return str(consumer._coordinator.member_id)


def rejoin(consumer: Any) -> None:  # noqa: ANN401  # the client ships no types
    """Have a member join its group anew: its heartbeats have ended."""
    consumer._coordinator.request_rejoin()


class _RecordingClient:
    """A fetcher's client, which keeps what fetches are answered with."""

    def __init__(self, client: Any) -> None:  # noqa: ANN401  # the client ships no types
        self._client = client
        self.refused: dict[TopicPartition, FetchError] = {}

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._client, name)

    async def send(self, node: int, request: Any, **options: Any) -> Any:  # noqa: ANN401
        answer = await self._client.send(node, request, **options)
        if isinstance(request, FetchRequest):
            for topic, rows in answer.topics:
                for number, code, *_ in rows:
                    if code or self.refused:  # nearly always neither
                        self._note(TopicPartition(topic, number), code)
        return answer

    def _note(self, where: TopicPartition, code: int) -> None:
        if code:
            self.refused[where] = FetchError(for_code(code)(f"code {code}"), clock.monotonic())
        else:
            self.refused.pop(where, None)


def _heard(begin: Callable[..., None]) -> Callable[..., None]:
    def heard(fetcher: Any, client: Any, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
        begin(fetcher, client, *arguments, **options)
        fetcher._client = _RecordingClient(client)

    setattr(heard, _PATCHED, True)
    return heard

"""Fetching that has ended is begun anew, whatever had ended it."""

import asyncio
from types import SimpleNamespace

from forwarder.kafka.patches import consumers


class Fetcher:
    """As much of the client's fetcher as is begun anew."""

    def __init__(self) -> None:
        self._closed = False
        self._pending_tasks: set[object] = set()
        self._in_flight: set[object] = set()
        self._fetch_task = asyncio.ensure_future(self._fetch_requests_routine())

    async def _fetch_requests_routine(self) -> None:
        await asyncio.Event().wait()


async def test_a_task_that_was_cancelled_before_its_first_step_is_replaced() -> None:
    consumer = SimpleNamespace(_fetcher=Fetcher())
    for _ in range(2):
        consumers.end_fetching(consumer)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert isinstance(consumers.restart_fetching(consumer), RuntimeError)
    assert consumers.restart_fetching(consumer) is None
    consumers.end_fetching(consumer)

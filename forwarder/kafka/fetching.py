"""The client's fetching, begun anew where an answer ended it.

aiokafka 0.14 fetches in one task. An answer that it can take apart and makes no sense of, such as
one that names a partition nobody asked for, ends that task with an error nobody sees: the consumer
stays a member of its group and never returns a record again. All that is used of the client's
private names for this is named here, and a test that has a fetch end so fails where one of them is
another.
"""
# ruff: noqa: SLF001  # there is no public way to any of it

import asyncio
from typing import Any


def begin_anew(consumer: Any) -> BaseException | None:  # noqa: ANN401  # the client ships no types
    """Have a consumer fetch again; return what had ended its fetching, None if nothing had.

    What it had fetched and not returned is dropped, and fetched once more: its positions move only
    as records are returned.
    """
    fetcher = consumer._fetcher
    ended = fetcher._fetch_task
    if not ended.done() or ended.cancelled() or fetcher._closed:
        return None
    # Those that failed are among them, and would end the new task as they ended the old one.
    for pending in fetcher._pending_tasks:
        pending.cancel()
    fetcher._pending_tasks.clear()
    fetcher._in_flight.clear()
    fetcher._fetch_task = asyncio.ensure_future(fetcher._fetch_requests_routine())
    fault: BaseException | None = ended.exception()
    return (fault.__cause__ or fault) if fault is not None else RuntimeError("fetching ended")

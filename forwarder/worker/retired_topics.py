"""What a worker says of input topics that are not configured and of which something may be left.

Whether it may begin is decided by the look it is given (``forwarder.admin.retired_topics``). Where
Kafka did not tell, the worker works, and goes on looking: what was left out by mistake is noticed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import structlog

from forwarder.errors import ForwarderError, StartupError
from forwarder.ops.diagnosis import Finding

log = structlog.get_logger()

FIRST_CHECK_SECONDS = 60.0
"""Seconds until the first look after the start; each pause is twice the one before, up to"""

MAX_CHECK_SECONDS = 3600.0


class LeftTopicsResult(Protocol):
    """What a look found, if it does not forbid to begin."""

    @property
    def retired(self) -> Sequence[str]:
        """Topics that are given up, and of which a journal is there."""

    @property
    def unknown(self) -> Sequence[Finding]:
        """Topics of which Kafka does not tell whether anything is left."""


CheckLeftTopics = Callable[[], Awaitable[LeftTopicsResult]]
"""Raises StartupError where something is left, ForwarderError to be asked again."""


class LeftTopicsMonitor:
    """Looks before a worker begins, and afterwards as long as something is unknown."""

    def __init__(self, look: CheckLeftTopics) -> None:
        """Create; ``look`` is called by :meth:`check_start` and :meth:`run`."""
        self._look = look
        self._unknown = asyncio.Event()

    async def check_start(self) -> None:
        """Look once and say what was found; raises what the look raises. Caller: the start."""
        looked = await self._look()
        for topic in looked.retired:
            log.warning("left_topic.retired", topic=topic)
        for one in looked.unknown:
            log.warning("left_topic.unknown", what=one.what, remedy=one.remedy)
            self._unknown.set()

    async def run(self) -> None:
        """Look again, for ever, at what was unknown, less and less often. Caller: a chore."""
        pause = FIRST_CHECK_SECONDS
        while await self._unknown.wait():
            await asyncio.sleep(pause)
            pause = min(MAX_CHECK_SECONDS, 2 * pause)
            try:
                looked = await self._look()
            except StartupError as error:
                # The next start is refused for it; this worker delivers what it has.
                log.error("left_topic.unfinished", what=error.what, remedy=error.remedy)  # noqa: TRY400  # it is no failure of this program
            except ForwarderError:
                continue
            else:
                if not looked.unknown:
                    self._unknown.clear()

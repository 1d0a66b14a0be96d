"""Background tasks of a process ("chores"): clock, watchdog, gauges, heartbeat, and the like.

A chore runs beside the main loop and never ends. One that fails is begun anew after a pause,
whatever it ran into; that is logged, once a minute at most, and counted. Where the process cannot
do without it, and it goes on failing, the process ends, saying which one it was, and starts anew.
"""

import asyncio
import math
from collections.abc import Callable, Coroutine, Mapping
from enum import StrEnum
from typing import Any, TypeVar

import structlog

from forwarder import cancellation, retry
from forwarder.clock import Clock
from forwarder.errors import ForwarderError

log = structlog.get_logger()

CHORE_RESTART_SECONDS = 5.0
"""Seconds from the failure of a chore until it is begun anew."""

CHORE_STABLE_SECONDS = 30.0
"""Seconds a run has to last before its failure counts as the first."""


ChoreRun = Callable[[], Coroutine[Any, Any, None]]

C = TypeVar("C", bound=StrEnum)
"""Names of a process's chores."""


class ChoreError(ForwarderError):
    """A chore that the worker cannot do without fails again and again."""


async def run_chore(  # noqa: PLR0913  # each means something else, and is named where it is given
    name: C,
    run: ChoreRun,
    clock: Clock,
    failed: Callable[[C], None],
    *,
    patience: float = math.inf,
    verdict: type[Exception] | tuple[type[Exception], ...] = (),
) -> None:
    """Run a chore for ever, and again after whatever it raises. Caller: app and worker, as a task.

    ``failed`` is told each failure. ``verdict``: what the chore raises on purpose, and is passed
    on. Raises ChoreError once it has failed again and again for ``patience`` seconds.
    """
    said = retry.RepeatSuppressor(retry.LOG_REPEAT_SECONDS)
    failures, since = 0, 0.0
    while True:
        began = clock.steady()
        try:
            await run()
            error: BaseException = RuntimeError("it ended, and never should")
        except verdict:
            raise
        except cancellation.FAULTS as fault:  # whatever it is, the chore has to go on
            if cancellation.is_ending(fault):
                raise
            error = fault
        now = clock.steady()
        if not failures or now - began > CHORE_STABLE_SECONDS:
            failures, since = 0, now
        failures += 1
        failed(name)
        if said.register(name, now):
            log.error(
                "chore.failed",
                chore=name,
                failures=failures,
                again=CHORE_RESTART_SECONDS,
                exc_info=error,
            )
        if now - since >= patience:
            what = (
                f"the chore {name} has failed for {patience:.0f} s, last with "
                f"{type(error).__name__}: {error}; see chore.failed in the log. The worker ends "
                "to start anew; if that does not help, report it"
            )
            raise ChoreError(what) from error
        await asyncio.sleep(CHORE_RESTART_SECONDS)


async def run_with_chores(
    runs: Mapping[C, ChoreRun],
    main: Coroutine[Any, Any, None],
    clock: Clock,
    failed: Callable[[C], None],
) -> None:
    """Run ``main`` with chores beside it that are begun anew whatever they raise.

    The process can do without them for a while, so that none of these ends it: a gauge that stands
    is logged and counted, and no reason to stop delivering.
    """
    tasks = [asyncio.create_task(run_chore(name, run, clock, failed)) for name, run in runs.items()]
    try:
        await main
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

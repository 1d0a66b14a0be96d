"""Background tasks of a worker ("chores"): clock, watchdog, gauges, heartbeat, left topics.

A chore runs beside the main loop and never ends. One that fails is begun anew after a pause,
whatever it ran into; that is logged, once a minute at most, and counted. Where the worker cannot
do without it, and it goes on failing, the worker ends, saying which one it was, and starts anew.
"""

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from forwarder import retry
from forwarder.clock import Clock
from forwarder.errors import ForwarderError
from forwarder.kafka import cancellation
from forwarder.ops.reporter import Chore

log = structlog.get_logger()

CHORE_RESTART_SECONDS = 5.0
"""Seconds from the failure of a chore until it is begun anew."""

CHORE_STABLE_SECONDS = 30.0
"""Seconds a run has to last before its failure counts as the first."""


ChoreRun = Callable[[], Coroutine[Any, Any, None]]


class ChoreError(ForwarderError):
    """A chore that the worker cannot do without fails again and again."""


async def run_chore(  # noqa: PLR0913  # each means something else, and is named where it is given
    name: Chore,
    run: ChoreRun,
    clock: Clock,
    failed: Callable[[Chore], None],
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

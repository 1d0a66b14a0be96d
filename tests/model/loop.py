"""Event loops in virtual time: one for each process, so that a process can freeze or vanish."""

import asyncio
import heapq
import math
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from itertools import count
from typing import Any, TypeVarTuple

_Ts = TypeVarTuple("_Ts")

_ROUNDS = 100_000
"""Callbacks after which a loop that never comes to rest is taken for an endless one."""


class Fault(AssertionError):  # noqa: N818  # not an error of the program's: what a test looks for
    """A property that was broken; its text begins with the property's number."""


class Loop(asyncio.AbstractEventLoop):
    """The loop of one process. ``late`` is for how many seconds the machine was suspended."""

    def __init__(self, now: Callable[[], float], fault: Callable[[str], None]) -> None:
        """Read the time from ``now``; tell ``fault`` what nobody caught."""
        self.late = 0.0
        self._reached = 0.0  # sums of floats must not leave a timer a moment before its time
        self.ready: deque[asyncio.Handle] = deque()
        self._tasks: list[asyncio.Task[Any]] = []
        self._many = 50
        self._now = now
        self._fault = fault
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbers = count()

    def time(self) -> float:
        """Return seconds of virtual time, without those of suspensions."""
        return max(self._now() - self.late, self._reached)

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def get_debug(self) -> bool:
        return False

    def call_soon(
        self,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self.ready.append(handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Any,  # noqa: ANN401  # as the base class has it
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> "asyncio.Task[Any]":
        if len(self._tasks) > self._many:
            self._tasks = [task for task in self._tasks if not task.done()]
            self._many = 2 * len(self._tasks) + 50
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks.append(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self._fault(f"not caught: {context.get('message')}: {error!r}")

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def next_timer(self) -> float:
        """Return when the next timer is due, in world time."""
        timers = self._timers
        while timers and timers[0][2]._cancelled:  # noqa: SLF001  # asked all the time
            heapq.heappop(timers)
        return timers[0][0] + self.late if timers else math.inf

    def run(self) -> bool:
        """Run what is due now until nothing is; tell whether anything ran."""
        timers, ready = self._timers, self.ready
        now = self.time() + 1e-9
        while timers and timers[0][0] <= now:
            when, _, timer = heapq.heappop(timers)
            self._reached = max(self._reached, when)
            if not timer.cancelled():
                ready.append(timer)
        if not ready:
            return False
        events._set_running_loop(self)  # noqa: SLF001  # what every loop of asyncio does
        try:
            for _ in range(_ROUNDS):
                if not ready:
                    return True
                handle = ready.popleft()
                if not handle.cancelled():
                    handle._run()  # noqa: SLF001  # what every loop of asyncio does
            self._fault("I14: a process is busy for ever")
            return True
        finally:
            events._set_running_loop(None)  # noqa: SLF001

    def spawn(self, coro: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Start a task from outside of the loop."""
        events._set_running_loop(self)  # noqa: SLF001
        try:
            return self.create_task(coro)
        finally:
            events._set_running_loop(None)  # noqa: SLF001

    def bury(self) -> None:
        """End every task, as little as it may like it; time does not matter any more."""
        for _ in range(100):
            tasks = [task for task in self._tasks if not task.done()]
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            self.run()
            self._skip()
        self.ready.clear()
        self._timers.clear()

    def _skip(self) -> None:
        """Make the timers due that are left."""
        if (due := self.next_timer()) < math.inf:
            self.late -= max(0.0, due - self._now())

"""What asyncio leaves to its users: whose cancellation it is, and work that none may cut short.

The Kafka client cancels tasks of its own, and passes a CancelledError on to whoever waits for one.
It is no Exception: taken for a wish to end, it ends a task that has to go on, and nobody is told.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

FAULTS = (Exception, asyncio.CancelledError)
"""What a task that has to go on catches; :func:`is_ending` tells what it passes on."""

_UNBROKEN: set["asyncio.Task[Any]"] = set()
"""The loop itself keeps no task alive."""


def is_ending(fault: BaseException) -> bool:
    """Tell whether the running task was told to end with this; else it is a fault like any other.

    Caller: whatever catches ``FAULTS``, at once.
    """
    task = asyncio.current_task()
    return isinstance(fault, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def unbroken(work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    """Begin work that goes on to its end, whoever waits for it and is cancelled meanwhile.

    Caller: what gives up a connection. It is waited for under ``asyncio.shield``.
    """
    task = asyncio.ensure_future(work)
    _UNBROKEN.add(task)
    task.add_done_callback(_UNBROKEN.discard)
    return task

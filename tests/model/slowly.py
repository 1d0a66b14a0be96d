"""Let time pass where the real code only lets the loop go round: between slices of large work."""

import asyncio
from contextlib import ExitStack
from typing import Any
from unittest import mock

from forwarder.worker import memory, opening, partition, snapshots


class Pause:
    """How many seconds of virtual time a slice takes."""

    seconds = 0.0


PAUSE = Pause()


class _Slow:
    """The module ``asyncio`` but for its shortest sleep."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever the module has
        return getattr(asyncio, name)

    @staticmethod
    async def sleep(seconds: float) -> None:
        """Sleep, a little longer than not at all."""
        await asyncio.sleep(seconds or PAUSE.seconds)


def applied() -> ExitStack:
    """Make the slices of bases, openings and expiries take time."""
    stack = ExitStack()
    for module in (snapshots, memory, partition, opening):
        stack.enter_context(mock.patch.object(module, "asyncio", _Slow()))
    return stack

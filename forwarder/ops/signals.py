"""What SIGTERM and SIGINT do to a process that works until it is told to stop."""

import asyncio
import os
import signal
from collections.abc import Callable

import structlog

from forwarder.ops import log_writer

log = structlog.get_logger()

LAST_LOG_SECONDS = 0.5
"""Seconds that a process told to leave at once waits for what it has logged to be written."""


def drain_on_signals(stop: Callable[[], None], is_stopping: Callable[[], bool], event: str) -> None:
    """Have the first signal call ``stop``, logged as ``event``, and the second end the process."""

    def obey() -> None:
        if is_stopping():
            exit_now()
        log.info(event)
        stop()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, obey)


def exit_now() -> None:
    """End the process without cleaning up: the second signal."""
    log_writer.flush(LAST_LOG_SECONDS)
    os._exit(1)

"""Run the program: ``forwarder``, or ``python -m forwarder``.

Imports little, and only once interrupts are taken: the clients of Kafka and AWS take a second.
"""

import contextlib
import os
import signal
import sys
from types import FrameType

INTERRUPTED = 128 + signal.SIGINT


def _leave(_number: int, _frame: FrameType | None) -> None:
    """End at once: nothing was begun that needs cleaning up, and no traceback helps anybody."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one, if nobody reads stderr
    with contextlib.suppress(OSError):
        os.write(2, b"forwarder: stopped\n")
    os._exit(INTERRUPTED)


def _pass_over(number: int, _frame: FrameType | None) -> None:
    """Go on: a terminal that is closed, or a habit of other daemons, ends nothing."""
    note = getattr(sys.modules.get("forwarder.ops.logs"), "note_ignored", None)
    if note is not None:  # else there is no log yet
        note(signal.Signals(number).name)


def _take_signals() -> None:
    """Take SIGINT and SIGHUP from the first moment on, unless whoever started us ignores them."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _pass_over)


def _fill_descriptors() -> None:
    """Open what was closed of 0, 1 and 2: else a socket gets the number, and the log with it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free


_fill_descriptors()
_take_signals()


def main() -> int:
    """Run one command; return its exit code."""
    from forwarder import cli  # noqa: PLC0415  # not before interrupts are taken

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())

"""Count the work that a piece of code does: a measure that no other work of the machine changes."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def steps(work: Callable[[], object]) -> int:
    """Return how many instructions of Python a call takes; what C does inside one counts as one."""
    count = 0

    def trace(frame: FrameType, what: str, _arg: Any) -> Any:  # noqa: ANN401  # as sys.settrace has it
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += what == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count

"""The program that ``credential_process`` names, run within bounds: the library waits for its end.

What it writes is read up to a bound, and for a time; then it is killed with what it has started.
"""

import asyncio
import contextlib
import os
import signal

from botocore.exceptions import CredentialRetrievalError

from forwarder.aws.time_limits import TimeLimits

MAX_OUTPUT_BYTES = 256 * 1024
"""Of either output; keys of a session take 2 KiB."""
PROVIDER = "custom-process"
"""What the library calls it."""

_OUTPUTS = (1, 2)


class _ProgramProtocol(asyncio.SubprocessProtocol):
    """What a program writes, and what has become of it.

    asyncio's own process tells of an end only once the outputs are closed, which whatever the
    program has started may hold open.
    """

    def __init__(self, limits: TimeLimits) -> None:
        self.limits = limits
        self.written = {number: bytearray() for number in _OUTPUTS}
        self.stopped = asyncio.Event()
        self.ended = asyncio.Event()
        self.silent = asyncio.Event()
        self._open = set(_OUTPUTS)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        written = self.written[fd]
        written += data[: MAX_OUTPUT_BYTES + 1 - len(written)]
        if len(written) > MAX_OUTPUT_BYTES:
            self.stopped.set()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's
        self._open.discard(fd)
        if not self._open:
            self.silent.set()

    def process_exited(self) -> None:
        self.ended.set()
        self.stopped.set()

    def exceeded_bound(self) -> str:
        """Say beyond which bound it is; empty: none, and it has ended."""
        if any(len(written) > MAX_OUTPUT_BYTES for written in self.written.values()):
            return f"it wrote more than {MAX_OUTPUT_BYTES} bytes"
        return "" if self.ended.is_set() else f"it ran for longer than {self.limits.program:.0f} s"


class _BoundedProcess:
    """A process as the library uses it: ``communicate`` once, then ``returncode``."""

    def __init__(self, transport: asyncio.SubprocessTransport, program: _ProgramProtocol) -> None:
        self._transport = transport
        self._program = program

    @property
    def returncode(self) -> int | None:
        return self._transport.get_returncode()

    async def communicate(self) -> tuple[bytes, bytes]:
        """Return what it wrote; raises the library's error for too much, or too late.

        After it nothing of the program is left but what has left its process group, and no
        descriptor, whatever happened.
        """
        program = self._program
        try:
            await _within(program.limits.program, program.stopped)
            if program.ended.is_set():
                await _within(program.limits.pipes, program.silent)
            beyond = program.exceeded_bound()
        finally:
            await self._clear()
        if beyond:
            raise CredentialRetrievalError(provider=PROVIDER, error_msg=beyond)
        out, err = (bytes(program.written[number]) for number in _OUTPUTS)
        return out, err

    async def _clear(self) -> None:
        """End a program with whatever it has started and still holds its outputs.

        A group keeps its number for as long as there is anybody in it, its first process or not.
        """
        program = self._program
        try:
            if not (program.ended.is_set() and program.silent.is_set()):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._transport.get_pid(), signal.SIGKILL)
                await _within(program.limits.kill, program.ended)
        finally:
            self._transport.close()


async def _within(seconds: float, event: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


async def start_program(
    limits: TimeLimits, *command: str, stdout: int, stderr: int
) -> _BoundedProcess:
    """Start a program as the library does, in a group of its own; the caller communicates once.

    It reads nothing: what stands at this process's own input may be records.
    """
    transport, program = await asyncio.get_running_loop().subprocess_exec(
        lambda: _ProgramProtocol(limits),
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
    )
    return _BoundedProcess(transport, program)

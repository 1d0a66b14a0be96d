"""The program that ``credential_process`` names, run within bounds: the library waits for its end.

What it writes is read up to a bound, and for a time; then it is killed.
"""

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import Process

from aiobotocore.session import AioSession
from botocore.exceptions import CredentialRetrievalError

MOST_BYTES = 256 * 1024
"""Of either output; keys of a session take 2 KiB."""
SECONDS = 30.0
"""As long as a call may take as a whole."""
KILL_SECONDS = 2.0
"""As long as a program may take to be gone once it was killed."""
PROVIDER = "custom-process"
"""What the library calls it."""


class _Bounded:
    """A process as the library uses it: ``communicate`` once, then ``returncode``."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    async def communicate(self) -> tuple[bytes, bytes]:
        """Return what it wrote; raises the library's error for too much, or too late."""
        process = self._process
        streams = (process.stdout, process.stderr)
        reading = [asyncio.create_task(_all(stream)) for stream in streams]
        try:
            async with asyncio.timeout(SECONDS):
                out, err = await asyncio.gather(*reading)
                await process.wait()
        except (ValueError, TimeoutError) as error:
            text = f"it wrote more than {MOST_BYTES} bytes, or ran for longer than {SECONDS:.0f} s"
            raise CredentialRetrievalError(provider=PROVIDER, error_msg=text) from error
        finally:
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)
            if process.returncode is None:
                await _kill(process)
        return out, err


async def _kill(process: Process) -> None:
    """End a program with whatever it has started, and wait for that a little.

    asyncio tells of an end once the pipes are read to theirs, which a child of the program's would
    hold open.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(KILL_SECONDS):
            await asyncio.gather(_discard(process.stdout), _discard(process.stderr))
            await process.wait()


async def _discard(stream: asyncio.StreamReader | None) -> None:
    while stream is not None and await stream.read(MOST_BYTES):
        pass


async def _all(stream: asyncio.StreamReader | None) -> bytes:
    """Return what comes until the end; raises ValueError for more than there may be."""
    found = b""
    while stream is not None and (piece := await stream.read(MOST_BYTES)):
        found += piece
        if len(found) > MOST_BYTES:
            message = "too much"
            raise ValueError(message)
    return found


async def _run(*command: str, stdout: int, stderr: int) -> _Bounded:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=stdout, stderr=stderr, start_new_session=True
    )
    return _Bounded(process)


def bound(session: AioSession) -> None:
    """Let a session's default chain run such programs within bounds."""
    chain = session.get_component("credential_provider")
    chain.get_provider(PROVIDER)._popen = _run  # noqa: SLF001  # no public way in

"""The worker as its own process, started and stopped as an operator would."""

import contextlib
import http.client
import os
import signal
import subprocess
import sys
from pathlib import Path

STOP_SECONDS = 30.0


class WorkerError(Exception):
    """The worker ended when nobody asked it to; the text is the end of its log."""


class Worker:
    """``forwarder run`` with some arguments; can be killed and started again."""

    def __init__(self, arguments: list[str], folder: Path, variables: dict[str, str]) -> None:
        """Prepare; ``variables`` is all it gets of AWS."""
        self.command = [sys.executable, "-m", "forwarder", "run", *arguments]
        self.log = folder / "worker.log"
        self._folder = folder
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        self._environment = inherited | variables
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Return the process id of the one that runs, or ran last."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start a process; its log is appended to the one before."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Of a session of its own: Ctrl-C is for the demo, which then stops the worker.
                start_new_session=True,
            )

    def exit_code(self) -> int | None:
        """Return the exit code, None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def check(self) -> None:
        """Raise WorkerError if it has ended by itself."""
        if self.exit_code() is not None:
            what = f"the worker ended with exit code {self.exit_code()}:\n{self.tail()}"
            raise WorkerError(what)

    def kill(self) -> None:
        """Kill it with -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Ask it to drain and return its exit code; kill it if it takes too long."""
        self._end(signal.SIGTERM)
        code = self.exit_code()
        assert code is not None
        return code

    def close(self) -> None:
        """Leave no process behind, whatever happened."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def tail(self) -> str:
        """Return the end of its log."""
        return self.log.read_text(errors="replace")[-3_000:]

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_SECONDS)


def ready(port: int) -> bool:
    """Ask a worker's probe whether it owns its partitions and can commit."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    with contextlib.closing(connection), contextlib.suppress(OSError):
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    return False

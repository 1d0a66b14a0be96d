"""The sink of ``sink.py`` as a process, and what it was sent."""

import contextlib
import http.client
import subprocess
import sys
from types import TracebackType
from typing import Self


class SinkProcess:
    """Takes everything; a context manager that ends it."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.bench.sink"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        with self._process.stdout as output:
            self.port = int(output.readline())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def url(self) -> str:
        """Return where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def records(self) -> int:
        """Return how many records it was sent by all."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", "/")
            return int(connection.getresponse().read())

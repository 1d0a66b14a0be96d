"""Run workers as processes: write their configuration, read their log and metrics, end them.

Nothing here sleeps for luck: ``until`` looks for an effect again and again until a deadline,
and says with the worker's own log what was missing.
"""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests import accounts
from tests.services.kafka import free_port

LOOK = 0.05
"""Seconds between two looks at a condition."""

PATIENCE = 30.0
"""Seconds until a condition counts as missing; far above what any of them takes."""

TAIL = 60
"""Lines of a worker's log that a failure shows."""

Look = Callable[[], object]
"""What is asked again and again; it may also be a coroutine function."""


class Missing(AssertionError):  # noqa: N818  # it is the assertion that failed
    """A condition did not come true in time."""


async def until(look: Look, what: str, seconds: float = PATIENCE, every: float = LOOK) -> None:
    """Wait until ``look`` gives a true answer, and fail when ``seconds`` are over before."""
    deadline = time.monotonic() + seconds
    while True:
        answer = look()
        if isinstance(answer, Awaitable):
            answer = await answer
        if answer:
            return
        if time.monotonic() > deadline:
            text = f"after {seconds:.0f} s still not: {what}"
            raise Missing(text)
        await asyncio.sleep(every)


@dataclass
class Worker:
    """One ``forwarder`` process; it can be started again after it ended."""

    name: str
    arguments: Sequence[str]
    folder: Path
    variables: Mapping[str, str]
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    limit_files: int | None = None
    """Open files it may have, hard and soft."""
    python: str = sys.executable

    @property
    def log_file(self) -> Path:
        """Return where standard error goes, every run after the one before."""
        return self.folder / f"{self.name}.log"

    @property
    def output_file(self) -> Path:
        """Return where standard output goes."""
        return self.folder / f"{self.name}.out"

    def start(
        self,
        stdin: bytes | None = None,
        *,
        stdin_from: int = subprocess.DEVNULL,
        stderr: int | None = None,
    ) -> None:
        """Start the process; ``stdin`` is given to it whole, ``stderr`` is instead of the log."""
        assert not self.running
        with self.log_file.open("ab") as log, self.output_file.open("ab") as output:
            limited = ["prlimit", f"--nofile={self.limit_files}"] if self.limit_files else []
            self.process = subprocess.Popen(
                [*limited, self.python, "-m", "forwarder", *self.arguments],
                stdin=stdin_from if stdin is None else subprocess.PIPE,
                stdout=output,
                stderr=log if stderr is None else stderr,
                cwd=self.folder,
                env=environment(self.folder, self.variables),
                start_new_session=True,
            )
        if stdin is not None:
            assert self.process.stdin is not None
            with self.process.stdin as pipe:
                pipe.write(stdin)

    @property
    def running(self) -> bool:
        """Tell whether the process lives."""
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """Return the process id."""
        assert self.process is not None
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """End the process as a crash would, and wait until it is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(PATIENCE)

    async def ended(self, seconds: float = PATIENCE) -> int:
        """Return the exit code of a process that ends by itself."""
        process = self.process
        assert process is not None
        await self.until(lambda: process.poll() is not None, "the process ends", seconds)
        return process.returncode

    async def until(
        self, look: Look, what: str, seconds: float = PATIENCE, every: float = LOOK
    ) -> None:
        """Wait like ``until``, and show the log if it was in vain."""
        try:
            await until(look, what, seconds, every)
        except Missing as missing:
            text = f"{missing}\n{self.name} (running: {self.running}) said:\n{self.tail()}"
            raise Missing(text) from None

    async def until_ready(self, seconds: float = PATIENCE) -> None:
        """Wait until /readyz answers 200."""
        await self.until(lambda: self.get("/readyz")[0] == http.client.OK, "ready", seconds)

    def tail(self) -> str:
        """Return the end of the log."""
        with contextlib.suppress(FileNotFoundError):
            return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-TAIL:])
        return ""

    def log(self) -> list[dict[str, Any]]:
        """Return every line of the log that is a JSON object."""
        lines = self.log_file.read_bytes().splitlines()
        return [json.loads(line) for line in lines if line.startswith(b"{")]

    def logged(self, event: str, **fields: object) -> list[dict[str, Any]]:
        """Return the lines of one event whose fields have these values."""
        return [
            line
            for line in self.log()
            if line.get("event") == event and fields.items() <= line.items()
        ]

    def get(self, path: str) -> tuple[int, str]:
        """Ask the worker's own server; status 0: nobody listens there."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        with contextlib.closing(connection):
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                return answer.status, answer.read().decode()
            except (OSError, http.client.HTTPException):
                return 0, ""

    def metrics(self) -> dict[str, float]:
        """Return every sample under its name and labels as they are printed.

        In each scrape everything has to be accounted for (docs/reliability.md).
        """
        samples = {}
        for line in self.get("/metrics")[1].splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                samples[name] = float(value)
        assert [] == accounts.faults(samples)
        return samples

    def cpu_seconds(self) -> float:
        """Return the CPU seconds the living process has used so far, in user and system mode."""
        text = Path(f"/proc/{self.pid}/stat").read_text()
        user, system = text.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def peak_bytes(self) -> int:
        """Return the largest resident size of the living process so far."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        text = "the kernel tells no peak size"
        raise RuntimeError(text)


def environment(home: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """Return what a worker sees: nothing of the caller's own AWS configuration."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "LOCALSTACK_"))}
    return {**own, "HOME": str(home), "AWS_EC2_METADATA_DISABLED": "true", **variables}


@dataclass
class Site:
    """A folder with one group's configuration, and the workers started from it."""

    folder: Path
    sections: dict[str, Any]
    variables: Mapping[str, str] = field(default_factory=dict)
    workers: list[Worker] = field(default_factory=list)

    def connect(self, content: Mapping[str, Any]) -> Path:
        """Write one connection file."""
        path = self.folder / "connections" / f"{content['name']}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(dict(content), sort_keys=False))
        return path

    def configure(self, name: str, port: int) -> Path:
        """Write the configuration of one worker, which listens on a port of its own."""
        content = {**self.sections, "server": {"host": "127.0.0.1", "port": port}}
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    def worker(self, name: str = "worker") -> Worker:
        """Return a worker of the group that has not been started yet."""
        port = free_port()
        arguments = ["run", "--config", str(self.configure(name, port))]
        worker = Worker(name, arguments, self.folder, self.variables, port)
        self.workers.append(worker)
        return worker

    def command(self, *arguments: str, name: str = "command") -> Worker:
        """Return a process with arguments of its own."""
        worker = Worker(name, arguments, self.folder, self.variables)
        self.workers.append(worker)
        return worker

    def close(self) -> None:
        """Kill whatever still runs."""
        for worker in self.workers:
            worker.kill()


def group_sections(bootstrap: str, group: str, topics: Sequence[str]) -> dict[str, Any]:
    """Return sections for a group that reacts quickly: tests wait for every one of these."""
    return {
        "kafka": {
            "bootstrap_servers": bootstrap.split(","),
            "group_id": group,
            "session_timeout": "6s",
            "topics": list(topics),
            "dead_letter_topic": f"{group}-dead-letters",
        },
        "connections": "connections",
        "journal": {"tick": "200ms"},
        "log": {"level": "info", "format": "json"},
    }

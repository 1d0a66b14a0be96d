"""The pods of a soak: worker processes that are started, replaced and watched."""

import asyncio
import contextlib
import http.client
import json
import signal
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.acceptance.harness import Worker
from tests.services.kafka import free_port
from tests.soak.releases import Release

DRAIN = 25.0
"""Seconds within which a pod has to end after SIGTERM."""

SAMPLE = 5.0
"""Seconds between two looks at memory."""


@dataclass(eq=False)
class Pod:
    """One place for a worker, and what was seen of those that ran there."""

    worker: Worker
    release: Release = field(default_factory=Release)
    exits: list[int] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    draining: bool = False

    @property
    def name(self) -> str:
        """Return the pod's name."""
        return self.worker.name

    @property
    def running(self) -> bool:
        """Tell whether a worker should be running here; note one that ended by itself."""
        process = self.worker.process
        if process is None or self.draining:
            return False
        if process.poll() is not None:
            self.ended.append(f"{self.name}: exit code {process.returncode}\n{self.worker.tail()}")
            self.worker.process = None
            return False
        return True

    def kill(self) -> None:
        """End the worker as a crash would."""
        self.worker.kill()
        self.worker.process, self.draining = None, False

    async def drain(self) -> None:
        """Let the worker end by itself, and note how it did."""
        self.draining = True
        self.worker.signal(signal.SIGTERM)
        self.exits.append(await self.worker.ended(DRAIN + 15))
        self.worker.process, self.draining = None, False

    def ready(self) -> bool:
        """Tell whether /readyz answers 200; blocks up to seconds where nobody answers."""
        return self.worker.get("/readyz")[0] == http.client.OK


class Fleet:
    """All pods, and the releases they may run."""

    def __init__(
        self,
        folder: Path,
        sections: dict[str, Any],
        variables: Mapping[str, str],
        *,
        previous: str = "",
        stable: int = 0,
    ) -> None:
        """Prepare; ``previous`` is the folder of an older version, empty for none.

        The first ``stable`` pods are static members of the group.
        """
        self.folder = folder
        self.pods: dict[str, Pod] = {}
        self.memory: list[tuple[float, str, int]] = []
        self._sections = sections
        self._variables = variables
        self._previous = previous
        self._stable = {f"pod-{number}" for number in range(stable)}

    @property
    def running(self) -> list[Pod]:
        """Return the pods whose worker runs."""
        return [pod for pod in self.pods.values() if pod.running]

    def publish(self, release: Release, streams: str) -> list[Path]:
        """Write the connection files of a release."""
        place = self._place(release)
        place.mkdir(parents=True, exist_ok=True)
        paths = []
        for name, content in release.connections(streams).items():
            paths.append(place / f"{name}.yaml")
            paths[-1].write_text(yaml.safe_dump(content, sort_keys=False))
        return paths

    def start(self, name: str, release: Release) -> Pod:
        """Start a pod with a release that was published."""
        pod = self.pods.get(name) or self._make(name)
        pod.release = release
        sections = dict(self._sections)
        sections["server"] = {"host": "127.0.0.1", "port": pod.worker.port}
        if name in self._stable:
            sections["kafka"] = {**sections["kafka"], "group_instance_id": name}
        sections["connections"] = str(self._place(release))
        sections["journal"] = {**sections["journal"], "retired": list(release.retired)}
        (pod.worker.folder / "worker.yaml").write_text(yaml.safe_dump(sections, sort_keys=False))
        # The access key tells the sink who puts; the path, which version of the program runs.
        own = {"AWS_ACCESS_KEY_ID": name, **self._variables}
        old = {"PYTHONPATH": self._previous} if release.previous else {}
        pod.worker.variables = {**own, **old}
        pod.worker.start()
        return pod

    def _place(self, release: Release) -> Path:
        return self.folder / "releases" / str(release.number)

    def _make(self, name: str) -> Pod:
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        arguments = ["run", "--config", str(folder / "worker.yaml")]
        pod = self.pods[name] = Pod(Worker(name, arguments, folder, {}, free_port()))
        return pod

    async def ready(self) -> bool:
        """Tell whether every running worker says that it is."""
        return all([await asyncio.to_thread(pod.ready) for pod in self.running])

    async def figures(self) -> dict[str, float]:
        """Return the sum of every sample over the running workers; ``silent`` counts the rest."""
        total = {"silent": 0.0}
        for pod in self.running:
            found = await asyncio.to_thread(pod.worker.metrics)
            total["silent"] += not found
            for name, value in found.items():
                total[name] = total.get(name, 0.0) + value
        return total

    async def watch_memory(self) -> None:
        """Note the resident memory of every worker until cancelled."""
        while True:
            await asyncio.sleep(SAMPLE)
            for pod in self.running:
                with contextlib.suppress(OSError, ValueError, StopIteration):
                    self.memory.append((time.time(), pod.name, _resident(pod.worker.pid)))

    def kill(self) -> None:
        """Leave nothing running."""
        for pod in self.pods.values():
            pod.kill()


def _resident(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) * 1024


def logged(fleet: Fleet) -> Counter[tuple[str, str]]:
    """Count (level, event) of warnings and worse in all logs; lines that are no JSON are errors."""
    found: Counter[tuple[str, str]] = Counter()
    for pod in fleet.pods.values():
        with pod.worker.log_file.open("rb") as lines:
            for raw in lines:
                level, event = _line(raw)
                if level in {"warning", "error", "critical"}:
                    found[level, event] += 1
    return found


def _line(raw: bytes) -> tuple[str, str]:
    try:
        line = json.loads(raw)
    except ValueError:
        return "error", f"(no JSON) {raw[:80]!r}"
    event = str(line.get("event"))
    if event == "library":
        message = " ".join(str(line.get("message")).split())
        event = f"library {line.get('logger')}: {message[:60]}"
    return str(line.get("level")), event

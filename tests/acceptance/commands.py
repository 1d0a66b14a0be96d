"""Run operators' commands against a scene, and say what they answered."""

import asyncio
import json
import sys
from dataclasses import dataclass
from typing import Any

from tests.acceptance.harness import environment, until
from tests.acceptance.scene import Scene

SECRET = "the-key-that-no-output-shows"


@dataclass
class Answer:
    """What one command printed, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """Return the JSON document it printed."""
        found: dict[str, Any] = json.loads(self.out)
        return found


async def begun(scene: Scene, *words: str) -> asyncio.subprocess.Process:
    """Start a command with the scene's configuration."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "forwarder", *words, "--config", str(scene.configure("commands", 0))),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=scene.folder,
        env=environment(scene.folder, scene.variables),
    )


async def answered(process: asyncio.subprocess.Process) -> Answer:
    """Wait for a command's end."""
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return Answer(process.returncode or 0, out.decode(), err.decode())


async def ran(scene: Scene, *words: str, code: int = 0) -> Answer:
    """Run a command to its end, which must be with this exit code."""
    answer = await answered(await begun(scene, *words))
    assert code == answer.code, f"{words}\n{answer.out}\n{answer.err}"
    assert "Traceback" not in answer.err
    assert SECRET not in answer.out + answer.err
    return answer


async def status(scene: Scene, *words: str) -> dict[str, Any]:
    """Return what ``status --json`` says."""
    return (await ran(scene, "status", "--json", *words)).document


async def stopped(scene: Scene) -> None:
    """Drain every worker of the scene, and wait until the group is empty."""
    for worker in scene.workers:
        if worker.running:
            worker.process.terminate()  # type: ignore[union-attr]  # it runs
            assert await worker.ended() == 0

    async def empty() -> bool:
        found = await scene.kafka.admin.describe_consumer_groups([scene.name])
        return found[0].groups[0][2] in {"Empty", "Dead"}

    await until(empty, "the group is empty")


def block(scene: Scene, name: str = "blocked") -> None:
    """Connect a destination where nobody listens."""
    sink = {"type": "kinesis", "stream_name": "s", "region": "us-east-1"}
    keys = {"access_key_id": "AKIAEXAMPLE", "secret_access_key": SECRET}
    nowhere = {**sink, "endpoint_url": "http://127.0.0.1:1"}
    single = {"send_as_batch": False}
    scene.connect({"name": name, "sink": nowhere, "credentials": keys, "settings": single})


def unblock(scene: Scene, name: str = "blocked") -> None:
    """Give it a folder instead; a worker started from now on sends what waits there."""
    scene.to_file(name, settings={"send_as_batch": False})

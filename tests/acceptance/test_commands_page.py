"""The page on the commands shows what they really print."""

import re
import shlex
import time
from pathlib import Path

from tests.acceptance.commands import block, ran, status, stopped
from tests.acceptance.scene import Scene

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CONFIG = "--config config/forwarder.yaml"


def examples() -> list[tuple[str, str]]:
    """Return every command of the page, and the output shown for it."""
    found = []
    for one in BLOCK.findall(PAGE.read_text()):
        command, _, output = one.partition("\n")
        found.append((command.removeprefix("$ forwarder "), output))
    return found


def shape(text: str, scene: Scene) -> list[str]:
    """Return a text without what differs from run to run: numbers, ids, times, widths, owners."""
    text = text.replace(scene.topic, "raw-events").replace(scene.name, "forwarder")
    text = text.replace(str(scene.folder), "/data").replace(scene.kafka.bootstrap, "localhost:9092")
    text = re.sub(r"forwarder-[\w.]+(-[\w.]+)*-[0-9a-f]{8}\b", "OWNER", text)
    text = re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b[0-9a-f]{32}\b", "ID", text)
    text = re.sub(r"[0-9][0-9.,:TZ-]*", "0", text)
    return sorted({re.sub(r"[ \u2026]+", " ", line).strip() for line in text.splitlines()})


async def test_every_example_of_the_page_prints_what_the_page_shows(scene: Scene) -> None:
    scene.to_file("acme-production", settings={"send_as_batch": False})
    block(scene, "acme-test")
    worker = scene.worker()
    worker.start()
    await worker.until_ready()
    await scene.kafka.send(scene.topic, [(b"d1", b"{not json", time.time_ns() // 1_000_000)])
    for device in ("d1", "d2", "d3", "d4"):
        await scene.feed(range(3), device)

    async def committed() -> bool:
        [one, other] = (await status(scene))["connections"]
        behind = [one["batches_behind"], other["batches_behind"]]
        return behind == [0, 12] and other["error"] is not None

    await worker.until(committed, "everything is where the page says")
    wrong = {}
    for command, expected in examples():
        if command.startswith("reset"):
            await stopped(scene)
        words = shlex.split(command.replace(CONFIG, "").replace("raw-events", scene.topic))
        printed = (await ran(scene, *words)).out
        if shape(expected, scene) != shape(printed, scene):
            wrong[command] = printed
    assert not wrong, "\n".join(f"$ forwarder {c}\n{text}" for c, text in wrong.items())

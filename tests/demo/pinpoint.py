"""Pinpoint's part of the demo: clients report to a gateway, and figures grow out of the stream.

The real gateway and the real worker, a real Kafka, an emulated AWS. The table is what Athena would
say: the queries of ``tests/data/athena`` over the stream's records.
"""

import asyncio
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import NamedTuple, Self

from rich import box
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tests.acceptance.cluster import Cluster
from tests.acceptance.harness import Missing, Worker
from tests.acceptance.pinpoint_scene import KEYED, SIGNED, PinpointScene
from tests.athena import Athena
from tests.demo.layout import exact, folded
from tests.demo.pinpoint_clients import NAMES, Sent, server, web_shop
from tests.demo.screen import PLAIN_EVERY, PLAIN_WIDTH, Screen
from tests.demo.worker import WorkerError
from tests.services import kafka as broker_service
from tests.services import ministack
from tests.services.kafka import Broker
from tests.services.ministack import CUSTOMER_ACCOUNT, MiniStack

STREAM = "app-events"
FRAME = 0.7
"""Seconds between two looks at the stream."""

PATIENCE = 60.0
"""Seconds after the last event within which its record has to be there."""

Rows = dict[tuple[str, date], tuple[int, int, float]]
"""(daily active users, sessions, revenue) by app and day."""


class Shown(NamedTuple):
    """What is on the screen."""

    accepted: int
    records: int
    rows: Rows


def perform(screen: Screen, bootstrap: str | None, seconds: float) -> bool:
    """Show it all; tell whether the stream's figures are those of what was sent."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="forwarder-demo-")))
        emulator = MiniStack()
        stack.callback(emulator.stop)
        with screen.step(
            "starting the AWS emulator (the first time it is installed: 10 s)"
        ) as done:
            ministack.environment()
            emulator.start()
            done(f"AWS emulator on {emulator.endpoint()}")
        found = bootstrap or _start_broker(screen, folder, stack)
        name = f"forwarder-demo-{uuid.uuid4().hex[:8]}"
        scene = PinpointScene.make(found, folder, name, emulator)
        stack.callback(scene.close)
        return asyncio.run(_perform(screen, scene, found, seconds))


def _start_broker(screen: Screen, folder: Path, stack: ExitStack) -> str:
    with screen.step("starting Kafka (the first time Maven fetches its jars: 43 MB)") as done:
        broker_service.require_tools()
        broker_service.fetch_jars()
        broker = Broker(folder / "kafka")
        stack.callback(broker.stop)
        broker.start()
        done(f"Apache Kafka on {broker.bootstrap}")
        return broker.bootstrap


async def _perform(screen: Screen, scene: PinpointScene, bootstrap: str, seconds: float) -> bool:
    async with Cluster(bootstrap) as cluster:
        try:
            await cluster.create(scene.topic, 2)
            await cluster.create(scene.uploads, 1)
            gateway, worker = await _started(screen, scene)
            sent, records = await _main_act(screen, scene, seconds)
            for process in (gateway, worker):
                process.signal(signal.SIGTERM)
                code = await process.ended()
                screen.say(f"{process.name} {process.pid} drained and left: exit code {code}", "✓")
        finally:
            scene.close()
            topics = {name for name in await cluster.topics() if scene.name in name}
            await cluster.admin.delete_topics([*topics])
    return _verdict(screen, scene, sent, records)


async def _started(screen: Screen, scene: PinpointScene) -> tuple[Worker, Worker]:
    """Start gateway and worker; raises WorkerError if they do not get ready."""
    sink = {"format": "pinpoint", "aws_account_id": CUSTOMER_ACCOUNT}
    scene.to_stream(STREAM, match={"topic": [scene.topic]}, sink=sink)
    gateway, worker = scene.gateway(), scene.worker()
    with screen.step("starting gateway and worker") as done:
        for process in (gateway, worker):
            process.start()
        try:
            for process in (gateway, worker):
                await process.until_ready()
        except Missing as missing:
            raise WorkerError(str(missing)) from None
        url = f"http://127.0.0.1:{scene.ports['gateway']}"
        done(f"gateway {gateway.pid} on {url}, in Pinpoint's place")
        screen.say(f"worker {worker.pid} forwards to the stream {STREAM}", "✓")
    return gateway, worker


async def _main_act(
    screen: Screen, scene: PinpointScene, seconds: float
) -> tuple[Sent, list[bytes]]:
    """Let the clients report, and show what the stream says until all of it is there."""
    sent, over = Sent(), threading.Event()
    url = f"http://127.0.0.1:{scene.ports['gateway']}"
    clients = asyncio.gather(
        asyncio.to_thread(server, url, seconds, sent, over), web_shop(url, seconds, sent, over)
    )
    begun = time.monotonic()
    try:
        with _Frame(screen) as frame:
            while True:
                ended = clients.done()
                records = await asyncio.to_thread(_values, scene)
                rows = await asyncio.to_thread(figures, records, scene.folder)
                frame.show(Shown(sent.events, len({*records}), rows))
                if ended and len({*records}) >= sent.events:
                    break
                if time.monotonic() - begun > seconds + PATIENCE:
                    break
                await asyncio.sleep(FRAME)
    finally:
        over.set()
    await clients
    return sent, records


def _values(scene: PinpointScene) -> list[bytes]:
    return [record.value for record in scene.read(STREAM)]


def figures(records: Sequence[bytes], folder: Path) -> Rows:
    """Return what people's queries say of the records; those that came again count once."""
    athena = Athena([record + b"\n" for record in {*records}], folder)
    try:
        users = {(app, day): count for app, day, count in athena.run("dau")}
        sessions: dict[tuple[str, date], int] = {}
        for app, day, _, count in athena.run("sessions"):
            key = app, date.fromisoformat(day)
            sessions[key] = sessions.get(key, 0) + count
        revenue = {(app, day): amount for app, day, _, amount, _ in athena.run("revenue")}
    finally:
        athena.close()
    return {
        key: (users.get(key, 0), sessions.get(key, 0), revenue.get(key, 0.0))
        for key in sorted({*users, *sessions, *revenue})
    }


class _Frame:
    """The growing table on a terminal, lines of progress elsewhere; a context manager."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._live: Live | None = None
        self._last = float("-inf")
        self._begun = time.monotonic()

    def __enter__(self) -> Self:
        if self._screen.console.is_terminal:
            self._live = Live(console=self._screen.console, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, shown: Shown) -> None:
        now = time.monotonic()
        if self._live is not None:
            self._live.update(table(shown), refresh=True)
        elif now - self._last >= PLAIN_EVERY:
            self._last = now
            users, sessions, revenue = (
                sum(row[n] for row in shown.rows.values()) for n in range(3)
            )
            self._screen.say(
                f"{now - self._begun:4.1f} s  {shown.accepted:,} events accepted; in the stream "
                f"{shown.records:,} records: {users} daily users, {sessions} sessions, "
                f"{revenue:,.2f} EUR"
            )


def table(shown: Shown) -> Table:
    """Return the figures, a row for each app and day."""
    caption = f"{shown.accepted:,} events accepted, {shown.records:,} records in the stream"
    found = Table(
        title="From the stream's records, by the queries people run in Athena",
        caption=caption,
        title_justify="left",
        caption_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    found.add_column("app", no_wrap=True)
    found.add_column("day", no_wrap=True)
    for name in ("active users", "sessions", "revenue, EUR"):
        found.add_column(name, justify="right", no_wrap=True)
    for (app, day), (users, sessions, revenue) in shown.rows.items():
        found.add_row(
            Text(NAMES.get(app, app), "bold"),
            str(day),
            f"{users:,}",
            f"{sessions:,}",
            f"{revenue:,.2f}",
        )
    return found


def _verdict(screen: Screen, scene: PinpointScene, sent: Sent, records: Sequence[bytes]) -> bool:
    rows = figures(records, scene.folder)
    with sent.lock:
        wanted = {
            key: (len(day.users), day.sessions, day.revenue) for key, day in sent.days.items()
        }
    console = screen.console
    if records:
        console.print("\nOne record in full:")
        text = folded(exact(records[-1]), PLAIN_WIDTH)
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.print(table(Shown(sent.events, len({*records}), rows)))
    same = rows.keys() == wanted.keys() and all(
        rows[key][:2] == wanted[key][:2] and abs(rows[key][2] - wanted[key][2]) < 0.005
        for key in wanted
    )
    whole = len({*records}) == sent.events and not sent.refused
    mark = "✓" if same and whole else "✗"
    screen.say(f"{sent.events:,} events accepted, {len({*records}):,} records in the stream", mark)
    told = "the figures are" if same else "the figures are not"
    screen.say(f"{told} those of an independent count of what the clients sent", mark)
    apps = {app for app, _ in wanted}
    return same and whole and apps == {SIGNED, KEYED}

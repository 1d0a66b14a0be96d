"""Everything the demo needs around the worker, and its removal afterwards."""

import os
import signal
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.demo import connections
from tests.demo.connections import CONNECTIONS, ORGANISATION, ROLE, Configured, Kafka
from tests.demo.screen import Screen
from tests.services import kafka, ministack
from tests.services.kafka import Broker, MissingToolError
from tests.services.ministack import MiniStack

WITHOUT = (
    "without Kafka the same worker reads a file and keeps its journal in memory: "
    "no kill -9 this time."
)


@dataclass
class Scene:
    """What runs. ``foreign``: the broker is somebody's own, so the demo's topics are removed."""

    folder: Path
    emulator: MiniStack
    configured: Configured
    has_kafka: bool
    foreign: bool

    @property
    def variables(self) -> dict[str, str]:
        """Return what the worker gets of AWS: an endpoint, and keys that may assume the role."""
        return self.emulator.variables()


@contextmanager
def prepared(
    screen: Screen, bootstrap: str | None, *, without_kafka: bool = False
) -> Iterator[Scene]:
    """Set everything up; whatever happens, nothing of it is left afterwards."""
    with ExitStack() as stack:
        try:
            yield _prepare(screen, stack, bootstrap, without_kafka=without_kafka)
        finally:
            # A second Ctrl-C must not leave a process behind; every end below is bounded.
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def _prepare(
    screen: Screen, stack: ExitStack, bootstrap: str | None, *, without_kafka: bool
) -> Scene:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="forwarder-demo-")))
    emulator = MiniStack()
    # Before the start: an interrupt in the middle of it leaves no process either.
    stack.callback(emulator.stop)
    _start_emulator(screen, emulator)
    found = None if without_kafka else _kafka(screen, stack, folder, bootstrap)
    if found is None:
        screen.say(WITHOUT, mark="!")
    configured = connections.write(folder, found or Kafka())
    return Scene(folder, emulator, configured, found is not None, bootstrap is not None)


def _start_emulator(screen: Screen, emulator: MiniStack) -> None:
    with screen.step("starting the AWS emulator (the first time it is installed: 10 s)") as done:
        ministack.environment()
        emulator.start()
        done(f"AWS emulator on {emulator.endpoint()}, checking signatures and policies")
    with screen.step("creating streams and role") as done:
        for shown in CONNECTIONS:
            emulator.make_stream(shown.name)
        emulator.make_role(ROLE, external_id=f"orgid:{ORGANISATION}")
        done(f"role {ROLE}: ExternalId orgid:{ORGANISATION}, kinesis:PutRecord only")
    for shown in CONNECTIONS:
        screen.say(f"stream {shown.name}: {shown.about}", mark="✓")


def _kafka(screen: Screen, stack: ExitStack, folder: Path, bootstrap: str | None) -> Kafka | None:
    if bootstrap is not None:
        # On somebody's own broker nothing may meet what is there already.
        name = f"forwarder-demo-{uuid.uuid4().hex[:8]}"
        screen.say(f"Kafka on {bootstrap} (yours); topics and group are called {name}…")
        return Kafka(bootstrap, name, f"{name}-events", f"{name}-dead-letters")
    try:
        kafka.require_tools()
        return Kafka(_start_broker(screen, folder, stack.callback))
    except MissingToolError as missing:
        screen.say(f"no Kafka here: {missing}", mark="!")
        return None


def _start_broker(
    screen: Screen, folder: Path, at_end: Callable[[Callable[[], None]], object]
) -> str:
    with screen.step("starting Kafka (the first time Maven fetches its jars: 43 MB)") as done:
        kafka.fetch_jars()
        broker = Broker(folder / "kafka")
        at_end(broker.stop)
        broker.start()
        done(f"Apache Kafka on {broker.bootstrap}, one broker, transactions and all")
        return broker.bootstrap


def own_broker() -> str | None:
    """Return the broker that the environment names, as the tests understand it."""
    return os.environ.get("KAFKA_BOOTSTRAP_SERVERS")

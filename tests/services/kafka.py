"""A real Kafka broker on loopback: one KRaft node, for tests, the demo and measurements.

The jars come from Maven (``tests/kafka/pom.xml``) into a folder that git ignores; Java 17 or
newer runs them. ``KAFKA_BOOTSTRAP_SERVERS`` names another cluster, and then neither is needed.
"""

import base64
import contextlib
import fcntl
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

POM = Path(__file__).parents[1] / "kafka" / "pom.xml"
JARS = Path(__file__).parents[2] / ".cache" / "kafka"
JAVA_OPTIONS = ("-Xmx512m", "-Xms128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
OLDEST_JAVA = 17
PORTS = range(12_000, 32_768)
"""Ports to listen on: below those that Linux and macOS give to outgoing connections."""
START_SECONDS = 60.0
STOP_SECONDS = 20.0

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={logs}
auto.create.topics.enable=false
num.partitions=1
offsets.topic.num.partitions=2
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=2
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=6000
log.retention.check.interval.ms=1000
"""


class MissingToolError(Exception):
    """Java or Maven is not here, so no broker can run; the text says what to install."""


def require_tools() -> None:
    """Raise MissingToolError unless a broker could be set up and run here."""
    missing = ""
    if java_version() < OLDEST_JAVA:
        missing = f"Java {OLDEST_JAVA} or newer"
    elif shutil.which("mvn") is None and not jars_present():
        missing = "Maven (mvn), to fetch its jars,"
    if missing:
        text = f"a real Kafka needs {missing} on the PATH"
        raise MissingToolError(text)


def java_version() -> int:
    """Return the major version of the Java on the PATH, 0 if there is none."""
    java = shutil.which("java")
    if java is None:
        return 0
    answer = subprocess.run(
        [java, "-version"], capture_output=True, text=True, check=False, timeout=60
    )
    found = re.search(r'version "(\d+)', answer.stderr)
    return int(found[1]) if found else 0


def jars_present() -> bool:
    """Tell whether the jars of the pom as it stands now were fetched before."""
    stamp = JARS / "pom.xml"
    return stamp.exists() and stamp.read_bytes() == POM.read_bytes()


def fetch_jars() -> Path:
    """Return the folder of Kafka's jars, fetching them once; several processes may ask."""
    JARS.mkdir(parents=True, exist_ok=True)
    with (JARS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not jars_present():
            copy_dependencies(JARS / "lib")
            shutil.copyfile(POM, JARS / "pom.xml")
    return JARS / "lib"


def copy_dependencies(target: Path) -> None:
    """Let Maven put Kafka and what it depends on into ``target``; 43 MB, about 10 s."""
    shutil.rmtree(target, ignore_errors=True)
    command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies"]
    command += ["-DincludeScope=runtime", f"-DoutputDirectory={target}"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if answer.returncode != 0:
        text = f"Maven could not fetch Kafka: {answer.stdout[-600:]}"
        raise MissingToolError(text)


def free_port() -> int:
    """Return a loopback port nobody uses right now.

    Chance keeps tests apart that run at once: a broker that is away for a while, or that has yet
    to be started, holds no port.
    """
    for _ in range(100):
        port = secrets.choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    text = f"no port is free of those from {PORTS.start} to {PORTS.stop - 1}"
    raise RuntimeError(text)


def new_cluster_id() -> str:
    """Return the id of a cluster as its storage tool wants it."""
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    # A leading dash would be taken for an option.
    return "A" + cluster[1:]


class Broker:
    """One broker with a folder of its own; start, stop, kill and restart keep port and data."""

    def __init__(self, folder: Path, extra: str = "", cluster: str = "") -> None:
        """Prepare a broker in ``folder``; ``extra`` lines override its server.properties.

        ``{port}`` and ``{controller}`` in them stand for the two ports. ``cluster`` is the id of
        a cluster of several brokers; empty: one of its own.
        """
        self.folder = folder
        self.port = free_port()
        self.controller = free_port()
        self.extra = extra
        self._cluster = cluster or new_cluster_id()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """Return ``host:port`` for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """Return the process id, None while it is not running."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the broker, formatting its folder at first, and wait until it answers."""
        self.launch()
        self.await_ready()

    def launch(self) -> None:
        """Start the process alone: one of several answers once most of them run."""
        libraries = fetch_jars()
        properties = self.folder / "server.properties"
        if not properties.exists():
            self._format(libraries, properties)
        log = (self.folder / "broker.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                self._java(libraries, "kafka.Kafka", str(properties)),
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,
            )

    def stop(self) -> None:
        """Let the broker shut down by itself; kill it when that takes too long."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the broker as a crash would."""
        self._end(signal.SIGKILL)

    def suspend(self) -> None:
        """Stop the broker's process without ending it; connections stay open and silent."""
        self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        """Let a suspended broker go on."""
        self._signal(signal.SIGCONT)

    def _format(self, libraries: Path, properties: Path) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        text = (PROPERTIES + self.extra).format(
            port=self.port, controller=self.controller, logs=self.folder / "logs"
        )
        pending = properties.with_suffix(".pending")
        pending.write_text(text)
        command = self._java(libraries, "kafka.tools.StorageTool", "format")
        command += ["-t", self._cluster, "-c", str(pending)]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, timeout=60)
        pending.rename(properties)

    @staticmethod
    def _java(libraries: Path, *arguments: str) -> list[str]:
        return ["java", *JAVA_OPTIONS, "-cp", f"{libraries}/*", *arguments]

    def await_ready(self) -> None:
        """Wait until the broker takes connections; raises RuntimeError if it ends instead."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                break
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            time.sleep(0.05)
        tail = (self.folder / "broker.log").read_text(errors="replace")[-2000:]
        self.kill()
        text = f"the broker did not start:\n{tail}"
        raise RuntimeError(text)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)


REPLICATED = """\
node.id={number}
controller.quorum.voters={voters}
default.replication.factor={copies}
min.insync.replicas={least}
offsets.topic.replication.factor={copies}
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={least}
"""


def own_cluster(folder: Path, copies: int = 3) -> list[Broker]:
    """Return so many running brokers of one cluster, every topic on each of them."""
    try:
        require_tools()
        name = new_cluster_id()
        brokers = [Broker(folder / str(n), cluster=name) for n in range(1, copies + 1)]
        voters = ",".join(f"{n}@127.0.0.1:{b.controller}" for n, b in enumerate(brokers, 1))
        for number, broker in enumerate(brokers, 1):
            least = copies // 2 + 1
            broker.extra = REPLICATED.format(
                number=number, voters=voters, copies=copies, least=least
            )
            broker.launch()
        for broker in brokers:
            broker.await_ready()
    except MissingToolError as missing:
        skip_or_fail(str(missing))
        raise
    return brokers


def skip_or_fail(reason: str) -> None:
    """Skip the test for want of a tool on a developer's machine; fail it where CI=true."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def own_broker(folder: Path, extra: str = "") -> Broker:
    """Return a running broker for one test that stops, kills or reconfigures it."""
    try:
        require_tools()
        broker = Broker(folder, extra)
        broker.start()
    except MissingToolError as missing:
        skip_or_fail(str(missing))
        raise
    return broker


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of a real Kafka that the whole session shares."""
    given = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if given:
        yield given
        return
    broker = own_broker(tmp_path_factory.mktemp("kafka"))
    yield broker.bootstrap
    broker.stop()

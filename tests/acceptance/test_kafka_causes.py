"""What only an operator can mend: it is named with its remedy, and recovered from when mended.

Each cause is made on a real broker beside a worker that works. Its name and what to do about it
stand in the log and on ``/readyz``, ``forwarder doctor`` says the same, and once it is mended the
worker goes on by itself.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from forwarder.cli.output import WIDTH
from forwarder.config.loader import load_configuration
from forwarder.journal import topics
from tests.acceptance import commands
from tests.acceptance.cluster import Cluster
from tests.acceptance.harness import Worker
from tests.acceptance.scene import Scene
from tests.services.kafka import Broker, free_port, own_broker
from tests.services.kafka_changes import Changes

pytestmark = pytest.mark.service

SECURED = """\
listeners=PLAINTEXT://127.0.0.1:{{port}},CONTROLLER://127.0.0.1:{{controller}},\
SASL://127.0.0.1:{sasl},TLS://127.0.0.1:{tls}
advertised.listeners=PLAINTEXT://127.0.0.1:{{port}},SASL://127.0.0.1:{sasl},TLS://127.0.0.1:{tls}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SSL
listener.name.tls.ssl.keystore.type=PEM
listener.name.tls.ssl.keystore.location={store}
listener.name.tls.ssl.truststore.type=PEM
listener.name.tls.ssl.truststore.location={trusted}
listener.name.tls.ssl.client.auth=requested
sasl.enabled.mechanisms=PLAIN
listener.name.sasl.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required user_worker="opensesame";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:CN=127.0.0.1
"""
PASSWORD = "opensesame"
TLS = Path(__file__).parents[1] / "data" / "tls"


@dataclass
class Stage:
    """A secured broker, its administrator, and a group with the rights that are printed."""

    broker: Broker
    changes: Changes
    scene: Scene
    worker: Worker
    tls: int
    fed: int = 0

    def named(self, text: str) -> str:
        """Return a text with the names of this group and its topic."""
        return text.format(name=self.scene.name, topic=self.scene.topic)

    async def feed(self, *, bad: bool = False) -> None:
        """Send events, all delivered in the end, and before them one record that is ``bad``."""
        first, self.fed = self.fed, self.fed + 4
        if bad:
            await self.scene.kafka.send(self.scene.topic, [(b"d1", b"{no json", 1)])
        await self.scene.feed(range(first, self.fed))

    async def restart(self, *, ready: bool = True, **variables: str) -> None:
        """Start another worker, with the configuration as it is now."""
        self.worker.kill()
        self.scene.variables = variables
        self.worker = self.scene.worker()
        self.worker.start()
        if ready:
            await self.worker.until_ready()

    async def set_broker(self, line: str) -> None:
        """Start the broker anew with another setting."""
        await asyncio.to_thread(self.broker.stop)
        properties = self.broker.folder / "server.properties"
        properties.write_text(f"{properties.read_text()}{line}\n")
        await asyncio.to_thread(self.broker.start)

    async def flows(self) -> None:
        """Judge that what is sent now is delivered, by the same process."""
        await self.feed()
        wanted = [*range(self.fed)]
        await self.worker.until(lambda: wanted == [*dict.fromkeys(self.scene.numbers())], "flows")
        await self.worker.until_ready()
        assert "remedy" not in self.worker.get("/readyz")[1]
        assert self.worker.running

    async def says(self, *texts: str) -> None:
        """Wait until ``/readyz`` and the log say all of these."""

        def told() -> bool:
            page = self.worker.get("/readyz")[1]
            return all(text in page for text in texts)

        def logged() -> bool:
            lines = [f"{line.get('error')} {line.get('remedy')}" for line in self.worker.log()]
            return any(all(text in line for text in texts) for line in lines)

        await self.worker.until(told, f"/readyz says {texts}", 60)
        await self.worker.until(logged, f"the log says {texts}")

    async def doctor_says(self, *texts: str) -> None:
        """Judge that the doctor finds it and says how it is mended."""
        answer = await commands.ran(self.scene, "doctor", code=1)
        for text in texts:
            assert text in answer.out, answer.out

    async def status_says(self, *texts: str) -> None:
        """Judge that it stands below the tables, or is why there are none; in lines that fit."""
        answer = await commands.answered(await commands.begun(self.scene, "status"))
        said = answer.out if answer.code == 0 else answer.err
        flat = " ".join(said.split())
        for text in texts:
            assert text in flat, said
        assert [] == [line for line in answer.out.splitlines() if len(line) > WIDTH]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Broker, int, int]]:
    folder, sasl, tls = tmp_path_factory.mktemp("kafka"), free_port(), free_port()
    store = folder / "store.pem"
    store.write_text((TLS / "key.pem").read_text() + (TLS / "cert.pem").read_text())
    extra = SECURED.format(sasl=sasl, tls=tls, store=store, trusted=TLS / "cert.pem")
    broker = own_broker(folder / "broker", extra)
    yield broker, sasl, tls
    broker.kill()


@pytest.fixture
async def ground(
    secured: tuple[Broker, int, int], tmp_path: Path, name: str
) -> AsyncIterator[Stage]:
    broker, sasl, tls = secured
    async with Cluster(broker.bootstrap) as cluster:
        scene = Scene.make(cluster, tmp_path, name)
        scene.sections["kafka"]["bootstrap_servers"] = [f"127.0.0.1:{sasl}"]
        scene.sections["kafka"]["security"] = {
            "protocol": "SASL_PLAINTEXT",
            "mechanism": "PLAIN",
            "username": "worker",
            "password": PASSWORD,
        }
        scene.to_file(settings={"send_as_batch": False})
        await cluster.create(scene.topic, 2)
        changes = Changes(broker.bootstrap)
        worker = scene.worker()
        configuration = load_configuration(scene.folder / "worker.yaml").configuration
        needs = topics.topic_needs(configuration, {scene.topic: 2})
        for row in topics.acl_report(configuration, needs, set()):
            resource, _, operations = row.text.partition(": ")
            await changes.grant(resource, operations)
        yield Stage(broker, changes, scene, worker, tls)
        scene.close()


@pytest.fixture
async def stage(ground: Stage) -> Stage:
    """Have a worker at work."""
    ground.worker.start()
    await ground.worker.until_ready()
    await ground.flows()
    return ground


RIGHTS = [
    ("topic {topic}", "Read", "grant Read on topic {topic}"),
    ("topic {topic}", "Describe", "grant Describe on it"),
    ("topic {name}.outbox.{topic}", "Write", "grant Write on topic {name}.outbox.{topic}"),
    ("topic {name}.state.{topic}", "Write", "grant Write on topic {name}.state.{topic}"),
    ("group {name}", "Read", "grant Read on group {name}"),
    ("transactional-id {name}/ (prefixed)", "Write", "transactional ids of group {name}"),
]
"""What is taken away, and what is said."""


@pytest.mark.parametrize(("resource", "operation", "remedy"), RIGHTS)
async def test_a_right_that_is_taken_away_is_named_until_it_is_back(
    stage: Stage, resource: str, operation: str, remedy: str
) -> None:
    resource, remedy = stage.named(resource), stage.named(remedy)
    await stage.changes.deny(resource, operation)
    await stage.feed()
    await stage.says(remedy)
    await asyncio.gather(stage.doctor_says(remedy), stage.status_says(remedy))
    await stage.changes.deny_no_more(resource, operation)
    await stage.flows()


SETTINGS = [
    ("{name}.outbox.{topic}", {"max.message.bytes": "100"}, "set max.message.bytes of topic"),
    ("{name}-dead-letters", {"max.message.bytes": "100"}, "set max.message.bytes of topic"),
]


@pytest.mark.parametrize(("topic", "settings", "remedy"), SETTINGS)
async def test_a_setting_that_stops_ticks_is_named_until_it_is_right(
    stage: Stage, topic: str, settings: dict[str, str | None], remedy: str
) -> None:
    topic = stage.named(topic)
    [(name, value)] = settings.items()
    before = "16777216" if name == "max.message.bytes" else None
    await stage.changes.set_topic(topic, settings)
    await stage.feed(bad=topic.endswith("letters"))
    await stage.says(remedy, topic)
    await asyncio.gather(
        stage.doctor_says(topic, name, value or ""), stage.status_says(topic, name)
    )
    await stage.changes.set_topic(topic, {name: before})
    await stage.flows()


SKEWED = """\
import pathlib, time
_ahead, _time = pathlib.Path(__file__).with_name("ahead"), time.time
time.time = lambda: _time() + float(_ahead.read_text())
"""


async def test_a_clock_that_is_ahead_is_named_until_it_is_right(stage: Stage) -> None:
    (stage.scene.folder / "sitecustomize.py").write_text(SKEWED)
    ahead = stage.scene.folder / "ahead"
    ahead.write_text("0")
    # The client's compiled part asks the machine itself.
    await stage.restart(PYTHONPATH=str(stage.scene.folder), AIOKAFKA_NO_EXTENSIONS="1")
    await stage.flows()
    ahead.write_text(str(2 * 3600))
    await stage.feed()
    await stage.says("set the clock of this machine")
    await stage.doctor_says("set the clock of this machine")
    ahead.write_text("0")
    await stage.flows()


async def test_a_transaction_that_may_not_take_so_long_is_named_until_it_may(
    stage: Stage,
) -> None:
    remedy = "set transaction.max.timeout.ms of the brokers to 45000"
    await stage.set_broker("transaction.max.timeout.ms=10000")
    await stage.restart(ready=False)  # one that has begun before is asked no more
    await stage.feed()
    await stage.says(remedy)
    await asyncio.gather(stage.doctor_says(remedy), stage.status_says(remedy))
    await stage.set_broker("transaction.max.timeout.ms=900000")
    await stage.flows()


LOGINS = [
    ({"password": "wrong"}, "Invalid username or password", "check kafka.security: mechanism"),
    ({"mechanism": "SCRAM-SHA-256"}, "UnsupportedSaslMechanismError", "kafka.security.mechanism"),
    ({"protocol": "SASL_SSL"}, "ConnectionReset", "and kafka.security.protocol"),
    (
        {"protocol": "SSL", "mechanism": None, "username": None, "password": None},
        "certificate verify failed",
        "check kafka.security.ca_file",
    ),
]


@pytest.mark.parametrize(("changes", "why", "remedy"), LOGINS)
async def test_a_login_that_is_refused_is_named(
    ground: Stage, changes: dict[str, str | None], why: str, remedy: str
) -> None:
    kafka = ground.scene.sections["kafka"]
    security = kafka["security"] | changes
    kafka["security"] = {name: value for name, value in security.items() if value is not None}
    if security["protocol"] == "SSL":
        kafka["bootstrap_servers"] = [f"127.0.0.1:{ground.tls}"]
    await ground.restart(ready=False)
    await ground.says(why, remedy)
    _, answer = await asyncio.gather(
        ground.doctor_says(why, remedy), commands.ran(ground.scene, "status", code=1)
    )
    flat = " ".join(answer.err.split())
    assert why in flat
    assert remedy in flat
    assert "not joined yet" not in ground.worker.get("/readyz")[1]


async def test_a_client_key_with_a_passphrase_opens_the_door(ground: Stage) -> None:
    kafka = ground.scene.sections["kafka"]
    kafka["bootstrap_servers"] = [f"127.0.0.1:{ground.tls}"]
    kafka["security"] = {
        "protocol": "SSL",
        "ca_file": str(TLS / "cert.pem"),
        "cert_file": str(TLS / "cert.pem"),
        "key_file": str(TLS / "encrypted.pem"),
        "key_password": "opensesame",
    }
    await ground.restart()
    await ground.flows()
    assert "opensesame" not in ground.worker.log_file.read_text()

"""A worker with a password and no more rights than the list it prints."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import structlog

from forwarder.admin.kafka_checkup import KafkaCheckup
from forwarder.clock import SystemClock
from forwarder.config.settings import Configuration, Mechanism, Security, SecurityProtocol
from forwarder.errors import JournalError, StartupError
from forwarder.journal import topics
from forwarder.journal.commit import CommitMetadata
from forwarder.journal.contract import OutboxEntry, Tick
from forwarder.journal.kafka import KafkaJournals
from forwarder.kafka import msk
from forwarder.kafka.msk import MskToken
from forwarder.model import DeadLetter, Partition, Reason
from forwarder.ops.diagnosis import Finding, FindingGrade
from forwarder.sources.kafka import KafkaSource
from tests.integration.test_kafka_source import Member, until
from tests.services.kafka import free_port, own_broker
from tests.services.kafka_changes import Changes
from tests.services.kafka_world import World

pytestmark = pytest.mark.service

SECURED = """\
listeners=PLAINTEXT://127.0.0.1:{{port}},CONTROLLER://127.0.0.1:{{controller}},\
SASL://127.0.0.1:{sasl},OAUTH://127.0.0.1:{oauth}
advertised.listeners=PLAINTEXT://127.0.0.1:{{port}},SASL://127.0.0.1:{sasl},OAUTH://127.0.0.1:{oauth}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,\
SASL:SASL_PLAINTEXT,OAUTH:SASL_PLAINTEXT
sasl.enabled.mechanisms=PLAIN,OAUTHBEARER
listener.name.oauth.sasl.enabled.mechanisms=OAUTHBEARER
listener.name.oauth.oauthbearer.sasl.jaas.config=\
org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required \
unsecuredLoginStringClaim_sub="worker";
listener.name.sasl.sasl.enabled.mechanisms=PLAIN
listener.name.sasl.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required user_worker="right";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""


class Secured:
    """One broker with a door for its owner and one for the worker."""

    def __init__(self, bootstrap: str, sasl: int, oauth: int) -> None:
        self.bootstrap = bootstrap
        self.sasl = f"127.0.0.1:{sasl}"
        self.oauth = f"127.0.0.1:{oauth}"

    def for_worker(self, settings: Configuration, password: str) -> Configuration:
        security = Security(SecurityProtocol.SASL_PLAINTEXT, Mechanism.PLAIN, "worker", password)
        kafka = replace(settings.kafka, bootstrap_servers=(self.sasl,), security=security)
        return replace(settings, kafka=kafka)

    def with_token(self, settings: Configuration) -> Configuration:
        """Return settings of AWS_MSK_IAM for this broker: unencrypted, as no file may."""
        security = Security(
            SecurityProtocol.SASL_PLAINTEXT, Mechanism.AWS_MSK_IAM, region="us-east-1"
        )
        kafka = replace(settings.kafka, bootstrap_servers=(self.oauth,), security=security)
        return replace(settings, kafka=kafka)

    async def grant(self, rows: Sequence[topics.TopicReportLine]) -> None:
        """Grant what the printed list says, and nothing else."""
        changes = Changes(self.bootstrap)
        for row in rows:
            resource, _, operations = row.text.partition(": ")
            await changes.grant(resource, operations)


@pytest.fixture
async def secured(tmp_path: Path) -> AsyncIterator[Secured]:
    sasl, oauth = free_port(), free_port()
    extra = SECURED.format(sasl=sasl, oauth=oauth)
    broker = await asyncio.to_thread(own_broker, tmp_path, extra)
    yield Secured(broker.bootstrap, sasl, oauth)
    await asyncio.to_thread(broker.kill)


async def test_the_printed_rights_are_enough_and_what_is_missing_is_marked(
    secured: Secured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forwarder.kafka.admin.ANSWER_SECONDS", 4.0)
    await a_wrong_password_gets_nowhere(secured)
    for create in (False, True):
        world = World(secured.bootstrap, partitions=1)
        await world.create_input()
        if not create:
            owner = KafkaJournals(world.settings(), "owner", SystemClock())
            await owner.prepare(frozenset())
            await owner.close()
        settings = secured.for_worker(world.settings(create_topics=create), "right")
        assert "FAIL" in await grades(settings)
        journals = KafkaJournals(settings, "worker", SystemClock())
        with pytest.raises(StartupError) as refused:
            await journals.prepare(frozenset())
        assert f"DENIED   group {world.group}: Read" in str(refused.value)
        assert f"DENIED   transactional-id {world.group}/" in str(refused.value)
        assert f"DENIED   topic {world.topic}: DescribeConfigs" in str(refused.value)
        rights = topics.acl_report(settings, topics.topic_needs(settings, {world.topic: 1}), set())
        if not create:
            await secured.grant([replace(r, text=r.text.replace(", Delete", "")) for r in rights])
            [missing] = [one for one in await findings(settings) if one.grade is FindingGrade.FAIL]
            assert f"grant Delete on topic {world.state}" == missing.remedy
            await the_state_keeps_its_history(journals, world)
        await secured.grant(rights)
        await journals.prepare(frozenset())
        assert "DENIED" not in await journals.describe()
        await a_day_of_work(journals, settings, world)
        assert await grades(settings) == {"ok"}
        await journals.close()
    await a_token_opens_the_door_too(secured, world, monkeypatch)


async def findings(settings: Configuration) -> list[Finding]:
    """Return what the doctor says of this Kafka."""
    return await KafkaCheckup(settings, "doctor").findings()


async def grades(settings: Configuration) -> set[str]:
    return {str(one.grade) for one in await findings(settings)}


async def a_token_opens_the_door_too(
    secured: Secured, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Log in by OAUTHBEARER: the broker checks a token's form, subject and times."""
    settings = secured.with_token(world.settings())
    made: list[MskToken] = []

    async def sign(_: Security) -> MskToken:
        made.append(token(900 if made else -60))
        return made[-1]

    monkeypatch.setattr(msk, "sign_token", sign)
    journals = KafkaJournals(settings, "worker", SystemClock())
    await journals.prepare(frozenset())
    journal = journals.journal(Partition(world.topic, 0))
    await journal.open()
    await journal.prove()
    await journal.close()
    await journals.close()
    assert len(made) == 2, "the first was refused; all clients share the second"


def token(seconds: float) -> MskToken:
    """Return an unsecured JSON Web Token (RFC 7515, appendix A.5) that lives so long."""
    now = time.time()
    claims = {"sub": "worker", "iat": now - 120, "exp": now + seconds}
    parts = [json.dumps(part).encode() for part in ({"alg": "none"}, claims)]
    text = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)
    return MskToken(text + ".", round((now + 900) * 1000))


async def a_wrong_password_gets_nowhere(secured: Secured) -> None:
    settings = secured.for_worker(World(secured.bootstrap).settings(), "wrong")
    [told] = await findings(settings)
    assert "lets nobody in" in told.what
    assert "Invalid username or password" in told.what
    assert "wrong" not in told.what
    journals = KafkaJournals(settings, "worker", SystemClock())
    with pytest.raises(JournalError, match="did not tell"):
        await journals.prepare(frozenset())
    await journals.close()


async def the_state_keeps_its_history(journals: KafkaJournals, world: World) -> None:
    """Without the right to delete nothing is cut; that is said once, and all else goes on."""
    await journals.prepare(frozenset())
    journal = journals.journal(Partition(world.topic, 0))
    await journal.open()
    committed = await journal.commit(Tick([], [], [b"base"], 0, CommitMetadata(0, 0)))
    with structlog.testing.capture_logs() as logged:
        for _ in range(2):
            await journal.cut(committed.state[0] + 1)
    [note] = logged
    assert note["event"] == "kafka.note"
    assert f"grant Delete on topic {world.state}" in note["note"]
    assert (await journals.cluster.bounds([Partition(world.state, 0)])).popitem()[1].start == 0
    await journal.commit(Tick([], [], [b"delta"], 0, CommitMetadata(0, 0)))
    await journal.close()


async def a_day_of_work(journals: KafkaJournals, settings: Configuration, world: World) -> None:
    partition = Partition(world.topic, 0)
    journal = journals.journal(partition)
    await journal.open()
    letter = DeadLetter(Reason.INVALID_JSON, 0, "", "", b"x")
    tick = Tick([OutboxEntry("acme", b"batches")], [letter], [b"base"], 1, CommitMetadata(1, 0))
    committed = await journal.commit(tick)
    end = committed.outbox[0] + 1
    stored = [(committed.outbox[0], "acme", b"batches")]
    assert await journal.read(["acme"], 0, end, 100) == (stored, end, 7)
    await journal.prove()
    with structlog.testing.capture_logs() as logged:
        await journal.cut(committed.state[0])
    assert logged == []
    await journal.close()
    await world.produce([b"input"])
    member = Member(world, "worker")
    member.source = KafkaSource(settings, "worker")
    member.start_at = 0
    await member.join()
    await until(lambda: member.values(partition) == [b"input"])
    assert await member.source.is_owner(partition)
    assert await member.source.end(partition) == 1
    await member.leave()

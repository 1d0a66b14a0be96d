"""What the doctor finds of a gateway's topics and database, on a real Kafka and PostgreSQL."""

import asyncpg
import pytest

from forwarder.admin.gateway_checkup import GatewayCheckup
from forwarder.config.gateway import (
    App,
    AppAuth,
    EndpointStoreSettings,
    EventsApi,
    EventsApiInput,
    Gateway,
    GatewayLimits,
    PinpointApi,
    StoreKind,
)
from forwarder.gateway.endpoints.checkup import store_findings
from forwarder.gateway.endpoints.merge import make_merge
from forwarder.gateway.endpoints.stores import open_store
from forwarder.ops.diagnosis import Finding
from tests.services.kafka_world import World
from tests.services.postgres import PostgresServer

pytestmark = pytest.mark.service


@pytest.fixture
async def world(kafka: str) -> World:
    """Give the input topic of one test."""
    found = World(kafka)
    await found.create_input()
    return found


def gateway(topic: str, uploads: str | None = None, **limits: int) -> Gateway:
    """Return one that writes to these topics."""
    inputs = (EventsApiInput("us1-abc", "secret"),)
    return Gateway(
        limits=GatewayLimits(**limits),
        pinpoint=PinpointApi(topic, (App("a", AppAuth.NONE),), "111122223333"),
        mparticle=EventsApi(uploads, inputs) if uploads else None,
    )


async def found(world: World, gateway: Gateway) -> list[tuple[str, str]]:
    checkup = GatewayCheckup(world.settings().kafka, gateway, "doctor")
    return told(await checkup.findings())


def told(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(str(one.grade), one.what) for one in findings]


async def test_topics_that_take_what_requests_make_are_well(world: World) -> None:
    findings = await found(world, gateway(world.topic, event_bytes=100_000))
    assert {"ok"} == {grade for grade, _ in findings}
    assert any(f"topic {world.topic}: " in what for _, what in findings)
    assert "an idempotent producer is let in" in [what for _, what in findings]


async def test_a_topic_that_takes_less_and_one_that_is_not_there_are_told(world: World) -> None:
    findings = await found(world, gateway(world.topic, f"{world.topic}-gone", event_bytes=2 << 20))
    assert ("FAIL", f"topic {world.topic}-gone is not there, or may not be seen") in findings
    [small] = [what for grade, what in findings if grade == "note"]
    assert "a request may make" in small


async def test_a_database_is_looked_at_and_left_as_it_is(postgres: PostgresServer) -> None:
    dsn = postgres.new_database()
    settings = EndpointStoreSettings(StoreKind.POSTGRES, dsn=dsn)
    before = told(await store_findings(settings))
    assert ["ok", "note"] == [grade for grade, _ in before]
    connection = await asyncpg.connect(dsn)
    assert 0 == await connection.fetchval(
        "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    )
    await connection.close()
    store = await open_store(settings, make_merge(GatewayLimits()))
    await store.close()
    assert told(await store_findings(settings))[1] == (
        "ok", "the tables of the endpoints are there"
    )  # fmt: skip


async def test_a_wrong_password_is_told_without_it(postgres: PostgresServer) -> None:
    dsn = postgres.dsn(password="Hidden9")
    [one] = await store_findings(EndpointStoreSettings(StoreKind.POSTGRES, dsn=dsn))
    assert ("FAIL", True) == (str(one.grade), "check user and password" in one.remedy)
    assert "Hidden9" not in one.what + one.remedy

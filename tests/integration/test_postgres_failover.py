"""A primary that dies under load, its replica that takes over, and connections by TLS."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import botocore
import orjson
import pytest

from forwarder.config.gateway import GatewayLimits
from forwarder.gateway.endpoints.contract import EndpointUpdate, StoreError
from forwarder.gateway.endpoints.merge import make_merge
from forwarder.gateway.endpoints.postgres import PostgresStore
from tests.services.postgres import START_SECONDS, PostgresServer, own_postgres

LIMITS = GatewayLimits(endpoint_bytes=10**7, endpoint_attributes=10**6)
MERGE = make_merge(LIMITS)
TLS = Path(__file__).parents[1] / "data" / "tls"
ROUNDS = 40


@pytest.fixture
def pair() -> Iterator[tuple[PostgresServer, PostgresServer]]:
    """Return a primary and its replica, which has what the primary has answered."""
    primary = own_postgres()
    try:
        replica = own_postgres(primary=primary)
    except BaseException:
        primary.remove()
        raise
    primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
    primary.execute("SELECT pg_reload_conf()")
    deadline = time.monotonic() + START_SECONDS
    while primary.execute("SELECT sync_state FROM pg_stat_replication") != "sync\n":
        assert time.monotonic() < deadline, "the replica does not follow"
        time.sleep(0.05)
    yield primary, replica
    replica.remove()
    primary.remove()


async def test_a_failover_under_load_loses_nothing_that_was_answered(
    pair: tuple[PostgresServer, PostgresServer],
) -> None:
    primary, replica = pair
    servers = f"127.0.0.1:{primary.port},127.0.0.1:{replica.port}"
    dsn = primary.dsn().replace(f"127.0.0.1:{primary.port}", servers)
    store = await PostgresStore.open(f"{dsn}?target_session_attrs=read-write", MERGE)
    answered: set[str] = set()
    failures = 0

    async def write(lane: int) -> None:
        nonlocal failures
        for number in range(ROUNDS):
            name = f"{lane}-{number}"
            update = EndpointUpdate({"Metrics": {name: 1}}, 1)
            while name not in answered:
                try:
                    await store.merge("a1", {"e-1": update, f"e-{lane}": update})
                except StoreError:
                    failures += 1
                    await asyncio.sleep(0.05)
                else:
                    answered.add(name)

    writers = [asyncio.create_task(write(lane)) for lane in range(2, 8)]
    while len(answered) < ROUNDS:  # noqa: ASYNC110  # some of them before it dies
        await asyncio.sleep(0.01)
    await asyncio.to_thread(primary.kill)
    with pytest.raises(StoreError):
        await store.check()
    await asyncio.to_thread(replica.execute, "SELECT pg_promote()")
    await asyncio.gather(*writers)
    await store.check()
    found = await store.read("a1", "e-1")
    assert found is not None
    assert answered == set(orjson.loads(found)["Metrics"])
    assert 6 * ROUNDS == len(answered)
    assert failures
    await store.close()


async def test_connections_are_encrypted_and_the_servers_certificate_judged() -> None:
    server = own_postgres()
    try:
        server.stop()
        server.give(server.folder / "cert.pem", (TLS / "cert.pem").read_bytes())
        server.give(server.folder / "key.pem", (TLS / "key.pem").read_bytes())
        server.settings |= {
            "ssl": "on",
            "ssl_cert_file": str(server.folder / "cert.pem"),
            "ssl_key_file": str(server.folder / "key.pem"),
        }
        server.start()
        trusted = f"{server.dsn()}?sslmode=verify-full&sslrootcert={TLS / 'cert.pem'}"
        store = await PostgresStore.open(trusted, MERGE)
        assert (await store.merge("a1", {"e-1": EndpointUpdate({}, 1)}))["e-1"].changed
        used = "SELECT count(*) FROM pg_stat_ssl WHERE ssl AND pid <> pg_backend_pid()"
        assert 1 <= int(server.execute(used))
        await store.close()
        others = Path(botocore.__file__).parent / "cacert.pem"
        stranger = PostgresStore(f"{server.dsn()}?sslmode=verify-full&sslrootcert={others}", MERGE)
        with pytest.raises(StoreError, match=r"SSLCertVerificationError; check sslmode"):
            await stranger.check()
        await stranger.close()
        missing = PostgresStore(f"{server.dsn()}?sslmode=verify-full&sslrootcert=/none", MERGE)
        with pytest.raises(StoreError, match=r"names: FileNotFoundError; check sslrootcert"):
            await missing.check()
        await missing.close()
    finally:
        server.remove()

"""What only a database that gateways share has: other writers, restarts, failures, migrations."""

import asyncio
import contextlib
import re
import sqlite3
import sys
from asyncio import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import orjson
import pytest

from forwarder.config.gateway import EndpointStoreSettings, GatewayLimits, StoreKind
from forwarder.gateway.endpoints import schema
from forwarder.gateway.endpoints.contract import EndpointUpdate, StoreError
from forwarder.gateway.endpoints.merge import make_merge
from forwarder.gateway.endpoints.postgres import PostgresStore
from forwarder.gateway.endpoints.sqlite import SqliteStore
from forwarder.gateway.endpoints.stores import open_store
from tests.services.postgres import PASSWORD, PostgresServer, own_postgres

MERGE = make_merge(GatewayLimits())
GOLDEN = Path(__file__).parents[1] / "data" / "endpoints"
NAMES = [f"e-{number}" for number in range(7)]
WRITER = """\
import asyncio, sys
from forwarder.config.gateway import GatewayLimits
from forwarder.gateway.endpoints.contract import EndpointUpdate, StoreError
from forwarder.gateway.endpoints.merge import make_merge
from forwarder.gateway.endpoints.postgres import PostgresStore

NAMES = [f"e-{number}" for number in range(7)]

async def write(store, lane, count):
    for number in range(count):
        names = NAMES if number % 2 else NAMES[::-1]
        update = EndpointUpdate({"Metrics": {f"{sys.argv[2]}-{lane}-{number}": 1}}, 1)
        while True:
            try:
                merged = await store.merge("a1", {name: update for name in names})
            except StoreError:
                await asyncio.sleep(0.05)
            else:
                break
        assert not any(it.fault for it in merged.values())
        print(f"{sys.argv[2]}-{lane}-{number}", flush=True)

async def main():
    limits = GatewayLimits(endpoint_bytes=10**7, endpoint_attributes=10**6)
    store = await PostgresStore.open(sys.argv[1], make_merge(limits))
    await asyncio.gather(*(write(store, lane, int(sys.argv[3])) for lane in range(5)))
    await store.close()

asyncio.run(main())
"""


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """Return a server that only one test has."""
    own = own_postgres()
    yield own
    own.remove()


def update(**members: object) -> EndpointUpdate:
    return EndpointUpdate(members, 1_767_225_600_000)


async def writer(dsn: str, name: str, count: int) -> subprocess.Process:
    return await subprocess.create_subprocess_exec(
        sys.executable, "-c", WRITER, dsn, name, str(count), stdout=subprocess.PIPE
    )


async def answered(process: subprocess.Process) -> set[str]:
    out, _ = await process.communicate()
    return set(out.decode().split())


async def stored(dsn: str) -> list[set[str]]:
    store = await PostgresStore.open(dsn, MERGE)
    found = [await store.read("a1", name) for name in NAMES]
    await store.close()
    return [set(orjson.loads(it or b'{"Metrics":{}}')["Metrics"]) for it in found]


async def test_two_processes_that_write_the_same_endpoints_lose_nothing(
    postgres: PostgresServer,
) -> None:
    dsn = postgres.new_database()
    processes = [await writer(dsn, name, 30) for name in ("one", "other")]
    sent = set().union(*[await answered(process) for process in processes])
    assert [0, 0] == [process.returncode for process in processes]
    assert 300 == len(sent)
    assert [sent] * len(NAMES) == await stored(dsn)
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert "0\n" == postgres.execute(deadlocks, dsn)


@pytest.mark.parametrize("way", ["stop", "kill"])
async def test_a_server_that_restarts_in_the_middle_loses_nothing_that_was_answered(
    server: PostgresServer, way: str
) -> None:
    dsn = server.new_database()
    processes = [await writer(dsn, name, 60) for name in ("one", "other")]
    for process in processes:
        assert process.stdout is not None
    for _ in range(2):
        await asyncio.sleep(0.5)
        await asyncio.to_thread(getattr(server, way))
        await asyncio.to_thread(server.start)
    sent = set().union(*[await answered(process) for process in processes])
    assert [0, 0] == [process.returncode for process in processes]
    assert 600 == len(sent)
    assert [sent] * len(NAMES) == await stored(dsn)


async def test_a_restart_between_two_calls_is_not_noticed(server: PostgresServer) -> None:
    store = await PostgresStore.open(server.new_database(), MERGE)
    await asyncio.gather(*(store.merge("a1", {f"e-{n}": update()}) for n in range(20)))
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(server.start)
    assert (await store.merge("a1", {"e-1": update(OptOut="ALL")}))["e-1"].changed
    assert await store.read("a1", "e-2") is not None
    await store.close()


async def test_a_server_that_is_down_fails_what_is_asked_and_comes_back(
    server: PostgresServer,
) -> None:
    dsn = server.new_database()
    server.stop()
    store = await PostgresStore.open(dsn, MERGE)
    with pytest.raises(StoreError, match="out of reach: ConnectionRefusedError"):
        await store.merge("a1", {"e-1": update()})
    with pytest.raises(StoreError):
        await store.read("a1", "e-1")
    with pytest.raises(StoreError):
        await store.check()
    server.start()
    await store.check()
    assert (await store.merge("a1", {"e-1": update()}))["e-1"].changed
    await store.close()


async def test_a_server_that_is_silent_fails_in_time_and_comes_back(
    server: PostgresServer,
) -> None:
    store = PostgresStore(server.new_database(), MERGE, timeout=2.0)
    await store.merge("a1", {"e-1": update()})
    server.suspend()
    with pytest.raises(StoreError, match="did not answer in time"):
        await store.merge("a1", {"e-1": update(OptOut="ALL")})
    server.wake()
    await store.check()
    assert (
        b'"OptOut":"NONE"'
        in (await store.merge("a1", {"e-1": update(OptOut="NONE")}))["e-1"].endpoint
    )
    await store.close()


async def test_gateways_that_start_at_once_make_the_tables_once(postgres: PostgresServer) -> None:
    dsn = postgres.new_database()
    stores = await asyncio.gather(*(PostgresStore.open(dsn, MERGE) for _ in range(5)))
    await asyncio.gather(*(store.check() for store in stores))
    await asyncio.gather(*(store.close() for store in stores))
    assert "1\n" == postgres.execute("SELECT version FROM forwarder_endpoints_versions", dsn)


async def test_a_newer_schema_is_refused(postgres: PostgresServer) -> None:
    dsn = postgres.new_database()
    await (await PostgresStore.open(dsn, MERGE)).close()
    postgres.execute("INSERT INTO forwarder_endpoints_versions VALUES (99)", dsn)
    with pytest.raises(StoreError, match="has schema version 99, this program knows 1"):
        await PostgresStore.open(dsn, MERGE)


async def test_a_database_of_version_1_is_read(postgres: PostgresServer) -> None:
    """What the first release wrote: its statements and three endpoints."""
    dsn = postgres.new_database()
    postgres.execute((GOLDEN / "v1.postgres.sql").read_text(), dsn)
    store = await PostgresStore.open(dsn, MERGE)
    assert 2 == len(await store.read_user("a1", "user-1"))
    kept = await store.read("a1", "e-3")
    assert kept == (await store.merge("a1", {"e-3": update()}))["e-3"].endpoint
    assert (await store.merge("a1", {"e-3": update(OptOut="ALL")}))["e-3"].changed
    await store.close()


async def test_a_new_database_has_the_tables_of_the_dump(postgres: PostgresServer) -> None:
    """A released version is never changed; a new one adds a dump."""
    columns = (
        "SELECT table_name, column_name, data_type, is_nullable, column_default"
        " FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2;"
        "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1;"
        "SELECT relname, reloptions FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        " ORDER BY 1;"
    )
    new, golden = postgres.new_database(), postgres.new_database()
    await (await PostgresStore.open(new, MERGE)).close()
    postgres.execute((GOLDEN / f"v{len(schema.POSTGRES)}.postgres.sql").read_text(), golden)
    assert postgres.execute(columns, golden) == postgres.execute(columns, new)


async def test_a_user_that_may_create_nothing_uses_what_is_there(postgres: PostgresServer) -> None:
    dsn = postgres.new_database()
    postgres.execute("CREATE ROLE plain LOGIN PASSWORD 'plain'", dsn)
    plain = postgres.dsn(dsn.rpartition("/")[2], "plain", "plain")
    with pytest.raises(StoreError, match=r"InsufficientPrivilege.*grant the gateway's user CREATE"):
        await PostgresStore.open(plain, MERGE)
    await (await PostgresStore.open(dsn, MERGE)).close()
    postgres.execute(
        f"GRANT SELECT ON {schema.VERSIONS_TABLE} TO plain;"
        "GRANT SELECT, INSERT, UPDATE, DELETE ON forwarder_endpoints TO plain;"
        "GRANT USAGE ON SEQUENCE forwarder_endpoints_version TO plain",
        dsn,
    )
    store = await PostgresStore.open(plain, MERGE)
    assert (await store.merge("a1", {"e-1": update()}))["e-1"].changed
    assert (await store.merge("a1", {"e-1": update(OptOut="ALL")}))["e-1"].changed
    assert await store.delete("a1", "e-1") is not None
    await store.close()


async def test_a_server_that_only_reads_is_not_ready(postgres: PostgresServer) -> None:
    dsn = postgres.new_database()
    store = await PostgresStore.open(dsn, MERGE)
    await store.merge("a1", {"e-1": update()})
    name = dsn.rpartition("/")[2]
    postgres.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    await store.check()
    postgres.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
        dsn,
    )
    with pytest.raises(StoreError, match=r"is read-only.*target_session_attrs"):
        await store.check()
    with pytest.raises(StoreError, match=r"ReadOnlySQLTransaction.*target_session_attrs"):
        await store.merge("a1", {"e-1": update(OptOut="ALL")})
    postgres.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    await store.check()
    assert (await store.merge("a1", {"e-1": update(OptOut="ALL")}))["e-1"].changed
    await store.close()


async def test_the_dsn_shows_nowhere(postgres: PostgresServer) -> None:
    right = postgres.new_database()
    wrong = [
        right.replace("%2F", "/"),
        right.replace("postgresql", "mysql"),
        right.replace("%25", "%zz").replace("%2F", "#"),
        right + "?sslmode=pg-s3cret",
        right.replace("pg-s3cret", "pg-s4cret"),
        right.replace("127.0.0.1", "pg-s3cret.invalid"),
        right + "-s3cret",
        right + "?sslmode=require",
    ]
    for dsn in wrong:
        store = PostgresStore(dsn, MERGE)
        with pytest.raises(StoreError) as raised:
            await store.check()
        shown = f"{raised.value}{raised.value.__cause__}{raised.getrepr(style='native')}"
        told = "".join(line for line in shown.splitlines() if "dsn =" not in line)
        assert not [secret for secret in (PASSWORD, "s3cret", "s4cret") if secret in told]
        await store.close()


@pytest.mark.parametrize(
    ("part", "other", "text"),
    [
        ("gateway:pg-s3cret", "gateway:guess", "check user and password"),
        ("postgresql://", "mysql://", "the dsn of gateway.pinpoint.endpoints cannot be read"),
        ("/t", "/no-such-", "create the database"),
    ],
)
async def test_a_start_that_cannot_succeed_says_what_to_do(
    postgres: PostgresServer, part: str, other: str, text: str
) -> None:
    dsn = postgres.new_database().replace(part, other)
    with pytest.raises(StoreError, match=text) as raised:
        await open_store(EndpointStoreSettings(StoreKind.POSTGRES, dsn=dsn), MERGE)
    assert raised.value.lasting


async def test_a_statement_that_a_deadlock_ended_is_run_again(postgres: PostgresServer) -> None:
    """Somebody else locks the same rows in another order; whichever is ended, the merge is done."""
    dsn = postgres.new_database() + "?options=-cdeadlock_timeout%3D10ms"
    store = await PostgresStore.open(dsn, MERGE)
    await store.merge("a1", {"e-1": update(), "e-2": update()})
    other = await asyncpg.connect(dsn)
    lock = "UPDATE forwarder_endpoints SET app = app WHERE endpoint = $1"
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with contextlib.suppress(asyncpg.DeadlockDetectedError):
        async with other.transaction():
            await other.execute(lock, b"e-2")
            both = {"e-1": update(OptOut="ALL"), "e-2": update(OptOut="ALL")}
            merge = asyncio.create_task(store.merge("a1", both))
            while not await other.fetchval(waiting):  # noqa: ASYNC110  # nothing else tells
                await asyncio.sleep(0.01)
            await other.execute(lock, b"e-1")
    assert all(it.changed for it in (await merge).values())
    await other.close()
    await store.close()


async def test_a_file_moves_into_a_database_as_the_page_says(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    file = await SqliteStore.open(tmp_path / "endpoints.db", MERGE)
    given = {f"é\0-{n}": update(User={"UserId": f"u{n % 3}"} if n % 3 else {}) for n in range(50)}
    kept = await file.merge("a1", given)
    await file.close()
    dsn = postgres.new_database()
    await (await PostgresStore.open(dsn, MERGE)).close()
    page = (GOLDEN.parents[2] / "docs" / "endpoints.md").read_text()
    [(select, copy)] = re.findall(
        r'sqlite3 -csv endpoints.db "(.+?)" \|\s+psql "\$ENDPOINTS_DSN" -c "(.+?)"', page, re.DOTALL
    )
    connection = sqlite3.connect(tmp_path / "endpoints.db")
    rows = connection.execute(select).fetchall()
    connection.close()
    lines = [",".join(cell or "" for cell in row) for row in rows]
    postgres.execute("\n".join([copy + ";", *lines, "\\.\n"]), dsn)
    store = await PostgresStore.open(dsn, MERGE)
    for endpoint, merged in kept.items():
        assert merged.endpoint == await store.read("a1", endpoint)
    assert 17 == len(await store.read_user("a1", "u1"))
    assert all(
        it.changed for it in (await store.merge("a1", {"é\0-1": update(OptOut="ALL")})).values()
    )
    await store.close()

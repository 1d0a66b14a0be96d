"""What only the file has: one owner, a kill, full disks, foreign files."""

import asyncio
import contextlib
import re
import resource
import sqlite3
import sys
from asyncio import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from forwarder.config.gateway import EndpointStoreSettings, GatewayLimits
from forwarder.gateway.endpoints import schema
from forwarder.gateway.endpoints.contract import EndpointUpdate, Merged, StoreError
from forwarder.gateway.endpoints.merge import make_merge
from forwarder.gateway.endpoints.sqlite import SqliteStore
from forwarder.gateway.endpoints.stores import open_store

MERGE = make_merge(GatewayLimits())
GOLDEN = Path(__file__).parents[4] / "tests" / "data" / "endpoints"
OWNER = """\
import asyncio, sys
from pathlib import Path
from forwarder.config.gateway import GatewayLimits
from forwarder.gateway.endpoints.contract import EndpointUpdate
from forwarder.gateway.endpoints.merge import make_merge
from forwarder.gateway.endpoints.sqlite import SqliteStore

async def write(store, lane):
    number = 0
    while True:
        update = EndpointUpdate({"Metrics": {"n": number}}, 1)
        await store.merge("a1", {f"e-{lane}-{number % 50}": update})
        sys.stdout.write(f"{lane} {number}\\n")
        sys.stdout.flush()
        number += 1

async def main():
    store = await SqliteStore.open(Path(sys.argv[1]), make_merge(GatewayLimits()))
    await asyncio.gather(*(write(store, lane) for lane in range(4)))

asyncio.run(main())
"""


def update(**members: object) -> EndpointUpdate:
    return EndpointUpdate(members, 1_767_225_600_000)


async def test_the_settings_name_the_file(tmp_path: Path) -> None:
    store = await open_store(EndpointStoreSettings(path=str(tmp_path / "e.db")), MERGE)
    await store.close()
    assert (tmp_path / "e.db").exists()


async def test_a_second_owner_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    first = await SqliteStore.open(tmp_path / "e.db", MERGE)
    await first.merge("a1", {"e-1": update()})
    with pytest.raises(StoreError, match=r"another gateway owns .*postgres") as raised:
        await SqliteStore.open(tmp_path / "e.db", MERGE)
    assert raised.value.lasting
    assert (await first.merge("a1", {"e-1": update(OptOut="ALL")}))["e-1"].changed
    await first.close()
    second = await SqliteStore.open(tmp_path / "e.db", MERGE)
    assert await second.read("a1", "e-1") is not None
    await second.close()


async def test_nobody_but_the_gateways_user_may_read_the_file(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "e.db", MERGE)
    await store.merge("a1", {"e-1": update()})
    assert {0o600} == {path.stat().st_mode & 0o777 for path in tmp_path.glob("e.db*")}
    await store.close()


@pytest.mark.parametrize("seconds", [0.1, 0.3])
async def test_what_a_killed_owner_had_answered_is_there(tmp_path: Path, seconds: float) -> None:
    process = await subprocess.create_subprocess_exec(
        sys.executable, "-c", OWNER, str(tmp_path / "e.db"), stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    told = await process.stdout.readline()
    await asyncio.sleep(seconds)
    process.kill()
    told += await process.stdout.read()
    answered: dict[str, int] = {}
    for line in told[: told.rindex(b"\n")].splitlines():
        lane, number = map(int, line.split())
        answered[f"e-{lane}-{number % 50}"] = number
    await process.wait()
    store = await SqliteStore.open(tmp_path / "e.db", MERGE)
    assert answered
    for endpoint, least in answered.items():
        stored = await store.read("a1", endpoint)
        assert stored is not None
        assert least <= int(stored.split(b'"n":')[1].split(b"}")[0])
    await store.close()


async def test_a_disk_that_takes_nothing_fails_what_is_written_and_what_asks(
    tmp_path: Path,
) -> None:
    store = await SqliteStore.open(tmp_path / "e.db", MERGE)
    kept = (await store.merge("a1", {"e-1": update()}))["e-1"].endpoint
    with no_room():
        failures = await asyncio.gather(
            *(store.merge("a1", {f"e-{number}": update(OptOut="ALL")}) for number in range(9)),
            return_exceptions=True,
        )
        assert all(isinstance(failure, StoreError) for failure in failures)
        assert re.search(r"/e\.db failed: .*; make room on its disk", str(failures[0]))
        with pytest.raises(StoreError):
            await store.check()
    await store.check()
    assert kept == await store.read("a1", "e-1")
    assert (await store.merge("a1", {"e-2": update()}))["e-2"].changed
    await store.close()


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_file_that_is_removed_or_replaced_is_told(
    tmp_path: Path, *, replaced: bool
) -> None:
    path = tmp_path / "e.db"
    store = await SqliteStore.open(path, MERGE)
    await store.merge("a1", {"e-1": update()})
    path.rename(tmp_path / "away.db")
    if replaced:
        path.touch()
    with pytest.raises(StoreError, match="was removed or replaced"):
        await store.check()
    (tmp_path / "away.db").replace(path)
    await store.check()
    await store.close()


@contextlib.contextmanager
def no_room() -> Iterator[None]:
    """Let no file of this process grow beyond 100 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_fault_of_one_merge_is_that_requests_alone(tmp_path: Path) -> None:
    def merge(app: str, endpoint: str, stored: bytes | None, change: EndpointUpdate) -> Merged:
        if endpoint == "bad":
            raise ValueError
        return MERGE(app, endpoint, stored, change)

    store = await SqliteStore.open(tmp_path / "e.db", merge)
    answers = await asyncio.gather(
        store.merge("a1", {"e-1": update()}),
        store.merge("a1", {"e-2": update(), "bad": update()}),
        store.merge("a1", {"e-3": update()}),
        return_exceptions=True,
    )
    assert [False, True, False] == [isinstance(answer, ValueError) for answer in answers]
    assert await store.read("a1", "e-2") is None
    assert await store.read("a1", "e-3") is not None
    await store.close()


async def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "e.db")
    other.execute("CREATE TABLE theirs (it)")
    other.close()
    before = (tmp_path / "e.db").read_bytes()
    with pytest.raises(StoreError, match="is a database of something else"):
        await SqliteStore.open(tmp_path / "e.db", MERGE)
    assert before == (tmp_path / "e.db").read_bytes()
    (tmp_path / "text.db").write_text("no database at all, but longer than a header of SQLite is")
    with pytest.raises(StoreError, match=r"text\.db failed: .* not a database; name another file"):
        await SqliteStore.open(tmp_path / "text.db", MERGE)


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"none/e\.db.* cannot be opened.*make its folder"):
        await SqliteStore.open(tmp_path / "none" / "e.db", MERGE)
    # What a failed start had taken is free again.
    (tmp_path / "none").mkdir()
    await (await SqliteStore.open(tmp_path / "none" / "e.db", MERGE)).close()


async def test_a_file_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    await (await SqliteStore.open(tmp_path / "e.db", MERGE)).close()
    newer = sqlite3.connect(tmp_path / "e.db")
    newer.execute(f"INSERT INTO {schema.VERSIONS_TABLE} (version) VALUES (99)")  # noqa: S608
    newer.commit()
    newer.close()
    with pytest.raises(StoreError, match="has schema version 99, this program knows 1") as raised:
        await SqliteStore.open(tmp_path / "e.db", MERGE)
    assert raised.value.lasting


async def test_a_file_of_version_1_is_read(tmp_path: Path) -> None:
    """What the first release wrote: its statements and three endpoints."""
    first = sqlite3.connect(tmp_path / "e.db")
    first.executescript((GOLDEN / "v1.sqlite.sql").read_text())
    first.close()
    store = await SqliteStore.open(tmp_path / "e.db", MERGE)
    assert 2 == len(await store.read_user("a1", "user-1"))
    stored = await store.read("a1", "e-3")
    assert stored is not None
    assert stored == (await store.merge("a1", {"e-3": update()}))["e-3"].endpoint
    await store.close()


async def test_a_new_file_has_the_tables_of_the_dump(tmp_path: Path) -> None:
    """A released version is never changed; a new one adds a dump."""
    await (await SqliteStore.open(tmp_path / "new.db", MERGE)).close()
    golden = sqlite3.connect(tmp_path / "golden.db")
    golden.executescript((GOLDEN / f"v{len(schema.SQLITE)}.sqlite.sql").read_text())
    new = sqlite3.connect(tmp_path / "new.db")
    query = "SELECT name, sql FROM sqlite_master ORDER BY name"
    assert golden.execute(query).fetchall() == new.execute(query).fetchall()
    golden.close()
    new.close()

"""What every store of endpoints keeps to, whatever it is made of."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forwarder.config.gateway import EndpointStoreSettings, GatewayLimits, StoreKind
from forwarder.gateway.endpoints.contract import MOST_OF_USER, EndpointStore, EndpointUpdate, Merged
from forwarder.gateway.endpoints.merge import make_merge
from forwarder.gateway.endpoints.stores import open_store

ARRIVAL = 1_767_225_600_000
MERGE = make_merge(GatewayLimits())
# JSON has no lone surrogates; everything else may be an id, NUL and all.
IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)

Open = Callable[[], Awaitable[EndpointStore]]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.service)])
async def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Open]:
    """Give what opens the same store again, once the one before was closed."""
    settings = EndpointStoreSettings(path=str(tmp_path / "endpoints.db"))
    if request.param == "postgres":
        dsn = request.getfixturevalue("postgres").new_database()
        settings = EndpointStoreSettings(StoreKind.POSTGRES, dsn=dsn)
    opened: list[EndpointStore] = []

    async def open_again() -> EndpointStore:
        while opened:
            await opened.pop().close()
        opened.append(await open_store(settings, MERGE))
        return opened[0]

    yield open_again
    while opened:
        await opened.pop().close()


@pytest.fixture
async def store(reopen: Open) -> EndpointStore:
    return await reopen()


def update(**members: object) -> EndpointUpdate:
    return EndpointUpdate(members, ARRIVAL)


def of(user: str) -> EndpointUpdate:
    return update(User={"UserId": user})


def content(document: bytes | None) -> dict[str, Any]:
    assert document is not None
    found: dict[str, Any] = orjson.loads(document)
    return found


async def ids(endpoints: Awaitable[Any]) -> list[str]:
    return sorted(content(document)["Id"] for document in await endpoints)


async def test_an_update_creates_an_endpoint_and_the_next_one_merges(store: EndpointStore) -> None:
    created = await store.merge("a1", {"e-1": update(Attributes={"k": ["1"]})})
    assert {"e-1": MERGE("a1", "e-1", None, update(Attributes={"k": ["1"]}))} == created
    merged = await store.merge("a1", {"e-1": update(Attributes={"l": ["2"]})})
    assert {"k": ["1"], "l": ["2"]} == content(merged["e-1"].endpoint)["Attributes"]
    assert merged["e-1"].endpoint == await store.read("a1", "e-1")


async def test_what_changes_nothing_is_answered_as_it_is_stored(store: EndpointStore) -> None:
    created = (await store.merge("a1", {"e-1": of("u")}))["e-1"].endpoint
    unchanged = {"e-1": Merged(created, changed=False)}
    assert unchanged == await store.merge("a1", {"e-1": update()})
    assert unchanged == await store.merge("a1", {"e-1": of("u")})
    assert unchanged == await store.merge("a1", {"e-1": update(EffectiveDate="2020", OptOut="ALL")})


async def test_a_request_merges_many_at_once_known_and_new(store: EndpointStore) -> None:
    await store.merge("a1", {f"e-{number}": of("u") for number in range(0, 100, 3)})
    updates = {f"e-{number}": update(OptOut="ALL") for number in range(100)}
    merged = await store.merge("a1", updates)
    assert list(updates) == list(merged)
    assert all("ALL" == content(it.endpoint)["OptOut"] for it in merged.values())
    assert 34 == len(await store.read_user("a1", "u"))
    assert {} == await store.merge("a1", {})


async def test_an_update_that_passes_a_limit_is_refused_alone(store: EndpointStore) -> None:
    large = update(Address="x" * 20_000)
    merged = await store.merge("a1", {"e-1": large, "e-2": update()})
    assert (b"", False) == (merged["e-1"].endpoint, merged["e-1"].changed)
    assert merged["e-1"].fault
    assert await store.read("a1", "e-1") is None
    assert merged["e-2"].endpoint == await store.read("a1", "e-2")
    assert merged["e-2"].endpoint == (await store.merge("a1", {"e-2": large}))["e-2"].endpoint


async def test_a_deleted_endpoint_is_gone_and_begins_anew(store: EndpointStore) -> None:
    created = (await store.merge("a1", {"e-1": of("u")}))["e-1"].endpoint
    assert created == await store.delete("a1", "e-1")
    assert await store.read("a1", "e-1") is None
    assert await store.delete("a1", "e-1") is None
    assert [] == list(await store.read_user("a1", "u"))
    anew = await store.merge("a1", {"e-1": EndpointUpdate({}, ARRIVAL + 1000)})
    assert "2026-01-01T00:00:01.000Z" == content(anew["e-1"].endpoint)["CreationDate"]
    assert {} == content(anew["e-1"].endpoint)["User"]


async def test_a_user_has_the_endpoints_that_name_it_now(store: EndpointStore) -> None:
    await store.merge("a1", {"e-1": of("u"), "e-2": of("u"), "e-3": of("v"), "e-4": update()})
    assert ["e-1", "e-2"] == await ids(store.read_user("a1", "u"))
    await store.merge("a1", {"e-2": of("v")})
    assert ["e-1"] == await ids(store.read_user("a1", "u"))
    assert ["e-2", "e-3"] == await ids(store.delete_user("a1", "v"))
    assert [] == await ids(store.read_user("a1", "v"))
    assert [] == await ids(store.delete_user("a1", "v"))
    assert await store.read("a1", "e-3") is None
    assert await store.read("a1", "e-4") is not None
    assert [] == await ids(store.read_user("a1", ""))


async def test_a_user_may_have_any_number_of_endpoints_but_an_answer_may_not(
    store: EndpointStore,
) -> None:
    count = 2 * MOST_OF_USER + 1
    await store.merge("a1", {f"e-{number}": of("u") for number in range(count)})
    await store.merge("a1", {"other": of("v")})
    assert MOST_OF_USER == len(await store.read_user("a1", "u"))
    assert MOST_OF_USER == len(await store.delete_user("a1", "u"))
    assert [] == list(await store.read_user("a1", "u"))
    for number in (0, 1, count - 1):
        assert await store.read("a1", f"e-{number}") is None
    assert ["other"] == await ids(store.read_user("a1", "v"))


async def test_however_much_is_read_merges_go_on(store: EndpointStore) -> None:
    await store.merge("a1", {f"e-{number}": of("u") for number in range(500)})
    reads = [asyncio.create_task(store.read_user("a1", "u")) for _ in range(200)]
    merged = await store.merge("a1", {"e-1": update(OptOut="ALL")})
    assert merged["e-1"].changed
    assert {500} == {len(found) for found in await asyncio.gather(*reads)}


async def test_apps_are_kept_apart(store: EndpointStore) -> None:
    await store.merge("a1", {"e-1": of("u")})
    await store.merge("a2", {"e-1": update(OptOut="ALL")})
    await store.merge("a2", {"e-2": of("u")})
    assert "NONE" == content(await store.read("a1", "e-1"))["OptOut"]
    assert ["e-2"] == await ids(store.delete_user("a2", "u"))
    assert "a2" == content(await store.delete("a2", "e-1"))["ApplicationId"]
    assert ["e-1"] == await ids(store.read_user("a1", "u"))
    assert await store.read("a3", "e-1") is None


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.tuples(IDS, IDS), IDS, max_size=5))
async def test_ids_are_any_text(store: EndpointStore, users: dict[tuple[str, str], str]) -> None:
    for (app, endpoint), user in users.items():
        await store.merge(app, {endpoint: of(user)})
    for (app, endpoint), user in users.items():
        found = content(await store.read(app, endpoint))
        assert (app, endpoint, user) == (
            found["ApplicationId"],
            found["Id"],
            found["User"]["UserId"],
        )
        assert sorted(
            other for (its, other), their in users.items() if (its, their) == (app, user)
        ) == (await ids(store.read_user(app, user)))
    for app, endpoint in users:
        assert await store.delete(app, endpoint) is not None


async def test_what_is_no_text_fails_by_itself(store: EndpointStore) -> None:
    half = "\ud83d"
    answers = await asyncio.gather(
        store.merge("a1", {"e-1": update()}),
        store.merge("a1", {half: update(), "e-2": update()}),
        store.merge("a1", {"e-3": update(Address=half)}),
        store.merge("a1", {"e-4": update()}),
        store.read("a1", half),
        store.read_user("a1", half),
        return_exceptions=True,
    )
    failed = [isinstance(it, (UnicodeEncodeError, TypeError)) for it in answers]
    assert [False, True, True, False, True, True] == failed
    assert await store.read("a1", "e-4") is not None


async def test_ids_may_be_longer_than_an_index_takes(store: EndpointStore) -> None:
    long, longer = "ü" * 5_000, "ü" * 5_001
    await store.merge(long, {"e-1": of("u")})
    await store.merge("a1", {longer: of("u"), "e-1": of(long)})
    assert long == content(await store.read(long, "e-1"))["ApplicationId"]
    assert await store.read("a1", long) is None
    assert ["e-1"] == await ids(store.read_user("a1", long))


async def test_concurrent_merges_of_one_endpoint_are_all_kept(store: EndpointStore) -> None:
    await asyncio.gather(
        *(store.merge("a1", {"e-1": update(Metrics={str(number): number})}) for number in range(99))
    )
    assert {str(number): number for number in range(99)} == (
        content(await store.read("a1", "e-1"))["Metrics"]
    )


async def test_requests_that_share_endpoints_in_any_order_wait_for_nobody_for_ever(
    store: EndpointStore,
) -> None:
    names = [f"e-{number}" for number in range(20)]
    async with asyncio.timeout(30):
        await asyncio.gather(
            *(
                store.merge(
                    "a1",
                    {
                        name: update(Metrics={str(number): 1})
                        for name in (names if number % 2 else reversed(names))
                    },
                )
                for number in range(30)
            )
        )
    for name in names:
        assert 30 == len(content(await store.read("a1", name))["Metrics"])


async def test_what_was_asked_while_it_changed_is_answered_as_of_before_or_after(
    store: EndpointStore,
) -> None:
    await store.merge("a1", {"e-1": update(Metrics={"0": 0})})
    writes = [
        asyncio.create_task(store.merge("a1", {"e-1": update(Metrics={"0": number})}))
        for number in range(1, 20)
    ]
    seen = 0
    while not all(task.done() for task in writes):
        now = content(await store.read("a1", "e-1"))["Metrics"]["0"]
        assert seen <= now
        seen = now
        await asyncio.sleep(0)
    assert 19 == content(await store.read("a1", "e-1"))["Metrics"]["0"]


async def test_a_merge_beside_a_delete_brings_nothing_back(store: EndpointStore) -> None:
    for number in range(30):
        await store.merge("a1", {"e-1": of("u"), "e-2": of("u")})
        change = {"e-1": update(Metrics={"n": number})}
        merge = asyncio.create_task(store.merge("a1", change))
        delete = store.delete_user("a1", "u") if number % 2 else store.delete("a1", "e-1")
        await asyncio.gather(merge, delete)
        left = await store.read("a1", "e-1")
        assert left is None or {} == content(left)["User"]


async def test_a_caller_that_gives_up_disturbs_nobody(store: EndpointStore) -> None:
    tasks = [
        asyncio.create_task(store.merge("a1", {"e-1": update(Metrics={str(number): 1})}))
        for number in range(20)
    ]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    kept = content(await store.read("a1", "e-1"))["Metrics"]
    for number, answer in enumerate(answers):
        assert isinstance(answer, asyncio.CancelledError) or str(number) in kept
    assert (await store.merge("a1", {"e-1": update(OptOut="ALL")}))["e-1"].changed


async def test_what_was_answered_is_there_when_the_store_is_opened_again(reopen: Open) -> None:
    store = await reopen()
    merged = await store.merge("a1", {"e-1": of("u"), "e-2": of("u")})
    await store.delete("a1", "e-2")
    store = await reopen()
    assert [merged["e-1"].endpoint] == list(await store.read_user("a1", "u"))
    await store.check()

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from forwarder.config.gateway import GatewayLimits
from forwarder.gateway.endpoints.contract import EndpointUpdate, StoreError
from forwarder.gateway.endpoints.merge import make_merge
from forwarder.gateway.endpoints.reported import ReportedStore
from forwarder.gateway.endpoints.sqlite import SqliteStore
from forwarder.ops.gateway_reporter import GatewayReporter, StoreCall


class Reporter(GatewayReporter):
    def __init__(self) -> None:
        self.answered: list[tuple[str, float]] = []
        self.failed: list[tuple[str, str, str]] = []

    def store_answered(self, call: StoreCall, seconds: float) -> None:
        self.answered.append((call, seconds))

    def store_failed(self, call: StoreCall, reason: str, remedy: str) -> None:
        self.failed.append((call, reason, remedy))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def wall_ms(self) -> int:
        return 0

    def steady(self) -> float:
        self.now += 1.0
        return self.now


@pytest.fixture
async def inner(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(tmp_path / "e.db", make_merge(GatewayLimits()))
    yield store
    await store.close()


async def test_every_call_is_answered_as_by_the_store_and_timed(inner: SqliteStore) -> None:
    reporter = Reporter()
    store = ReportedStore(inner, Clock(), reporter)
    user = EndpointUpdate({"User": {"UserId": "u"}}, 1)
    merged = await store.merge("a1", {"e-1": user, "e-2": user})
    assert merged["e-1"].endpoint == await store.read("a1", "e-1")
    assert 2 == len(await store.read_user("a1", "u"))
    assert merged["e-1"].endpoint == await store.delete("a1", "e-1")
    assert [merged["e-2"].endpoint] == list(await store.delete_user("a1", "u"))
    await store.check()
    calls = ["merge", "read", "read_user", "delete", "delete_user"]
    assert [(call, 1.0) for call in calls] == reporter.answered
    assert [] == reporter.failed


async def test_a_failure_is_reported_with_its_reason_and_raised(inner: SqliteStore) -> None:
    class Down(SqliteStore):
        async def read(self, app: str, endpoint: str) -> bytes | None:
            del app, endpoint
            text = "down"
            raise StoreError(text, "start it")

    inner.__class__ = Down
    reporter = Reporter()
    store = ReportedStore(inner, Clock(), reporter)
    with pytest.raises(StoreError, match="down; start it"):
        await store.read("a1", "e-1")
    assert ([], [("read", "down", "start it")]) == (reporter.answered, reporter.failed)

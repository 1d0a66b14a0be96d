"""A device with many open sessions is treated as one with few, and each costs as much as before."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.collect.windows import session_index
from forwarder.collect.windows.device_sessions import DeviceSessions
from forwarder.collect.windows.window import Window
from forwarder.config.connection import Batching
from forwarder.model import Batch
from tests import builders, streams
from tests.builders import NOW, Json, Rec, connection, event, records, upload
from tests.unit.collect.windows.test_order import _TIMES, shared

_SESSIONS: dict[str, Any] = {"wait_for_complete_batch": True}


def made(drawn: list[Rec], times: Batching, cuts: list[int], many: int) -> list[Batch]:
    """Return what becomes of a stream; ``many``: from how many windows on they are indexed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session_index, "INDEX_FROM_WINDOWS", many)
        patch.setattr(session_index, "_STALE", 0)
        pipeline = builders.pipeline(connection(batching=times, **_SESSIONS))
        found: list[Batch] = []
        for number, poll in enumerate(streams.cut(drawn, cuts)):
            found += pipeline.collect(poll, NOW).batches
            if number % 5 == 4:
                found += pipeline.shed(1, 1, NOW).batches
        return found + pipeline.finish(NOW).batches


@settings(max_examples=300, deadline=None)
@given(shared(), _TIMES, st.lists(st.integers(0, 9), max_size=20), st.integers(0, 3))
def test_many_windows_of_a_device_close_as_few_do(
    drawn: list[Rec], times: Batching, cuts: list[int], many: int
) -> None:
    assert made(drawn, times, cuts, 10**6) == made(drawn, times, cuts, many)


MANY_SESSIONS = [[event("session_end", session_id=n + 1)] for n in range(1000)]
OF_ONE = [upload(*[one for events in MANY_SESSIONS for one in events], mpid=1)]
OF_MANY = [upload(*events, mpid=1) for events in MANY_SESSIONS]


@pytest.mark.parametrize("fed", [OF_ONE, OF_MANY])
def test_what_a_session_costs_does_not_grow_with_the_others_of_its_device(
    fed: list[Json], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    def counted(device: DeviceSessions) -> Iterable[Window]:
        nonlocal looks
        looks += len(device.windows)
        return list(device.windows.values())

    monkeypatch.setattr(DeviceSessions, "all", counted)
    pipeline = builders.pipeline(connection(**_SESSIONS))
    pipeline.collect(records(*fed, step=1), NOW)
    held = builders.saved(pipeline, 10**6)
    again = builders.pipeline(
        connection(**_SESSIONS), read=1000, replay=builders.replay(1000, (1000, 0)), held=held
    )
    assert 1000 == len(held) == again.open_windows()
    assert looks < 10_000


def test_what_is_planned_is_bounded_by_what_is_open() -> None:
    """Windows that close early leave entries behind, as long as a session's timeout."""
    pipeline = builders.pipeline(connection(batching=Batching(max_events=2), **_SESSIONS))
    still = [event(session_id=n + 1) for n in range(40)]
    pipeline.collect(records(upload(*still, mpid=1)), NOW)
    turns = [upload(event(session_id=1), mpid=1) for _ in range(3000)]
    pipeline.collect(records(*turns, start=1, step=1), NOW)
    (device,) = pipeline._lanes["lane"].windows._devices.values()  # type: ignore[attr-defined]  # noqa: SLF001
    assert len(device.index._next) < 200  # noqa: SLF001

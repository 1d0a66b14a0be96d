"""Sessions of Pinpoint's users, as documents of one session each."""

import json
from typing import Any

from forwarder.collect.pipeline import Pipeline, compile_lanes
from forwarder.config.connection import Batching, Connection, Settings
from forwarder.config.targets import FileTarget
from forwarder.formats.registry import BUILT_IN
from forwarder.model import Batch, CloseReason, Partition
from tests.builders import NOW, START, Rec, finished, merged
from tests.unit.formats.pinpoint.samples import Json, compact, event, record

MINUTE = 60_000
BATCHING = Batching(session_timeout_ms=30 * MINUTE, session_grace_ms=0)


def sessions(*values: bytes, apart: int = 1_000) -> list[Batch]:
    """Return what becomes of records, so many milliseconds apart, where sessions are documents."""
    settings = Settings(wait_for_complete_batch=True)
    made = Connection("lane", FileTarget("out"), settings=settings, batching=BATCHING)
    fed = Pipeline(Partition("events", 0), compile_lanes([made], "pinpoint", BUILT_IN))
    outs = [
        fed.collect([Rec(at, START + apart * at, value)], NOW + apart * at)
        for at, value in enumerate(values)
    ]
    out = merged([*outs, *finished(fed)])
    assert [] == out.dead_letters
    return out.batches


def told(batches: list[Batch]) -> list[tuple[CloseReason, list[str]]]:
    """Return why each closed, and the ids of its events."""
    found = []
    for batch in batches:
        events: list[Json] = json.loads(batch.payload)["events"]
        found.append((batch.reason, [one["data"]["source_message_id"] for one in events]))
    return found


def sent(name: str, session: str, kind: str = "tap", **further: Any) -> Json:  # noqa: ANN401
    """Return an event of a session."""
    about = {"Id": session, "StartTimestamp": "2026-10-01T12:00:00Z", **further}
    return event(kind, EventId=name, Session=about)


def test_a_session_ends_by_its_stop() -> None:
    batches = sessions(
        record(sent("a", "s-1", "_session.start"), sent("b", "s-1")),
        record(sent("c", "s-1", "_session.stop"), sent("d", "s-2", "_session.start")),
        record(sent("e", "s-2")),
    )
    assert [(CloseReason.SESSION_END, ["a", "b", "c"]), (CloseReason.END, ["d", "e"])] == told(
        batches
    )


def test_a_session_without_a_stop_ends_by_timeout() -> None:
    batches = sessions(
        record(sent("a", "s-1", "_session.start")),
        record(sent("b", "s-1")),
        record(sent("c", "s-2"), EndpointId="e-2"),
        record(sent("d", "s-2"), EndpointId="e-2"),
        apart=20 * MINUTE,
    )
    assert (CloseReason.SESSION_TIMEOUT, ["a", "b"]) == told(batches)[0]


def test_a_burst_in_which_every_event_has_a_session_of_its_own_loses_none() -> None:
    batches = sessions(record(*[sent(f"e{n}", f"s-{n}") for n in range(20)]))
    assert {f"e{n}" for n in range(20)} == {name for _, names in told(batches) for name in names}
    assert 20 == len(batches)


def test_a_time_of_a_stop_while_the_app_is_paused_ends_nothing() -> None:
    stop = {"StopTimestamp": "2026-10-01T12:05:00Z"}
    batches = sessions(
        record(sent("a", "s-1", "_session.start"), sent("b", "s-1", "_session.pause", **stop)),
        record(sent("c", "s-1", "_session.resume"), sent("d", "s-1", "_session.stop", **stop)),
    )
    assert [(CloseReason.SESSION_END, ["a", "b", "c", "d"])] == told(batches)


def test_a_changed_user_is_another_document_of_the_same_session() -> None:
    batches = sessions(
        record(sent("a", "s-1"), Endpoint={"User": {"UserId": "u-1"}}),
        record(sent("b", "s-1"), Endpoint={"User": {"UserId": "u-2"}}),
        record(sent("c", "s-1"), Endpoint={"User": {"UserId": "u-1"}}),
    )
    assert [["a", "c"], ["b"]] == sorted(names for _, names in told(batches))
    assert 1 == len({batch.key for batch in batches})


def test_a_finished_record_joins_the_session_of_its_endpoint() -> None:
    done = {
        "event_type": "_session.stop",
        "event_timestamp": 1,
        "arrival_timestamp": 2,
        "event_version": "3.1",
        "application": {"app_id": "a1", "sdk": {}},
        "client": {"client_id": "e-1"},
        "device": {"platform": {}},
        "session": {"session_id": "s-1", "start_timestamp": 0},
        "attributes": {},
        "metrics": {},
    }
    batches = sessions(record(sent("a", "s-1"), Endpoint={}), compact(done))
    assert [(CloseReason.SESSION_END, 2)] == [(batch.reason, batch.count) for batch in batches]

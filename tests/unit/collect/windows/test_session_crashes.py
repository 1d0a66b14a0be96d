"""A session that several people of one device share loses nothing in a crash, however often."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.collect.pipeline import Pipeline
from forwarder.collect.replay_filter import ReplayFilter
from forwarder.config.connection import Batching
from forwarder.formats.ids import digest
from forwarder.model import Position
from tests import builders
from tests.builders import NOW, START, Json, Rec, connection, encoded, event
from tests.unit.collect.test_pipeline_properties import Journal, _act, forwarded, in_order, wanted

_PATIENT = Batching(session_timeout_ms=1_800_000, session_grace_ms=3_000, session_max_ms=86_400_000)
_KINDS = ["custom_event"] * 4 + ["screen_view", "session_start", "session_end"]
_FILTERS: list[dict[str, Any]] = [{}, {"send_screen_views": False}]


@st.composite
def people(draw: st.DrawFn) -> list[Rec]:
    """Draw the uploads of up to three people of one device, in a session or two."""
    drawn, time = [], START
    for offset in range(draw(st.integers(2, 20))):
        time += draw(st.sampled_from([0, 10, 1000, 20_000]))
        kinds = draw(st.lists(st.sampled_from(_KINDS), max_size=3))
        sessions = st.sampled_from([11, 11, 11, 12])
        content: Json = {
            "mp_deviceid": "d-6",
            "user_identities": draw(st.sampled_from([{}, {"email": "a"}, {"email": "b"}])),
            "user_attributes": {"at": offset},
            "events": [event(kind, session_id=draw(sessions), n=offset) for kind in kinds],
        }
        drawn.append(Rec(offset, time, encoded(content)))
    return drawn


_STEPS = st.lists(
    st.one_of(st.integers(1, 3), st.sampled_from(["tick", "base", "base", "crash", "shed"])),
    max_size=40,
)


@settings(max_examples=400, deadline=None)
@given(people(), st.sampled_from(_FILTERS), _STEPS, st.data())
def test_people_of_one_session_lose_and_repeat_nothing_in_crashes(
    drawn: list[Rec], kept: dict[str, Any], steps: list[int | str], data: st.DataObject
) -> None:
    chosen = connection(batching=_PATIENT, wait_for_complete_batch=True, **kept)
    journal = Journal(chosen)
    _act(journal, drawn, steps, data)
    assert wanted(drawn, chosen) == forwarded(journal.committed)
    assert in_order(journal.committed)


def told(offset: int, at: int, who: str, *events: Json, **more: Json) -> Rec:
    """Return an upload of one of two people who share a device."""
    content = {"mp_deviceid": "d-6", "user_identities": {"email": who}, "events": [*events]}
    return Rec(offset, START + at, encoded(content | more))


def of(session: int, kind: str = "custom_event") -> Json:
    """Return an event of a session."""
    return event(kind, session_id=session)


def begun(read: int = 0, **found: Any) -> Pipeline:  # noqa: ANN401  # as ``pipeline`` takes it
    """Return a pipeline that filters screen views."""
    chosen = connection(batching=_PATIENT, wait_for_complete_batch=True, send_screen_views=False)
    return builders.pipeline(chosen, read=read, **found)


def restarted(fed: list[Rec], base_at: int) -> tuple[Pipeline, Position]:
    """Return what a crash leaves of a base after so many records and a tick after all of them."""
    before = begun()
    before.collect(fed[:base_at], NOW)
    held = builders.saved(before, base_at)
    before.collect(fed[base_at:], NOW)
    need = before.unsaved().get("lane") or (len(fed), 0)
    settled = {digest(one.key): one.to for one in held}
    again = begun(len(fed), replay=ReplayFilter(need, len(fed), saved=settled), held=held)
    again.collect(fed[need[0] :], NOW)
    return again, need


def deadlines(pipeline: Pipeline) -> dict[bytes, int]:
    """Return when each window closes."""
    return {one.key: one.deadline for one in builders.saved(pipeline, 10**6)}


BOTH = [told(0, 0, "a", of(11)), told(1, 10, "b", of(11))]


def test_a_replay_begins_at_the_first_event_of_an_upload_that_prolongs_others() -> None:
    again, need = restarted([*BOTH, told(2, 20, "a", of(11), of(11), of(11))], 2)
    assert ((2, 0), 5) == (need, again.waiting_events().get("lane", 0))


def test_a_context_of_filtered_events_outlives_a_crash() -> None:
    fed = [*BOTH, told(2, 20, "a", *[of(11, "screen_view")] * 2, user_attributes={"new": 1})]
    again, _ = restarted(fed, 2)
    payloads = [batch.payload for batch in again.finish(NOW).batches]
    assert [True, False] == [b'"new":1' in payload for payload in payloads]


@pytest.mark.parametrize("last", [of(11, "screen_view"), of(11)])
def test_who_is_prolonged_by_a_filtered_event_still_is_after_a_crash(last: Json) -> None:
    fed = [*BOTH, told(2, 600_000, "a", event(), last)]
    again, _ = restarted(fed, 2)
    plain = begun()
    plain.collect(fed, NOW)
    assert deadlines(plain) == deadlines(again)


@pytest.mark.parametrize("ending", [of(11, "session_end"), of(12)])
def test_an_end_is_saved_with_the_window_it_ends(ending: Json) -> None:
    fed = [*BOTH, told(2, 20, "c", ending)]
    before = begun()
    before.collect(fed[:2], NOW)
    builders.saved(before, 2)
    before.collect(fed[2:], NOW)
    held = {one.key: one for one in builders.saved(before, 3) if one.session == b'"11"'}
    ends = START + 20 + _PATIENT.session_grace_ms
    assert {ends} == {one.deadline for one in held.values()}
    assert {"session_end"} == {str(one.reason) for one in held.values()}

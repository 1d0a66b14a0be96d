"""When windows close, what they know, and what a base saves of them."""

import json

import msgspec
import pytest

from forwarder.collect.lane import CollectBounds
from forwarder.collect.pipeline import Pipeline
from forwarder.collect.replay_filter import ReplayFilter
from forwarder.config.connection import Batching, Connection
from forwarder.formats import rawjson
from forwarder.formats.ids import digest
from forwarder.model import LOWEST, CloseReason, Collected
from tests import builders
from tests.builders import NOW, START, Json, Setting, connection, event, records, upload

TEN_SECONDS = Batching(max_age_ms=10_000, max_events=100)


def fed(chosen: Connection, *uploads: object, step: int = 1000) -> tuple[Pipeline, Collected]:
    """Return a pipeline that took these uploads in one poll, and what came out."""
    pipeline = builders.pipeline(chosen)
    return pipeline, pipeline.collect(records(*uploads, step=step), NOW)


def context(*uploads: Json, **settings: Setting) -> Json:
    """Return the document of one window that takes these uploads, without its events."""
    out = builders.run(connection(**settings), records(*uploads))
    (document,) = builders.documents(out.batches)
    del document["events"]
    return document


def test_a_window_closes_when_its_age_is_reached_and_not_before() -> None:
    chosen = connection(batching=TEN_SECONDS)
    pipeline, out = fed(chosen, upload(event()), upload(event(), device="d2"), step=9_999)
    assert [] == out.batches
    out = pipeline.collect(records(None, at=START + 10_000, start=2), NOW)
    assert [(CloseReason.AGE, (0, 0))] == [(b.reason, b.first) for b in out.batches]
    assert 1 == pipeline.open_windows()


def test_an_event_at_the_deadline_begins_a_new_window() -> None:
    _, out = fed(connection(batching=TEN_SECONDS), upload(event()), upload(event()), step=10_000)
    assert [((0, 0), (0, 0))] == [(b.first, b.last) for b in out.batches]


def test_record_time_never_goes_back_and_never_beyond_now() -> None:
    pipeline = builders.pipeline(connection(batching=TEN_SECONDS))
    pipeline.collect(records(upload(event()), at=NOW + 10**12), NOW)
    assert NOW + 10_000 == pipeline.next_deadline()
    out = pipeline.collect(records(upload(event()), start=1), NOW + 1)
    assert [] == out.batches
    assert NOW == pipeline.oldest_opened()


def test_a_record_without_a_time_stops_nothing() -> None:
    out = builders.run(connection(), records(upload(event()), at=-1))
    assert -1 == builders.documents(out.batches)[0]["timestamp_unixtime_ms"]


def test_the_wall_clock_closes_at_most_as_many_as_asked() -> None:
    chosen = connection(batching=TEN_SECONDS)
    pipeline, _ = fed(chosen, *(upload(event(), device=f"d{i}") for i in range(5)), step=1)
    assert START + 10_000 == pipeline.next_deadline()
    assert [] == pipeline.expire(START + 9_999, 10).batches
    counts = [len(pipeline.expire(START + 10_003, 2).closings) for _ in range(3)]
    assert [2, 2, 0] == counts
    assert START + 10_004 == pipeline.next_deadline()
    assert 1 == len(pipeline.expire(START + 10_004, 2).batches)
    assert None is pipeline.next_deadline()


def test_a_poll_closes_a_bounded_number_of_windows_however_many_lanes_have_some() -> None:
    lanes = [connection(name, batching=TEN_SECONDS) for name in "abc"]
    pipeline = builders.pipeline(*lanes, bounds=CollectBounds(closed_windows=3))
    pipeline.collect(records(*(upload(event(), device=f"d{i}") for i in range(2)), step=1), NOW)
    out = pipeline.collect(records(None, at=START + 20_000, start=2), NOW)
    assert ["a", "a", "b"] == [closing.lane for closing in out.closings]
    rest = pipeline.expire(pipeline.clock, 9, NOW)
    assert ["b", "c", "c"] == [closing.lane for closing in rest.closings]


def test_a_full_window_closes_with_exactly_max_events() -> None:
    chosen = connection(batching=Batching(max_events=3))
    uploads = [upload(*(event(n=10 * i + j) for j in range(4))) for i in range(2)]
    _, out = fed(chosen, *uploads)
    assert [((0, 0), (0, 2), 3), ((0, 3), (1, 1), 3)] == [
        (b.first, b.last, b.count) for b in out.batches
    ]
    assert {("lane", CloseReason.SIZE): 2} == out.closed


def test_single_events_are_documents_at_once() -> None:
    pipeline, out = fed(connection(send_as_batch=False), upload(event(), event()), upload(event()))
    assert [((0, 0), 1), ((0, 1), 1), ((1, 0), 1)] == [(b.first, b.count) for b in out.batches]
    assert [(0, 1), (1, 0)] == [closing.last for closing in out.closings]
    assert [3] == list(out.closed.values())
    assert (0, None) == (pipeline.open_windows(), pipeline.unsaved().get("lane"))


def test_devices_are_never_mixed() -> None:
    _, out = fed(connection(), upload(event()), upload(event(), device="d2"))
    assert [] == out.batches
    out = builders.run(connection(), records(upload(event()), upload(event(), device="d2")))
    assert [1, 1] == [b.count for b in out.batches]


def test_the_newest_value_wins_and_null_never_erases() -> None:
    found = context(
        upload(event(), ip="1", job_id="j", sdk_version="old"),
        upload(event(), sdk_version="new", ip=None, data_set="s"),
    )
    assert ("1", "j", "new", "s") == tuple(
        found[key] for key in ("ip", "job_id", "sdk_version", "data_set")
    )


def test_keys_come_as_the_newest_upload_has_them_then_older_ones() -> None:
    found = context(upload(event(), a=1, b=2, c=3), upload(event(), c=4, a=5))
    ours = ["message_id", "message_type", "schema_version", "batch_id", "timestamp_unixtime_ms"]
    assert [*ours, "c", "a", "b", "system_notifications"] == list(found)


@pytest.mark.parametrize(
    ("expected", "uploads"),
    [
        (["a", "b"], [{"deleted_user_attributes": ["a"]}, {"deleted_user_attributes": ["b", "a"]}]),
        (["b"], [{"deleted_user_attributes": ["a", "b"]}, {"user_attributes": {"a": 1}}]),
        (["a"], [{"deleted_user_attributes": ["a"]}, {"ip": "1"}]),
        (["a"], [{"deleted_user_attributes": ["a"]}, {"deleted_user_attributes": None}]),
        (
            ["a"],
            [
                {"deleted_user_attributes": ["a"]},
                {"user_attributes": {"a": 1}, "deleted_user_attributes": ["a"]},
            ],
        ),
        (["a"], [{"deleted_user_attributes": 5}, {"deleted_user_attributes": ["a"]}]),
    ],
)
def test_deletions_gather_until_the_attribute_is_set_again(
    expected: list[str], uploads: list[Json]
) -> None:
    found = context(*(upload(event(), **one) for one in uploads))
    assert expected == found["deleted_user_attributes"]


def test_the_attributes_are_read_once_for_all_deletions(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes] = []
    fields = rawjson.fields

    def counting(value: bytes) -> dict[str, msgspec.Raw]:
        read.append(bytes(value))
        return fields(value)

    monkeypatch.setattr(rawjson, "fields", counting)
    gone, again = [f'gone"{n}' for n in range(50)], {"again": 1}  # names that are looked at singly
    found = context(
        upload(event(), deleted_user_attributes=[*gone, "again"]),
        upload(event(), user_attributes=again),
    )
    assert gone == found["deleted_user_attributes"]
    assert 1 == read.count(json.dumps(again, separators=(",", ":")).encode())


def test_user_attributes_are_a_snapshot() -> None:
    found = context(upload(event(), user_attributes={"a": 1}), upload(event(), user_attributes={}))
    assert {} == found["user_attributes"]


def test_system_notifications_are_appended() -> None:
    found = context(
        upload(event(), system_notifications=[{"a": 1.50}]),
        upload(event()),
        upload(system_notifications=[{"b": 2}]),
    )
    assert [{"a": 1.50}, {"b": 2}] == found["system_notifications"]


def test_identities_are_dated_by_the_upload_they_came_in() -> None:
    found = context(
        upload(event(), mpid=1, user_identities={"email": "a"}),
        upload(event(), mpid=1, user_identities={"email": "b"}),
        upload(event(), mpid=1),
    )
    assert [START + 1000] == [i["timestamp_unixtime_ms"] for i in found["user_identities"]]
    assert START + 2000 == found["timestamp_unixtime_ms"]


def test_an_upload_of_filtered_events_tells_an_open_window_but_opens_none() -> None:
    quiet = connection(send_screen_views=False)
    pipeline, _ = fed(quiet, upload(event("screen_view"), ip="1"))
    assert 0 == pipeline.open_windows()
    found = context(upload(event()), upload(event("screen_view"), ip="1"), send_screen_views=False)
    assert "1" == found["ip"]


def test_an_upload_without_events_is_sent_where_asked() -> None:
    chosen = connection(send_batches_without_events=True)
    out = builders.run(chosen, records(upload(), upload(event()), upload(ip="1")))
    (batch,) = out.batches
    assert ((0, 0), (2, 0), 1) == (batch.first, batch.last, batch.count)
    document = json.loads(batch.payload)
    assert (1, "1") == (len(document["events"]), document["ip"])


def test_waiting_is_counted_until_it_is_closed() -> None:
    pipeline, _ = fed(connection(batching=TEN_SECONDS), upload(event()), upload(event("profile")))
    size = len(json.dumps(event(), separators=(",", ":")))
    assert 2 * size - len("custom_event") + len("profile") == pipeline.waiting_bytes()
    assert (1, START) == (pipeline.open_windows("lane"), pipeline.oldest_opened("lane"))
    pipeline.finish(NOW)
    assert (0, 0, None) == (
        pipeline.waiting_bytes(), pipeline.open_windows(), pipeline.oldest_opened()
    )  # fmt: skip


def test_a_base_saves_whole_windows_that_began_below_it() -> None:
    pipeline, _ = fed(connection(), upload(event(n=1)), upload(event(n=2), device="d2"))
    pipeline.collect(records(upload(event(n=3)), start=2), NOW)
    assert (0, 0) == pipeline.unsaved().get("lane")
    (held,) = builders.saved(pipeline, 1)
    assert [(0, 0), (2, 0)] == [(piece[0], piece[1]) for piece in held.pieces]
    assert (2, 0) == held.to
    assert (1, 0) == pipeline.unsaved().get("lane")


def test_a_window_saved_earlier_gives_its_saved_part_again() -> None:
    pipeline, _ = fed(connection(), upload(event(n=1), ip="1"))
    saved = builders.saved(pipeline, 1)
    pipeline.collect(records(upload(event(n=2), ip="2"), start=1), NOW)
    assert saved == builders.saved(pipeline, 1)
    assert (1, 0) == pipeline.unsaved().get("lane")
    assert (1, 0) == builders.saved(pipeline, 2)[0].to


def test_a_context_alone_is_read_again_until_it_is_saved() -> None:
    pipeline, _ = fed(connection(), upload(event()))
    builders.saved(pipeline, 1)
    assert None is pipeline.unsaved().get("lane")
    pipeline.collect(records(upload(system_notifications=[1]), start=1), NOW)
    assert (1, 0) == pipeline.unsaved().get("lane")


def test_a_restored_window_goes_on_with_its_deadline_and_context() -> None:
    chosen = connection(batching=TEN_SECONDS)
    pipeline, _ = fed(chosen, upload(event(n=1), ip="1"))
    held = builders.saved(pipeline, 1)
    again = builders.pipeline(
        chosen,
        replay=ReplayFilter((1, 0), 1, {}, {digest(h.key): h.to for h in held}, []),
        held=held,
    )
    assert START + 10_000 == again.next_deadline()
    again.collect(records(upload(event(n=2)), start=1, at=START + 9_999), NOW)
    (batch,) = again.expire(START + 10_000, 5).batches
    assert ((0, 0), (1, 0), 2) == (batch.first, batch.last, batch.count)
    assert "1" == json.loads(batch.payload)["ip"]


def test_a_restored_window_goes_through_todays_filter() -> None:
    pipeline, _ = fed(connection(), upload(event(), event("profile", location=1), event()))
    held = builders.saved(pipeline, 1)
    today = connection(send_custom_events=False, include_location_information=False)
    again = builders.pipeline(today, replay=ReplayFilter((1, 0), 1), held=held)
    (batch,) = again.finish(NOW).batches
    assert ((0, 1), (0, 1)) == (batch.first, batch.last)
    assert [event("profile")] == json.loads(batch.payload)["events"]


def test_a_restored_upload_without_events_stays_only_where_it_is_still_asked_for() -> None:
    asked = connection(send_batches_without_events=True)
    pipeline, _ = fed(asked, upload(event()), upload(ip="1"))
    held = builders.saved(pipeline, 9)
    found = []
    for today in (asked, connection()):
        again = builders.pipeline(today, replay=ReplayFilter((2, 0), 2), held=held)
        found += [(b.first, b.last) for b in again.finish(NOW).batches]
    assert [((0, 0), (1, 0)), ((0, 0), (0, 0))] == found


def test_a_restored_window_that_the_filter_empties_is_gone() -> None:
    pipeline, _ = fed(connection(), upload(event()))
    again = builders.pipeline(
        connection(send_custom_events=False),
        replay=ReplayFilter((1, 0), 1),
        held=builders.saved(pipeline, 1),
    )
    assert (0, []) == (again.open_windows(), again.finish(NOW).batches)


def replayed(replay: ReplayFilter, *uploads: object, **settings: Setting) -> Collected:
    """Return what comes out under this replay filter."""
    pipeline = builders.pipeline(connection(**settings), replay=replay)
    out = pipeline.collect(records(*uploads), NOW)
    return builders.merged([out, pipeline.finish(NOW)])


def test_a_replay_collects_only_what_is_still_needed() -> None:
    key = fed(connection(), upload(event()))[0].finish(NOW).closings[0].window_key
    two = upload(event(), event())
    replay = ReplayFilter((1, 1), 9, {key: (2, 0)}, {key: (2, 1)}, [("device-2", (0, 0))])
    out = replayed(replay, two, two, two, two, upload(event(), device="d2"))
    assert [((3, 0), (3, 1)), ((4, 0), (4, 0))] == [(b.first, b.last) for b in out.batches]
    assert ({"lane": 6}, {"lane": 3}) == (out.settled, out.taken_over)
    assert (3, 1) == replay.closed_to(key)


def test_a_replayed_upload_without_anything_needed_touches_no_window() -> None:
    first = builders.pipeline(connection())
    first.collect(records(upload(event(), ip="1"), upload(ip="2")), NOW)
    held = builders.saved(first, 5)
    to = {digest(h.key): h.to for h in held}
    pipeline = builders.pipeline(
        connection(), replay=ReplayFilter((0, 0), 5, {}, to, [("device-2", (0, 0))]), held=held
    )
    pipeline.collect(records(upload(event(), ip="9"), upload(ip="8")), NOW)
    (batch,) = pipeline.finish(NOW).batches
    assert ("2", 1) == (json.loads(batch.payload)["ip"], batch.count)


def test_what_is_settled_is_not_looked_at_again() -> None:
    seen = upload(event(), event("screen_view", location=1))
    key = fed(connection(), seen)[0].finish(NOW).closings[0].window_key
    replay = ReplayFilter((0, 0), 2, {key: (0, 1)}, {}, [("device-2", (0, 0))])
    out = replayed(replay, seen, seen, send_screen_views=False)
    assert ({"lane": 2}, {"lane": 1}, {}) == (out.settled, out.taken_over, out.filtered)
    assert [((1, 0), (1, 0))] == [(b.first, b.last) for b in out.batches]


def test_a_session_is_looked_at_again_as_its_key_depends_on_the_event() -> None:
    uploads = [upload(event(session_uuid=name)) for name in ("s1", "s2", "s1")]
    closings = builders.run(
        connection(wait_for_complete_batch=True), records(*uploads[:1])
    ).closings
    closed = {closings[0].window_key: (2, 0)}
    replay = ReplayFilter((0, 0), 3, closed, {}, [("session-2", (0, 0))])
    out = replayed(replay, *uploads, wait_for_complete_batch=True)
    assert [(1, 0)] == [b.first for b in out.batches]
    assert {"lane": 2} == out.settled


def test_an_inactive_lane_accepts_nothing_from_its_bound_on() -> None:
    replay = ReplayFilter(LOWEST, 2, {}, {}, [("device-2", (0, 0))], accept_below=2)
    out = replayed(replay, *(upload(event()) for _ in range(4)))
    assert [((0, 0), (1, 0))] == [(b.first, b.last) for b in out.batches]


def test_decoder_dead_letters_are_not_made_twice() -> None:
    pipeline = builders.pipeline(connection(), read=1)
    out = pipeline.collect(records(b"x", b"y"), NOW)
    assert [1] == [letter.offset for letter in out.dead_letters]


def test_events_keep_the_key_they_had_when_they_came() -> None:
    rules = [("session-2", (0, 0)), ("device-2", (2, 0))]
    uploads = [upload(event(session_uuid=s)) for s in ("s1", "s2", "s1")]
    out = replayed(ReplayFilter(LOWEST, 3, {}, {}, rules), *uploads)
    assert [(0, 0), (1, 0), (2, 0)] == sorted(b.first for b in out.batches)
    assert 3 == len({b.window_key for b in out.batches})
    assert 1 == len({b.key for b in out.batches})

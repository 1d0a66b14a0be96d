"""Sessions: one document each, whatever ends them."""

import pytest

from forwarder.collect.replay_filter import ReplayFilter
from forwarder.collect.windows.sessions import SessionStore
from forwarder.collect.windows.window import Window
from forwarder.config.connection import Batching
from forwarder.formats.ids import digest
from forwarder.model import CloseReason, Collected
from tests import builders
from tests.builders import NOW, START, Json, Rec, Setting, connection, event, upload

TIMES = Batching(
    max_age_ms=1, session_timeout_ms=30_000, session_grace_ms=5_000, session_max_ms=100_000
)
END, TIMEOUT = CloseReason.SESSION_END, CloseReason.SESSION_TIMEOUT
Closed = list[tuple[CloseReason, list[int]]]


def at(seconds: float, *events: Json, **rest: Setting) -> tuple[float, Json]:
    """Return an upload and when it comes, in seconds after the start."""
    return seconds, upload(*events, **rest)


def of(session: str | None, kind: str = "custom_event") -> Json:
    """Return an event of a session."""
    return event(kind) if session is None else event(kind, session_uuid=session)


def recs(*stream: tuple[float, Json]) -> list[Rec]:
    """Return the records of such a stream."""
    return [
        Rec(i, START + int(seconds * 1000), builders.encoded(one))
        for i, (seconds, one) in enumerate(stream)
    ]


def feed(*stream: tuple[float, Json], **settings: Setting) -> Collected:
    """Return what has closed after the last record, the rest left open."""
    chosen = connection(batching=TIMES, wait_for_complete_batch=True, **settings)
    pipeline = builders.pipeline(chosen)
    return builders.merged(pipeline.collect([record], NOW) for record in recs(*stream))


def closed(*stream: tuple[float, Json], **settings: Setting) -> Closed:
    """Return why and with which records windows closed."""
    return [(b.reason, sorted({b.first[0], b.last[0]})) for b in feed(*stream, **settings).batches]


def test_a_session_closes_after_its_end_and_the_grace() -> None:
    start = [at(0, of("s", "session_start")), at(1, of("s", "session_end"))]
    assert [] == closed(*start, at(5.9, of("t"), device="x"))
    assert [(END, [0, 1])] == closed(*start, at(6, of("t"), device="x"))


def test_late_events_join_during_the_grace_without_prolonging_it() -> None:
    stream = [at(0, of("s", "session_end")), at(4, of("s")), at(5, of("t"), device="x")]
    assert [(END, [0, 1])] == closed(*stream)


def test_what_ends_early_is_due_before_sessions_that_went_on_in_their_first_poll() -> None:
    chosen = connection(batching=TIMES, wait_for_complete_batch=True)
    fed = builders.pipeline(chosen)
    ended = of("t", "session_end")
    fed.collect(recs(at(0, of("s")), at(28, of("s")), at(28, ended, device="x")), NOW)
    assert START + 28_000 < (fed.next_deadline() or NOW) <= START + 33_000
    assert [END] == [one.reason for one in fed.expire(START + 33_000, 9).batches]
    assert [] == fed.expire(START + 57_999, 9).batches
    assert [TIMEOUT] == [one.reason for one in fed.expire(START + 58_000, 9).batches]


def test_a_sample_leaves_the_estimate_of_what_is_open_as_it_is() -> None:
    fed = builders.pipeline(connection(batching=TIMES, wait_for_complete_batch=True))
    fed.collect(recs(at(0, of("s"))), NOW)
    before = fed.memory_bytes()
    fed.collect_sample(recs(at(1)), NOW)
    assert before == fed.memory_bytes() == fed._lanes["lane"].memory_bytes()  # noqa: SLF001


def test_another_session_ends_the_one_before() -> None:
    stream = [at(0, of("s")), at(10, of("t")), at(15, of("t"))]
    assert [(END, [0])] == closed(*stream)


def test_sessions_are_never_mixed_in_a_document() -> None:
    (batch,) = feed(at(0, of("s"), of("s"), of("t"), of("s")), at(5, of("t"))).batches
    assert ((0, 0), (0, 3), 3) == (batch.first, batch.last, batch.count)


def test_silence_ends_a_session() -> None:
    stream = [at(0, of("s")), at(20, of("s")), at(49.9, of("t"), device="x")]
    assert [] == closed(*stream)
    assert [(TIMEOUT, [0, 1])] == closed(*stream, at(50, of("t"), device="x"))


def test_a_session_that_goes_on_in_the_poll_it_began_in_holds_up_no_other() -> None:
    stream = [at(0, of("s")), at(0.1, of("t"), device="x"), at(20, of("s"))]
    pipeline = builders.pipeline(connection(batching=TIMES, wait_for_complete_batch=True))
    pipeline.collect(recs(*stream), NOW)
    assert START + 30_100 == pipeline.next_deadline()
    (batch,) = pipeline.expire(START + 30_100, 10, NOW).batches
    assert (1, 0) == batch.first


def test_a_session_is_not_kept_beyond_its_greatest_age() -> None:
    stream = [at(20 * i, of("s")) for i in range(6)]
    assert [(CloseReason.AGE, [0, 4])] == closed(*stream)


def test_a_late_event_of_a_closed_session_makes_a_further_document() -> None:
    stream = [at(0, of("s", "session_end")), at(1, of("t")), at(6, of("s")), at(8, of("t"))]
    assert [(END, [0])] == closed(*stream)
    assert [(END, [0]), (END, [2])] == closed(*stream, at(11, of("t")))


def test_a_late_event_does_not_end_the_current_session() -> None:
    stream = [at(0, of("s", "session_end")), at(1, of("t")), at(6, of("s")), at(30, of("t"))]
    assert [(END, [0]), (END, [2])] == closed(*stream)


def test_events_without_a_session_have_a_window_of_their_own() -> None:
    stream = [at(0, of("s")), at(1, of(None)), at(20, of("s")), at(31, of("s"))]
    assert [(TIMEOUT, [1])] == closed(*stream)


def test_a_session_start_without_a_name_closes_what_had_no_session() -> None:
    stream = [at(0, of(None)), at(1, of(None, "session_start")), at(2, of(None))]
    assert [(END, [0])] == closed(*stream)


def test_a_session_end_without_a_name_ends_what_has_no_session() -> None:
    stream = [at(0, of("s")), at(1, of(None)), at(2, of(None, "session_end")), at(7, of("s"))]
    assert [(END, [1, 2])] == closed(*stream)


def test_filtered_events_end_and_prolong_sessions_but_open_none() -> None:
    quiet = {"send_lifecycle_events": False, "send_screen_views": False}
    ended = [at(0, of("s")), at(1, of("s", "session_end")), at(6, of("u"), device="x")]
    assert [(END, [0])] == closed(*ended, **quiet)
    followed = [at(0, of("s")), at(1, of("t", "session_start")), at(6, of("u"), device="x")]
    assert [(END, [0])] == closed(*followed, **quiet)
    prolonged = [at(0, of("s")), at(20, of("s", "screen_view")), at(49, of("u"), device="x")]
    assert [] == closed(*prolonged, **quiet)
    assert [] == closed(at(0, of("s", "session_end")), at(90, of("u"), device="x"), **quiet)


def test_the_context_of_an_upload_reaches_the_current_session() -> None:
    stream = recs(at(0, of("s")), at(1, of("t")), at(2, ip="1"), at(3, of("t")))
    chosen = connection(batching=TIMES, wait_for_complete_batch=True)
    out = builders.run(chosen, stream)
    assert [None, "1"] == [d.get("ip") for d in builders.documents(out.batches)]


def test_a_filtered_event_brings_its_context_to_its_own_session() -> None:
    stream = recs(at(0, of("s")), at(1, of("t")), at(2, of("s", "screen_view"), ip="1"))
    chosen = connection(batching=TIMES, wait_for_complete_batch=True, send_screen_views=False)
    out = builders.run(chosen, stream)
    assert ["1", None] == [d.get("ip") for d in builders.documents(out.batches)]


def test_sessions_of_two_devices_have_nothing_to_do_with_each_other() -> None:
    stream = [at(0, of("s")), at(1, of("s", "session_end"), device="x"), at(20, of("s"))]
    assert [(END, [1])] == closed(*stream)


def test_a_restored_session_knows_whether_it_had_ended() -> None:
    chosen = connection(batching=TIMES, wait_for_complete_batch=True)
    first = builders.pipeline(chosen)
    stream = recs(at(0, of("s", "session_end")), at(1, of("t")), at(2, of("s")), at(9, of("t")))
    first.collect(stream[:2], NOW)
    held = builders.saved(first, 9)
    to = {digest(h.key): h.to for h in held}
    again = builders.pipeline(
        chosen, replay=ReplayFilter((2, 0), 2, {}, to, [("session-2", (0, 0))]), held=held
    )
    out = again.collect(stream[2:], NOW)
    assert [(END, (0, 0), (2, 0))] == [(b.reason, b.first, b.last) for b in out.batches]
    assert 1 == again.open_windows()


def test_a_full_window_of_a_session_goes_on_in_another() -> None:
    small = Batching(max_events=2)
    chosen = connection(batching=small, wait_for_complete_batch=True)
    out = builders.run(chosen, recs(at(0, of("s"), of("s"), of("s")), at(1, of("s"))))
    assert [2, 2] == [b.count for b in out.batches]
    assert 1 == len({b.window_key for b in out.batches})


def test_sessions_that_have_ended_are_not_ended_again_by_each_new_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moved: list[bytes] = []
    move_deadline = SessionStore.move_deadline

    def counting(windows: SessionStore, window: Window, deadline: int, reason: CloseReason) -> None:
        moved.append(window.session)
        move_deadline(windows, window, deadline, reason)

    monkeypatch.setattr(SessionStore, "move_deadline", counting)
    assert [] == closed(at(0, *(of(f"s{n}") for n in range(50))))
    assert [b'"s%d"' % n for n in range(49)] == moved


def test_a_restored_window_without_a_session_is_not_ended_by_a_session() -> None:
    chosen = connection(batching=TIMES, wait_for_complete_batch=True)
    stream = recs(at(0, of(None), of("s")), at(1, of("t")), at(7, of("t")))
    first = builders.pipeline(chosen)
    first.collect(stream[:1], NOW)
    held = builders.saved(first, 9)
    to = {digest(h.key): h.to for h in held}
    replay = ReplayFilter((1, 0), 1, {}, to, [("session-2", (0, 0))])
    again = builders.pipeline(chosen, replay=replay, held=held)
    (batch,) = again.collect(stream[1:], NOW).batches
    assert b'"s"' in batch.payload
    assert 2 == again.open_windows()

"""Windows of a former batch mode: a device's events keep their order across the change."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.collect.pipeline import Pipeline
from forwarder.collect.replay_filter import ReplayFilter
from forwarder.config.connection import Batching, Connection
from forwarder.formats.contract import Reject
from forwarder.formats.ids import digest
from forwarder.formats.mparticle.decode import MParticleDecoder
from forwarder.model import LOWEST, Batch, CloseReason, HeldWindow, Position
from tests import builders, streams
from tests.builders import NOW, Json, Rec, connection, event, records, upload
from tests.unit.collect.windows.test_memory import small_blocks

_SESSIONS = connection(wait_for_complete_batch=True)


def changed(
    to: Connection, held: list[HeldWindow], read: int, gone: dict[bytes, Position], rule: str
) -> Pipeline:
    """Return a pipeline of today's connection that takes up windows of another mode."""
    saved = {digest(one.key): one.to for one in held}
    rules = [(rule, LOWEST), (builders.keying_rule(to), (read, 0))]
    return builders.pipeline(
        to, read=read, replay=ReplayFilter(LOWEST, read, gone, saved, rules), held=held
    )


def waiting(*sessions: str) -> list[HeldWindow]:
    """Return windows of a device's sessions in reverse order; one event each, all in one second."""
    pipeline = builders.pipeline(_SESSIONS)
    pipeline.collect(records(*(upload(of(session)) for session in sessions), step=9), NOW)
    return builders.saved(pipeline, 99)[::-1]


def of(session: str) -> Json:
    """Return an event of a session."""
    return event(session_uuid=session)


def owner_digests(drawn: list[Rec]) -> set[bytes]:
    """Return the window keys of all uploads where sessions are not kept apart."""
    decoder = MParticleDecoder(builders.PARTITION, sessions=False, places=False)
    found = [decoder.decode(one.value or b"", one.offset, 0, 0) for one in drawn]
    return {digest(u.owner) for many in found if not isinstance(many, Reject) for u in many}


def firsts(batches: list[Batch]) -> list[int]:
    """Return the first offset of each batch."""
    return [batch.first[0] for batch in batches]


def test_sessions_that_wait_when_batches_begin_close_in_the_order_of_their_events() -> None:
    pipeline = changed(connection(), waiting("a", "b", "c"), 3, {}, "session-2")
    out = pipeline.expire(NOW, 99)
    assert [0, 1, 2] == firsts(out.batches)


def test_a_full_batch_lets_the_sessions_before_it_go_first() -> None:
    two = connection(batching=Batching(max_events=2))
    pipeline = changed(two, waiting("a", "b"), 2, {}, "session-2")
    out = pipeline.collect(records(upload(event(), event()), start=2), NOW)
    assert [0, 1, 2] == firsts(out.batches)
    assert CloseReason.SIZE == out.batches[2].reason


def test_a_single_event_lets_the_sessions_before_it_go_first() -> None:
    pipeline = changed(connection(send_as_batch=False), waiting("a", "b"), 2, {}, "session-2")
    out = pipeline.collect(records(upload(event()), start=2), NOW)
    assert [0, 1, 2] == firsts(out.batches)


def test_a_session_that_ends_lets_the_batch_before_it_go_first() -> None:
    fed = builders.pipeline(connection())
    fed.collect(records(upload(event())), NOW)
    pipeline = changed(_SESSIONS, builders.saved(fed, 9), 1, {}, "device-2")
    ended = upload(event("session_end", session_uuid="a"))
    out = pipeline.collect(records(ended, upload(device="other"), start=1, step=60_000), NOW)
    assert [0, 1] == firsts(out.batches)


def test_other_devices_are_not_hurried() -> None:
    pipeline = changed(connection(send_as_batch=False), waiting("a"), 1, {}, "session-2")
    out = pipeline.collect(records(upload(event(), device="other"), start=1), NOW)
    assert [1] == firsts(out.batches)
    assert 1 == pipeline.open_windows()


@settings(max_examples=400, deadline=None)
@given(
    streams.streams(most=40),
    st.sampled_from(streams.MODES),
    st.sampled_from(streams.MODES),
    streams.BATCHINGS,
    st.data(),
)
def test_a_devices_batches_keep_their_order_whatever_mode_follows_another(
    drawn: list[Rec],
    former: dict[str, Any],
    mode: dict[str, Any],
    batching: Batching,
    data: st.DataObject,
) -> None:
    kept, read = sorted(data.draw(st.tuples(*[st.integers(0, len(drawn))] * 2)))
    before = connection(batching=batching, **former)
    fed = builders.pipeline(before)
    gone = {one.window_key: one.last for one in fed.collect(drawn[:kept], NOW).closings}
    held = data.draw(st.permutations(builders.saved(fed, 99)))
    today = connection(batching=batching, **mode)
    with small_blocks():
        again = changed(today, held, 2 * read, gone, builders.keying_rule(before))
        polls = [again.collect([one], NOW) for one in drawn]
        found = builders.merged([*polls, again.finish(NOW)]).batches
    latest: dict[bytes, Position] = {}
    owners = owner_digests(drawn)
    for batch in found:
        by_device = batch.window_key in owners
        # Sessions have an order of their own among each other, as long as they are the mode.
        if by_device or builders.keying_rule(today) != "session-2":
            assert batch.first > latest.get(batch.key, LOWEST)
        latest[batch.key] = max(batch.first, latest.get(batch.key, LOWEST))

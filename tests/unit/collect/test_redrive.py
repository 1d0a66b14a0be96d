"""What an operator sends back: taken once more, alone, by whom it is meant for, and marked."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.collect import redrive
from forwarder.collect.replay_filter import ReplayFilter
from forwarder.config.connection import Batching, Connection, Match
from forwarder.config.targets import MAX_PAYLOAD_BYTES, KinesisTarget
from forwarder.formats.ids import digest
from forwarder.journal import outbox
from forwarder.model import CloseReason, Reason
from tests import builders
from tests.builders import NOW, Rec, event, upload

Headers = tuple[tuple[str, bytes | None], ...]
TWO = [builders.connection("one"), builders.connection("two")]


def headers(
    reason: str = "invalid_json", connection: str = "", device: str = "", time: str = ""
) -> Headers:
    found = {
        redrive.REASON_HEADER: reason,
        redrive.CONNECTION_HEADER: connection,
        redrive.DEVICE_HEADER: device,
        redrive.TIME_HEADER: time,
    }
    return tuple((name, text.encode()) for name, text in found.items() if text)


def again(value: object, at: int = 0, **told: str) -> Rec:
    return Rec(at, builders.START, builders.encoded(value), headers(**told))


def test_a_record_of_the_decoder_goes_to_every_connection_again() -> None:
    out = builders.run(TWO, [again(upload(event()))])
    assert {"one", "two"} == {batch.lane for batch in out.batches}
    assert {CloseReason.REDRIVEN} == {batch.reason for batch in out.batches}
    assert (1, 1) == (out.uploads, out.events)


def test_an_upload_of_one_connection_goes_to_that_one_alone() -> None:
    out = builders.run(TWO, [again(upload(event()), connection="two")])
    assert ["two"] == [batch.lane for batch in out.batches]
    assert 0 == out.unmatched


def test_what_no_connection_here_wants_is_counted_as_unmatched() -> None:
    picky = builders.connection(match=Match(environment=frozenset({"development"})))
    assert 1 == builders.run(picky, [again(upload(event()))]).unmatched


@pytest.mark.parametrize("reason", ["not_encodable", "refused_by_sink", "of-a-later-release"])
def test_what_comes_back_for_a_connection_that_is_not_here_stays_a_dead_letter(
    reason: str,
) -> None:
    """Its receipt says that it was sent: dropped here, it would be gone."""
    gone = again(upload(event(), message_id="m"), 5, reason=reason, connection="gone", time="77")
    fed = builders.pipeline(*TWO)
    out = fed.collect([gone], NOW)
    [letter] = out.dead_letters
    known = reason if reason in set(Reason) else Reason.NOT_ENCODABLE
    assert (known, 5, "gone") == (letter.reason, letter.offset, letter.connection)
    assert (gone.value, 77, True) == (letter.value, letter.time, letter.redriven)
    assert 1 == letter.events
    assert "not configured here" in letter.error
    assert [] == out.batches
    assert [] == builders.pipeline(*TWO, read=6).collect([gone], NOW).dead_letters


def test_a_name_too_long_for_a_connection_does_not_swell_a_dead_letter() -> None:
    out = builders.run(TWO, [again(b"{", connection="x" * 10_000)])
    assert [100] == [len(letter.connection) for letter in out.dead_letters]


@pytest.mark.parametrize("name", ["m" * 300, "\\ud800", "\\u001b[2J"])
def test_an_id_that_no_batch_has_is_not_taken_for_one(name: str) -> None:
    """It would be stored twice, or cannot be stored at all: then no tick would ever succeed."""
    value = b'{"message_id":"%b","mpid":"7","events":[{"event_type":"e"}]}' % name.encode()
    odd = again(value, reason="refused_by_sink", connection="one")
    [batch] = builders.run(TWO, [odd]).batches
    assert 36 == len(batch.id)
    [stored] = outbox.group_by_lane([batch])
    assert outbox.encode_record(stored)


def test_an_old_upload_neither_joins_the_window_of_its_device_nor_changes_it() -> None:
    polls = [
        Rec(0, builders.START, builders.encoded(upload(event(), mpid=1, user_attributes={"a": 2}))),
        again(upload(event(), mpid=1, user_attributes={"a": 1}), at=1),
    ]
    out = builders.run(builders.connection(), polls)
    old, new = builders.documents(out.batches)
    assert ({"a": 1}, {"a": 2}) == (old["user_attributes"], new["user_attributes"])
    assert [(1, 0), (0, 0)] == [batch.first for batch in out.batches]


@pytest.mark.parametrize("mode", [{}, {"send_as_batch": False}, {"wait_for_complete_batch": True}])
def test_every_mode_closes_it_at_once_under_a_key_of_its_own(mode: dict[str, Any]) -> None:
    lane = builders.connection(**mode)
    fed = builders.pipeline(lane)
    out = fed.collect([again(upload(event(), event(), event()), at=7)], NOW)
    assert 0 == fed.open_windows()
    assert 3 == sum(batch.count for batch in out.batches)
    session = b"" if "wait_for_complete_batch" in mode else None
    assert {(digest(redrive.window_key(7, 0, session)), (7, 2))} <= {
        (closing.window_key, closing.last) for closing in out.closings
    }
    assert {"lane": 3} == out.accepted


def test_batches_keep_to_the_size_that_is_set() -> None:
    lane = builders.connection(batching=Batching(max_events=2))
    out = builders.run(lane, [again(upload(event(), event(), event()))])
    assert [2, 1] == [batch.count for batch in out.batches]


def test_settings_of_today_hold_for_an_upload() -> None:
    lane = builders.connection(send_custom_events=False)
    out = builders.run(lane, [again(upload(event("custom_event"), event("screen_view")))])
    assert [["screen_view"]] == [
        [one["event_type"] for one in document["events"]]
        for document in builders.documents(out.batches)
    ]


@pytest.mark.parametrize("value", [b"{", b"\xff", b"{}", b"[]", b"", None])
def test_what_fails_again_is_a_dead_letter_that_says_so(value: bytes | None) -> None:
    told = headers(connection="two")
    out = builders.run(TWO, [Rec(3, builders.START, value, told), again(b"{", at=4)])
    letters = [(one.offset, one.redriven, one.connection) for one in out.dead_letters]
    expected = [(3, True, "two"), (4, True, "")]
    assert (expected if value is not None else expected[1:]) == letters


def test_an_event_that_is_still_too_large_is_marked_for_its_connection() -> None:
    lane = builders.connection("one", sink=KinesisTarget("s", "us-east-1", max_record_bytes=2000))
    large = again(upload(event(text="x" * 3000)), reason="event_too_large", connection="one")
    out = builders.run([lane, TWO[1]], [large])
    assert [(Reason.EVENT_TOO_LARGE, "one", True)] == [
        (one.reason, one.connection, one.redriven) for one in out.dead_letters
    ]
    assert [] == out.batches


@pytest.mark.parametrize("limit", [2000, 9000])
def test_a_replay_of_what_was_too_large_again_makes_neither_letter_nor_batch(limit: int) -> None:
    def lane(most: int) -> Connection:
        return builders.connection(sink=KinesisTarget("s", "us-east-1", max_record_bytes=most))

    fed = [again(upload(event(n=1), event(text="x" * 3000)), at=1, connection="lane")]
    out = builders.run(lane(2000), fed)
    assert ([1], [1]) == ([x.events for x in out.dead_letters], [x.count for x in out.batches])
    closed = {closing.window_key: closing.last for closing in out.closings}
    after = builders.pipeline(lane(limit), read=3, replay=builders.replay(read=3, closed=closed))
    replayed = builders.merged([after.collect(fed, NOW), *builders.finished(after)])
    assert ([], []) == (replayed.dead_letters, replayed.batches)


def test_what_is_larger_than_any_batch_is_none_whatever_its_headers_say() -> None:
    value = builders.encoded(upload(event(), message_id="m", ip="x" * MAX_PAYLOAD_BYTES))
    told = headers("refused_by_sink", "one")
    out = builders.run(TWO[0], [Rec(0, builders.START, value, told)])
    assert ([], [Reason.EVENT_TOO_LARGE]) == (out.batches, [x.reason for x in out.dead_letters])


def test_a_batch_is_put_as_it_was_with_its_id_and_key() -> None:
    [first] = builders.run(TWO[0], [builders.records(upload(event(), event(), mpid=9))]).batches
    value = first.payload
    record = again(value, at=5, reason="refused_by_sink", connection="two", device=first.key.hex())
    strict = builders.connection("two", send_custom_events=False)
    [batch] = builders.run([TWO[0], strict], [record]).batches
    assert ("two", first.id, first.key, value) == (batch.lane, batch.id, batch.key, batch.payload)
    assert ((5, 0), (5, 0), 2, "9") == (batch.first, batch.last, batch.count, batch.mpid)
    assert (NOW, builders.START) == (batch.closed_at, batch.record_ms)


@pytest.mark.parametrize("device", ["", "zz", "0" * 31, "g" * 32])
def test_a_batch_without_a_key_gets_that_of_what_it_says(device: str) -> None:
    lane = builders.connection("one", include_mp_deviceid=True)
    [first] = builders.run(lane, [builders.records(upload(event()))]).batches
    record = again(first.payload, at=5, reason="refused_by_sink", connection="one", device=device)
    [batch] = builders.run(TWO[0], [record]).batches
    assert first.key == batch.key


@pytest.mark.parametrize("mpid", [0, "0", -1, "unknown", None, "x" * 257, "\ud83d", 7])
def test_a_batch_goes_to_the_shard_that_it_went_to(mpid: object) -> None:
    fed = builders.encoded(json.dumps(upload(event(), mpid=mpid)).encode())
    [first] = builders.run(TWO[0], [Rec(0, builders.START, fed)]).batches
    came = again(first.payload, 5, reason="refused_by_sink", connection="one")
    [batch] = builders.run(TWO, [came]).batches
    assert first.mpid == batch.mpid


def test_bytes_that_are_no_batch_are_taken_as_an_upload() -> None:
    record = again(upload(event()), reason="refused_by_sink", connection="one")
    [batch] = builders.run(TWO, [record]).batches
    assert "message_id" in json.loads(batch.payload)


@given(st.integers(0, 3), st.booleans())
def test_a_replay_takes_it_exactly_once(need: int, batched: bool) -> None:  # noqa: FBT001
    """It was read at offset 1, before the partition was opened anew at offset 3."""
    name = digest(redrive.window_key(1, 0))
    for told in (headers(), headers("refused_by_sink", "lane")):
        closed = {name: (1, 0)} if batched else {}
        replay = ReplayFilter((need, 0), 3, closed, keying=[("device-2", (0, 0))])
        fed = builders.pipeline(builders.connection(), read=3, replay=replay)
        value = builders.encoded(upload(event(), message_id="m"))
        taken = fed.collect([Rec(1, builders.START, value, told)], NOW)
        more = fed.collect([Rec(1, builders.START, value, told)], NOW)
        wanted = need <= 1 and not batched
        assert int(wanted) == len(taken.batches) == len(taken.closings)
        assert [] == more.batches


def test_an_inactive_connection_takes_nothing_new() -> None:
    fed = builders.pipeline(builders.connection(), replay=ReplayFilter(accept_below=1))
    for told, kept in ((headers(), 0), (headers("refused_by_sink", "lane"), 1)):
        value = builders.encoded(upload(event(), message_id="m"))
        out = fed.collect([Rec(1, builders.START, value, told)], NOW)
        assert ([], kept) == (out.batches, len(out.dead_letters))


@pytest.mark.parametrize(
    ("text", "time"), [("5000", 5000), ("", builders.START), ("x", builders.START)]
)
def test_what_comes_back_keeps_its_record_time(text: str, time: int) -> None:
    out = builders.run(TWO[0], [again(upload(event()), time=text), again(b"{", at=1, time=text)])
    assert [time] == [one["timestamp_unixtime_ms"] for one in builders.documents(out.batches)]
    assert [time] == [letter.time for letter in out.dead_letters]
    value = builders.encoded(upload(event(), message_id="m"))
    batch = again(value, time=text, reason="refused_by_sink", connection="one")
    assert [time] == [one.record_ms for one in builders.run(TWO[0], [batch]).batches]


def test_headers_of_others_change_nothing() -> None:
    value = builders.encoded(upload(event()))
    plain = builders.run(TWO, [Rec(0, builders.START, value)])
    traced = builders.run(TWO, [Rec(0, builders.START, value, (("traceparent", None),))])
    assert plain == traced

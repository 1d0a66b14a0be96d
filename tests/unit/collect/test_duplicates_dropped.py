"""What becomes of duplicates in the pipeline: dropped, counted, and nothing else is changed."""

import json
from typing import Any

from forwarder.collect import redrive
from forwarder.collect.duplicates import Duplicates
from forwarder.collect.pipeline import Pipeline
from forwarder.collect.replay_filter import ReplayFilter
from forwarder.config.connection import Batching, Connection, Match
from forwarder.formats.mparticle import event_filter
from forwarder.model import Collected, DuplicateWindow
from tests.builders import (
    NOW,
    PARTITION,
    START,
    Json,
    Rec,
    connection,
    encoded,
    event,
    lane_set,
    merged,
    records,
    upload,
)  # fmt: skip
from tests.model.input import RETRIED

MINUTE = 60_000
WINDOW = [DuplicateWindow(10 * MINUTE, 0)]
SESSIONS = Batching(session_timeout_ms=5 * MINUTE, session_grace_ms=MINUTE)


def looking(
    *lanes: Connection,
    begin: int = 0,
    settled: int = 0,
    read: int = 0,
    **further: Any,  # noqa: ANN401
) -> Pipeline:
    """Return a pipeline that looks for uploads sent again."""
    found = Duplicates(WINDOW, begin, settled)
    return Pipeline(PARTITION, lane_set(*lanes), read, duplicates=found, **further)


def sent(name: str, *events: Json, device: str = "d1", **context: object) -> Json:
    """Return an upload that is known by a name if it comes again."""
    return upload(*events, device=device, source_request_id=f"request-{name}", **context)


def documents(*outs: Collected) -> list[Json]:
    return [json.loads(batch.payload) for out in outs for batch in out.batches]


def numbers(*outs: Collected) -> list[list[int]]:
    """Return by document which events are in it, by their ``n``."""
    return [[one["data"]["n"] for one in document["events"]] for document in documents(*outs)]


def test_an_upload_sent_again_is_dropped_and_counted_by_topic_and_by_lane() -> None:
    made = looking(
        connection("acme"), connection("other", match=Match(environment=frozenset({"x"})))
    )
    first = made.collect(records(sent("a", event(n=1), event(n=2))), NOW)
    again = made.collect(
        records(sent("a", event(n=1), event(n=2)), sent("b", event(n=3)), start=1), NOW
    )
    size = len(encoded(sent("a", event(n=1), event(n=2))))
    assert (0, {"routed": 1}) == (first.duplicates, first.outcome_records)
    assert (2, 2, 3, 2) == (again.records, again.uploads, again.events, again.duplicates)
    assert {"duplicate": 1, "routed": 1} == again.outcome_records
    assert size == again.outcome_bytes["duplicate"]  # type: ignore[index]
    assert ({"acme": 3}, {("acme", "duplicates"): 2}) == (again.routed, again.filtered)
    assert {"acme": 1} == again.accepted
    assert [[1, 2, 3]] == numbers(made.finish(NOW))


def test_what_no_lane_wants_is_a_duplicate_all_the_same() -> None:
    made = looking(connection(match=Match(environment=frozenset({"x"}))))
    out = made.collect(records(sent("a", event()), sent("a", event())), NOW)
    assert {"unmatched": 1, "duplicate": 1} == out.outcome_records
    assert ({}, {}) == (out.routed, out.filtered)


def test_two_devices_may_count_their_requests_alike() -> None:
    made = looking(connection())
    out = made.collect(records(*[sent("1", event(), device=f"d{n}") for n in range(3)]), NOW)
    assert 0 == out.duplicates


def test_uploads_without_a_request_id_or_with_none_to_speak_of_are_never_dropped() -> None:
    made = looking(connection())
    odds: list[Any] = [None, "", "unknown", "00000000-0000-0000-0000-000000000000", {}, [1]]
    for odd in odds:
        several = [upload(event(), source_request_id=odd)] * 2
        assert 0 == made.collect(records(*several), NOW).duplicates
        made = looking(connection())
    assert 0 == made.collect(records(upload(event()), upload(event())), NOW).duplicates


def test_the_context_of_what_is_dropped_is_not_used() -> None:
    made = looking(connection())
    made.collect(records(sent("a", event(n=1), user_attributes={"a": 1})), NOW)
    made.collect(records(sent("a", event(n=1), user_attributes={"b": 2}), start=1), NOW)
    [document] = documents(made.finish(NOW))
    assert {"a": 1} == document["user_attributes"]


def test_a_dropped_event_neither_opens_nor_prolongs_nor_ends_a_session() -> None:
    made = looking(connection(wait_for_complete_batch=True, batching=SESSIONS))
    end = event("session_end", n=9, session_uuid="s0")
    other = event("session_start", n=8, session_uuid="s0")
    begun = made.collect(
        records(sent("old", other, end), sent("new", event(n=1, session_uuid="s1"), device="d1")),
        NOW,
    )
    # The end of another session, and the begin of one, come again four minutes later.
    again = made.collect([Rec(2, START + 4 * MINUTE, encoded(sent("old", other, end)))], NOW)
    assert (2, 1) == (again.duplicates, made.open_windows())
    # Silence since its own last event: the copy has put nothing off.
    later = made.collect([Rec(3, START + 6 * MINUTE, encoded(upload(device="d2")))], NOW)
    assert [[8, 9]] == numbers(begun, again)
    assert [[1]] == numbers(later)


def test_partly_dropped_uploads_give_what_is_left_in_its_place() -> None:
    """With a format that names each event: Pinpoint's, and here one of the model's."""
    lanes = lane_set(connection(wait_for_complete_batch=True, batching=SESSIONS))
    found = Duplicates(WINDOW, 0)
    made = Pipeline(PARTITION, type(lanes)(RETRIED, lanes.lanes), duplicates=found)
    first = upload(event(n=1, once="a", session_uuid="s1"))
    mixed = upload(
        event("session_end", n=2, once="a", session_uuid="s1"),
        event(n=3, once="b", session_uuid="s1"),
        event("session_start", n=4, once="a", session_uuid="s9"),
        event(n=5, once="c", session_uuid="s1"),
    )
    made.collect(records(first), NOW)
    out = made.collect(records(mixed, start=1), NOW)
    assert (2, {("lane", "duplicates"): 2}) == (out.duplicates, out.filtered)
    assert {"routed": 1} == out.outcome_records
    assert 1 == made.open_windows()
    end = made.finish(NOW)
    assert [[1, 3, 5]] == numbers(end)
    assert [((0, 0), (1, 3))] == [(batch.first, batch.last) for batch in end.batches]


def test_what_cannot_be_changed_becomes_a_letter_without_its_duplicates(monkeypatch: Any) -> None:  # noqa: ANN401
    def poisoned(content: dict[str, object]) -> None:
        if "poison" in content:
            raise RecursionError

    monkeypatch.setattr(event_filter, "_strip", poisoned)
    lanes = lane_set(connection(include_location_information=False))
    made = Pipeline(PARTITION, type(lanes)(RETRIED, lanes.lanes), duplicates=Duplicates(WINDOW, 0))
    made.collect(records(upload(event(n=1, once="a"))), NOW)
    odd = upload(event(n=2, once="a"), event(n=3, once="b", location={"latitude": 1}, poison=1))
    out = made.collect(records(odd, start=1), NOW)
    [letter] = out.dead_letters
    assert [3] == [one["data"]["n"] for one in json.loads(letter.value)["events"]]
    assert (1, {"lane": 1}, {("lane", "duplicates"): 1}) == (
        letter.events, out.accepted, out.filtered,
    )  # fmt: skip


def test_what_an_operator_sends_back_is_no_duplicate_and_makes_none() -> None:
    made = looking(connection(send_as_batch=False))
    headers = ((redrive.REASON_HEADER, b"not_encodable"), (redrive.CONNECTION_HEADER, b"lane"))
    came = encoded(sent("a", event(n=1)))
    out = made.collect(
        [Rec(0, START, came), Rec(1, START, came, headers), Rec(2, START, came, headers)], NOW
    )
    assert (0, [[1], [1], [1]]) == (out.duplicates, sorted(numbers(out)))
    alone = looking(connection(send_as_batch=False))
    out = alone.collect([Rec(0, START, came, headers), Rec(1, START, came)], NOW)
    assert (0, [[1], [1]]) == (out.duplicates, numbers(out))


def test_what_stood_in_a_record_that_was_refused_is_no_duplicate_later() -> None:
    """Nothing of such a record was collected: what comes again is all there is of it."""
    made = looking(connection(send_as_batch=False))
    good = encoded(sent("a", event(n=1)))
    refused = (good[:-1], b"[%b,5]" % good, b"[%b,{}]" % good, good + b"x")
    first = made.collect(records(*refused), NOW)
    assert (4, 0, 0) == (len(first.dead_letters), first.uploads, made.identities())
    again = made.collect(records(good, good, start=4), NOW)
    assert (1, [[1]]) == (again.duplicates, numbers(again))


def test_what_is_too_large_makes_one_letter_however_often_it_comes() -> None:
    made = looking(connection(send_as_batch=False))
    large = sent("a", event(n=1, text="x" * 11_000_000), event(n=2))
    out = merged([made.collect(records(large, large, large), NOW)])
    assert (4, [[2]], 1) == (out.duplicates, numbers(out), len(out.dead_letters))
    assert {"lane": 6} == out.routed
    assert ({"lane": 2}, {("lane", "duplicates"): 4}) == (out.accepted, out.filtered)


def test_a_sample_is_neither_judged_nor_remembered() -> None:
    made = looking(connection(send_as_batch=False))
    poll = records(sent("a", event(n=1)), sent("a", event(n=1)))
    assert 0 == made.collect_sample(poll, NOW).duplicates
    out = made.collect(poll, NOW)
    assert (1, [[1]]) == (out.duplicates, numbers(out))


def test_what_is_looked_back_on_is_remembered_and_neither_collected_nor_counted() -> None:
    known = ReplayFilter((2, 0), 3, keying=[("device-2", (0, 0))])
    made = looking(connection(), settled=2, read=3, replays={"lane": known})
    poll = records(
        sent("a", event(n=0)), "garbage", sent("b", event(n=2)), sent("a", event(n=3)),
        sent("c", event(n=4)), sent("b", event(n=5)), None,
    )  # fmt: skip
    back = made.collect(poll[:2], NOW)
    assert Collected() == back
    outs = [made.collect(poll[at : at + 2], NOW) for at in (2, 4, 6)]
    whole = merged(outs)
    assert (4, 1, 2, {"lane": 3}) == (
        whole.records, whole.replayed, whole.duplicates, whole.routed,
    )  # fmt: skip
    assert {"routed": 1, "duplicate": 2, "tombstone": 1} == whole.outcome_records
    assert [[2, 4]] == numbers(made.finish(NOW))


def test_a_poll_that_looks_back_and_goes_on_is_taken_as_two() -> None:
    poll = records(sent("a", event(n=0)), sent("a", event(n=1)), sent("b", event(n=2)))
    made = looking(connection(), settled=1)
    out = made.collect(poll, NOW)
    assert (2, 1) == (out.records, out.duplicates)
    assert [[2]] == numbers(made.finish(NOW))


def test_identities_count_as_memory_of_the_windows() -> None:
    made = looking(connection(send_as_batch=False))
    before = made.memory_bytes()
    made.collect(records(*[sent(f"{n}", event(n=n)) for n in range(100)]), NOW)
    assert 100 == made.identities()
    assert before + 100 * 100 < made.memory_bytes()

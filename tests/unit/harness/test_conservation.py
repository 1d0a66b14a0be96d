"""The oracle of conservation sees every kind of fault, and nothing where there is none."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import msgspec
import pytest
import zstandard

from tests import accounts, conservation
from tests.conservation import Batch, Letter, Terms, Verdict, Wanted, landed, mark
from tests.oracle import exact

CLOSED = 5_000
LETTER = Letter("invalid_json", "raw", 0, 9, "", b"{")


def event(name: str) -> str:
    return f'{{"event_type":"custom_event","data":{{"source_message_id":"{name}","id":1.50}}}}'


def batch(number: int, *names: str, key: bytes = b"device") -> Batch:
    """Return the batch at address (0, number, 0) with these events."""
    events = ",".join(map(event, names))
    payload = f'{{"events":[{events}],"message_id":"m{number}"}}'.encode()
    return Batch((0, number, 0), "acme", f"m{number}", key, len(names), payload, closed_at=CLOSED)


@dataclass(frozen=True)
class World:
    """Two devices: a with three events in two batches, b with one; all as it should be."""

    wanted: tuple[str, ...] = ("a1", "a2", "a3", "b1")
    outbox: tuple[Batch, ...] = (
        batch(0, "a1", "a2", key=b"a"),
        batch(1, "b1", key=b"b"),
        batch(2, "a3", key=b"a"),
    )
    stream: tuple[int, ...] = (1, 0, 2)
    altered: dict[int, bytes] = field(default_factory=dict)
    letters: tuple[Letter, ...] = (LETTER,)
    optional: tuple[str, ...] = ()
    due: int = 0
    droppable: str = ""

    def judged(self) -> Verdict:
        wanted = [
            Wanted(name[0], name, mark(exact(event(name))), optional=name in self.optional)
            for name in self.wanted
        ]
        values = [
            self.altered.get(i, self.outbox[number].payload) for i, number in enumerate(self.stream)
        ]
        return conservation.judge(
            {"acme": wanted},
            self.outbox,
            {"acme": [landed(value) for value in values]},
            ([LETTER], self.letters),
            identify=lambda event: str(event["data"]["source_message_id"]),
            terms={
                "acme": Terms(
                    lambda names, document: document.get("ip") in (None, names[0]),
                    lambda _: self.due,
                    lambda batch: batch.id == self.droppable,
                )
            },
        )


GOOD = World()
TIMES = {"F": [4, 1], "L": [9, 0], "closed_at": CLOSED, "why": "age"}


def swap(number: int, made: Batch) -> World:
    """Return the good world with one batch of the outbox replaced."""
    outbox = list(GOOD.outbox)
    outbox[number] = made
    return replace(GOOD, outbox=tuple(outbox))


def spelled(old: bytes, new: bytes) -> World:
    """Return the good world with other bytes in the first batch."""
    first = GOOD.outbox[0]
    return swap(0, first._replace(payload=first.payload.replace(old, new, 1)))


def test_nothing_is_wrong_where_all_is_as_it_should_be() -> None:
    verdict = GOOD.judged()

    assert verdict.faults == 0
    assert verdict.examples == []
    assert (verdict.lanes[0].events, verdict.lanes[0].batches) == (4, 3)
    assert verdict.lanes[0].repeats == 0


def test_a_repeat_with_the_same_bytes_is_counted_and_no_fault() -> None:
    verdict = replace(GOOD, stream=(1, 0, 0, 2, 0)).judged()

    assert verdict.faults == 0
    assert (verdict.lanes[0].records, verdict.lanes[0].repeats) == (5, 2)
    assert "40.00 %" in verdict.text()


@pytest.mark.parametrize(
    ("figure", "world"),
    [
        ("lost", lambda: swap(2, batch(2, key=b"a"))),
        ("altered", lambda: spelled(b"1.50", b"1.5")),
        ("altered", lambda: spelled(b"1.50", b'"1.50"')),
        ("altered", lambda: spelled(b'"message_id":"m0"', b'"message_id":"m7"')),
        ("invented", lambda: swap(2, batch(2, "a3", "c1", key=b"a"))),
        ("twice", lambda: swap(2, batch(2, "a3", "a1", key=b"a"))),
        ("mixed", lambda: swap(1, batch(1, "b1", "a3", key=b"b"))),
        ("order", lambda: swap(0, batch(0, "a2", "a1", key=b"a"))),
        ("context", lambda: spelled(b'{"events"', b'{"ip":"other","events"')),
        ("early", lambda: replace(GOOD, due=CLOSED + 1)),
        ("missing", lambda: replace(GOOD, stream=(1, 0))),
        ("missing", lambda: replace(GOOD, stream=(1, 0), droppable="m1")),
        ("stream_altered", lambda: replace(GOOD, altered={0: b'{"message_id":"m1"}'})),
        ("stream_altered", lambda: replace(GOOD, stream=(1, 0, 2, 2), altered=other_repeat())),
        ("stream_invented", lambda: replace(GOOD, altered={0: b'{"message_id":"m9"}'})),
        ("stream_order", lambda: replace(GOOD, stream=(1, 2, 0))),
    ],
)
def test_each_fault_of_a_lane_is_counted_and_shown(figure: str, world: Callable[[], World]) -> None:
    verdict = world().judged()

    assert getattr(verdict.lanes[0], figure) > 0
    assert verdict.faults > 0
    assert any(f"acme: {figure}: " in example for example in verdict.examples)


def other_repeat() -> dict[int, bytes]:
    """Return a repeat of the last batch that differs in a blank."""
    return {3: GOOD.outbox[2].payload + b" "}


@pytest.mark.parametrize(
    ("figure", "letters"),
    [
        ("letters_lost", ()),
        ("letters_twice", (LETTER, LETTER)),
        ("letters_invented", (LETTER, LETTER._replace(offset=10))),
    ],
)
def test_dead_letters_are_counted_once_each(figure: str, letters: tuple[Letter, ...]) -> None:
    verdict = replace(GOOD, letters=letters).judged()

    assert getattr(verdict, figure) == 1
    assert verdict.faults == 1


def test_an_optional_event_may_be_there_or_not_and_is_counted_apart() -> None:
    there = replace(GOOD, optional=("a3",)).judged()
    missing = replace(GOOD, optional=("c1",), wanted=(*GOOD.wanted, "c1")).judged()

    assert (there.faults, missing.faults) == (0, 0)
    assert (there.lanes[0].events, there.lanes[0].optional) == (3, 1)
    assert (missing.lanes[0].events, missing.lanes[0].optional) == (4, 0)


def test_an_optional_event_is_there_once_at_most() -> None:
    again = swap(2, batch(2, "a3", "a1", key=b"a"))

    assert replace(again, optional=("a1",)).judged().lanes[0].twice == 1


def test_an_event_that_the_input_holds_twice_comes_out_twice() -> None:
    wanted = (*GOOD.wanted, "a1")
    again = swap(2, batch(2, "a3", "a1", key=b"a"))

    assert replace(GOOD, wanted=wanted).judged().lanes[0].lost == 1
    assert replace(again, wanted=wanted).judged().lanes[0].twice == 0


def test_a_batch_that_may_be_dropped_may_be_missing_in_the_stream() -> None:
    verdict = replace(GOOD, stream=(1, 0), droppable="m2").judged()

    assert verdict.faults == 0
    assert verdict.lanes[0].dropped == 1


def test_a_window_closed_when_it_was_due_is_no_fault() -> None:
    assert replace(GOOD, due=CLOSED).judged().faults == 0


def test_events_of_one_window_may_wait_in_rows_of_their_own() -> None:
    def judged(rows: dict[str, str]) -> Verdict:
        wanted = [Wanted("a", n, mark(exact(event(n))), rows[n]) for n in ("a1", "a2")]
        made = batch(0, "a2", "a1", key=b"a")
        return conservation.judge(
            {"acme": wanted},
            [made],
            {"acme": [landed(made.payload)]},
            ([], []),
            identify=lambda event: str(event["data"]["source_message_id"]),
            terms={},
        )

    assert judged({"a1": "one", "a2": "other"}).faults == 0
    assert judged({"a1": "one", "a2": "one"}).lanes[0].order == 1


def test_batches_of_another_kind_may_overtake_each_other() -> None:
    def judged(*whys: str) -> Verdict:
        wanted = [Wanted("a", name, mark(exact(event(name)))) for name in ("a1", "a2")]
        made = [batch(0, "a2", key=b"a"), batch(1, "a1", key=b"a")]
        return conservation.judge(
            {"acme": wanted},
            [one._replace(why=why) for one, why in zip(made, whys, strict=True)],
            {"acme": [landed(one.payload) for one in made]},
            ([], []),
            identify=lambda event: str(event["data"]["source_message_id"]),
            terms={"acme": Terms(kind=lambda one: one.why)},
        )

    assert judged("session_end", "age").faults == 0
    assert judged("age", "age").lanes[0].order == 1


def test_verdicts_on_several_partitions_add_up() -> None:
    lost = swap(2, batch(2, key=b"a"))

    both = conservation.together([GOOD.judged(), lost.judged()])

    assert (both.lanes[0].events, both.lanes[0].lost, both.letters) == (8, 1, 2)
    assert both.faults == 1
    assert len(both.examples) == 1


def test_a_lane_nobody_configured_is_a_fault() -> None:
    assert swap(2, GOOD.outbox[2]._replace(lane="other")).judged().faults > 0


def test_stored_records_are_read_in_the_order_of_their_addresses() -> None:
    def stored(*names: str) -> bytes:
        batches = [
            {"id": n, "key": b"k", "n": 1, "payload": json.dumps(n).encode(), **TIMES}
            for n in names
        ]
        return zstandard.compress(msgspec.msgpack.encode({"lane": "acme", "batches": batches}))

    found = conservation.batches(
        [(1, 5, stored("d")), (0, 7, stored("b", "c")), (0, 3, stored("a"))]
    )

    assert ["a", "b", "c", "d"] == [one.id for one in found]
    assert (0, 7, 1) == found[2].address
    assert ((4, 1), (9, 0)) == (found[2].first, found[2].last)
    assert (CLOSED, "age") == (found[2].closed_at, found[2].why)


BALANCED = {
    'forwarder_records_total{topic="raw"}': 3.0,
    'forwarder_accounted_records_total{outcome="routed",topic="raw"}': 2.0,
    'forwarder_accounted_records_total{outcome="rejected",topic="raw"}': 1.0,
    'forwarder_record_bytes_total{topic="raw"}': 30.0,
    'forwarder_accounted_record_bytes_total{outcome="routed",topic="raw"}': 30.0,
    'forwarder_events_routed_total{connection="acme"}': 9.0,
    'forwarder_events_filtered_total{connection="acme",setting="status"}': 1.0,
    'forwarder_events_filtered_total{connection="acme",setting="send_screen_views"}': 1.0,
    'forwarder_events_accepted_total{connection="acme"}': 7.0,
    'forwarder_events_taken_over_total{connection="acme"}': 2.0,
    'forwarder_events_delivered_total{connection="acme"}': 3.0,
    'forwarder_events_dead_lettered_total{connection="acme"}': 1.0,
    'forwarder_events_passed_over_total{connection="acme"}': 1.0,
    'forwarder_events_released_total{cause="moved",connection="acme"}': 1.0,
    'forwarder_events_released_total{cause="failed",connection="acme"}': 1.0,
    'forwarder_events_waiting{connection="acme"}': 2.0,
}


def test_a_scrape_whose_equations_hold_has_no_fault() -> None:
    assert [] == accounts.faults(BALANCED)


@pytest.mark.parametrize("name", BALANCED)
def test_a_scrape_in_which_one_figure_is_off_has_one(name: str) -> None:
    assert accounts.faults({**BALANCED, name: BALANCED[name] + 1})

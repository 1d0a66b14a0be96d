"""Dead letters listed, shown and sent back: each once, whoever runs what how often."""

import asyncio
import contextlib
import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.admin import dead_letters, redrive
from forwarder.admin.dead_letters import AGAIN, SENT, WAITING, LetterFilter
from forwarder.admin.redrive import RedriveSelection, RedriveTotals
from forwarder.collect.redrive import (
    CONNECTION_HEADER,
    DEVICE_HEADER,
    LETTER_HEADER,
    REASON_HEADER,
    TIME_HEADER,
    RedriveHeaders,
    parse_headers,
)
from forwarder.errors import FencedError, ForwarderError
from forwarder.model import DeadLetter, Partition, Reason
from tests import doubles
from tests.batches import GROUP, TOPIC
from tests.letters import LETTERS, Letters, Stored

NOISE = hashlib.shake_256(b"noise").digest(10_000)
REASONS = [Reason.INVALID_JSON, Reason.NOT_ENCODABLE, Reason.REFUSED]


def dead(offset: int = 0, reason: Reason = Reason.INVALID_JSON, **more: object) -> DeadLetter:
    lane = "" if reason in {Reason.INVALID_JSON, Reason.NOT_AN_UPLOAD} else "acme"
    told = {"connection": lane, "error": "why", "value": b"%d" % offset} | more
    return DeadLetter(reason, offset, **told)  # type: ignore[arg-type]  # checked by the struct


def choice(wanted: LetterFilter | None = None, **more: object) -> RedriveSelection:
    told = {"active": frozenset({"acme"}), "topics": frozenset({TOPIC}), "limit": 10**6} | more
    return RedriveSelection(wanted or LetterFilter(GROUP), **told)  # type: ignore[arg-type]


async def sent_back(
    topic: Letters, chosen: RedriveSelection | None = None, rate: float = 0
) -> RedriveTotals:
    what = chosen or choice()
    ends = (await redrive.plan(topic, what)).ends
    return await redrive.redrive(
        topic, topic.redrive_producer(), what, ends, rate=rate, clock=doubles.LoopClock()
    )


def back(topic: Letters, chosen: RedriveSelection | None = None) -> list[str]:
    """Send back; return what has come back so far."""
    asyncio.run(sent_back(topic, chosen))
    return [dict(one.headers)[LETTER_HEADER].decode() for one in topic.inputs]


def states(topic: Letters) -> dict[str, str]:
    found = asyncio.run(dead_letters.list_letters(topic, LetterFilter(GROUP), 100))
    return {one["place"]: one["state"] for one in found["letters"]}


def test_a_letter_goes_back_to_where_it_came_from_with_its_marks() -> None:
    topic = Letters()
    topic.store(dead(5, Reason.REFUSED, time=77, device=b"\x02" * 16), number=1)
    back(topic)
    [parcel] = topic.inputs
    expected = {
        REASON_HEADER: b"refused_by_sink",
        CONNECTION_HEADER: b"acme",
        LETTER_HEADER: b"letters/1:0",
        DEVICE_HEADER: b"02" * 16,
        TIME_HEADER: b"77",
    }
    assert (Partition(TOPIC, 1), b"5") == (parcel.to, parcel.value)
    assert expected == dict(parcel.headers)
    told = parse_headers(parcel.headers)
    assert told == RedriveHeaders("refused_by_sink", "acme", b"\x02" * 16, 77)


def test_a_second_run_sends_nothing_and_says_why() -> None:
    topic = Letters()
    topic.store(dead())
    assert 1 == len(back(topic))
    assert 1 == len(back(topic))
    assert {"0:0": SENT} == states(topic)
    again = asyncio.run(redrive.plan(topic, choice()))
    assert (0, {"sent back before": 1}) == (again.letters, again.skipped)
    assert 2 == len(back(topic, choice(repeat=True)))


def test_what_failed_again_waits_for_an_explicit_word() -> None:
    topic = Letters()
    place = topic.store(dead(redriven=True))
    assert {place: AGAIN} == states(topic)
    assert [] == back(topic)
    assert [f"{LETTERS}/{place}"] == back(topic, choice(again=True))
    assert {place: SENT} == states(topic)
    assert 1 == len(back(topic, choice(again=True)))


def test_a_receipt_does_not_cover_what_lies_between() -> None:
    topic = Letters()
    first = topic.store(dead(0))
    middle = topic.store(dead(1, Reason.REFUSED))
    others = topic.store(dead(1), group="other")
    last = topic.store(dead(2))
    back(topic, choice(LetterFilter(GROUP, reasons=frozenset({"invalid_json"}))))
    assert {first: SENT, middle: WAITING, last: SENT} == states(topic)
    assert f"{LETTERS}/{others}" not in back(topic)


@pytest.mark.parametrize(
    ("letter", "changes", "why"),
    [
        (dead(0, Reason.REFUSED, connection="gone"), {}, "connection gone is not configured"),
        (dead(0), {"topics": frozenset()}, "input topic is not configured"),
        (dead(0), {"limit": 0}, "beyond --limit"),
        (dead(0, value=NOISE), {}, "larger than max.message.bytes"),
        (dead(5, Reason.TOO_LARGE_UNPACKED, connection=""), {}, "a batch as Kafka stores it"),
        (dead(5, Reason.UNREADABLE_BATCH, connection=""), {}, "a batch as Kafka stores it"),
    ],
)
def test_what_cannot_go_back_stays_and_is_counted(
    letter: DeadLetter, changes: dict[str, Any], why: str
) -> None:
    topic = Letters(most=2000)
    topic.store(letter, most=10**7)
    tally = asyncio.run(redrive.plan(topic, choice(**changes)))
    [(told, count)] = tally.skipped.items()
    assert (0, 1) == (tally.letters, count)
    assert why in told
    assert [] == back(topic, choice(**changes))


def test_a_letter_that_the_broker_would_refuse_keeps_none_behind_it() -> None:
    """Of a partition that is gone; and what repeats itself too far off for the producer's gzip."""
    topic = Letters(most=150_000)
    topic.store(dead(0), came_from=2)
    topic.store(dead(1, value=hashlib.shake_256(b"far").digest(100_000) * 3))
    last = topic.store(dead(2))
    why = asyncio.run(redrive.plan(topic, choice())).skipped
    assert {
        "its input partition is not there any more": 1,
        "larger than max.message.bytes of its input topic": 1,
    } == why
    assert [f"{LETTERS}/{last}"] == back(topic)


def test_a_large_letter_goes_where_it_fits_compressed() -> None:
    topic = Letters(most=20_000)
    topic.store(dead(value=b"x" * 100_000))
    assert 1 == len(back(topic))


def test_a_letter_without_its_bytes_gets_them_from_the_input_while_they_are_there() -> None:
    back_at = [(REASON_HEADER, b"invalid_json"), (TIME_HEADER, b"50")]
    records = [Stored(3, 70, NOISE, []), Stored(5, 90, NOISE, back_at)]
    topic = Letters(most=100_000, input={(Partition(TOPIC, 0), one.offset): one for one in records})
    stored = [
        (3, Reason.INVALID_JSON, 70), (4, Reason.INVALID_JSON, 70), (3, Reason.REFUSED, 70),
        (3, Reason.INVALID_JSON, 60), (5, Reason.INVALID_JSON, 50), (3, Reason.INVALID_JSON, 0),
    ]  # fmt: skip
    for offset, reason, time in stored:
        topic.store(dead(offset, reason, value=NOISE, time=time), most=600)
    assert [f"{LETTERS}/0:{place}" for place in (0, 8, 10)] == back(topic)
    assert {NOISE} == {one.value for one in topic.inputs}
    tally = asyncio.run(redrive.plan(topic, choice()))
    assert 3 == tally.skipped["its bytes are not there any more"]


@pytest.mark.parametrize(
    ("wanted", "meant"),
    [
        (LetterFilter(GROUP), {0, 1, 2}),
        (LetterFilter("other"), set()),
        (LetterFilter(GROUP, reasons=frozenset({"invalid_json"})), {0, 2}),
        (LetterFilter(GROUP, connections=frozenset({"acme"})), {1}),
        (LetterFilter(GROUP, connections=frozenset({""})), {0, 2}),
        (LetterFilter(GROUP, since_ms=2000), {1, 2}),
        (LetterFilter(GROUP, until_ms=3000), {0}),
        (LetterFilter(GROUP, since_ms=10**12), set()),
        (LetterFilter(GROUP, topics=frozenset({TOPIC})), {0, 1, 2}),
        (LetterFilter(GROUP, topics=frozenset({"x"})), set()),
        (LetterFilter(GROUP, partition=1), set()),
        (LetterFilter(GROUP, first=1), {1, 2}),
        (LetterFilter(GROUP, first=1, last=1), {1}),
        (LetterFilter(GROUP, places=frozenset({"0:4"})), {2}),
    ],
)
def test_filters_say_which_letters_are_meant(wanted: LetterFilter, meant: set[int]) -> None:
    topic = Letters()
    for offset, reason in enumerate((Reason.INVALID_JSON, Reason.REFUSED, Reason.INVALID_JSON)):
        topic.store(dead(offset, reason))
    found = asyncio.run(dead_letters.list_letters(topic, wanted, 100))
    assert [f"{TOPIC}/0:{offset}" for offset in sorted(meant)] == [
        one["from"] for one in found["letters"]
    ]


def test_a_list_counts_all_and_shows_the_first() -> None:
    topic = Letters()
    for offset in range(5):
        topic.store(dead(offset))
    found = asyncio.run(dead_letters.list_letters(topic, LetterFilter(GROUP), 2))
    counts = {"reason": "invalid_json", "connection": "", "state": WAITING, "letters": 5}
    assert ([counts | {"bytes": 5}], 2, True) == (
        found["counts"],
        len(found["letters"]),
        found["more"],
    )


@pytest.mark.parametrize(("number", "offset"), [(0, 99), (5, 0), (0, 2)])
def test_a_place_without_a_letter_is_told(number: int, offset: int) -> None:
    topic = Letters()
    topic.store(dead())
    back(topic)
    with pytest.raises(ForwarderError, match=f"{number}:{offset}"):
        asyncio.run(dead_letters.find_letter(topic, number, offset, GROUP))
    assert SENT == asyncio.run(dead_letters.find_letter(topic, 0, 0, GROUP))[1]


def test_one_courier_at_a_time_may_write() -> None:
    async def story() -> None:
        topic = Letters()
        topic.store(dead())
        first = topic.redrive_producer()
        await first.start()
        await sent_back(topic)
        with pytest.raises(FencedError):
            await first.send([])

    doubles.run_virtually(story())


def test_no_more_go_back_in_a_second_than_the_rate_allows() -> None:
    async def story() -> None:
        topic = Letters()
        for offset in range(50):
            topic.store(dead(offset))
        loop, began = asyncio.get_running_loop(), asyncio.get_running_loop().time()
        await sent_back(topic, rate=10)
        assert 4.8 <= loop.time() - began <= 5.2

    doubles.run_virtually(story())


@given(st.data())
def test_every_letter_goes_back_exactly_once_whatever_is_interrupted(data: st.DataObject) -> None:
    """Runs with filters, ended anywhere, letters arriving meanwhile; then one without a filter."""
    topic, total = Letters(), 0
    for _ in range(data.draw(st.integers(1, 4))):
        for _ in range(data.draw(st.integers(0, 6))):
            reason = data.draw(st.sampled_from(REASONS))
            topic.store(dead(total, reason), number=data.draw(st.integers(0, 1)))
            total += 1
        reasons = frozenset(reason.value for reason in data.draw(st.sets(st.sampled_from(REASONS))))
        first = data.draw(st.integers(0, 3))
        chosen = choice(
            LetterFilter(GROUP, reasons, first=first), limit=data.draw(st.integers(1, 5))
        )
        topic.dies_after = data.draw(st.integers(0, 2))
        with contextlib.suppress(FencedError):
            back(topic, chosen)
    topic.dies_after = 10**9
    gone = back(topic)
    assert total == len(gone) == len(set(gone))
    assert {SENT} >= set(states(topic).values())

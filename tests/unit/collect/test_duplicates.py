"""What has come before, against the definition; and that it depends on the log alone."""

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.collect.duplicates import Duplicates, LookBackSizes, without_duplicates
from forwarder.formats.contract import DUPLICATE, ContextShape, Upload
from forwarder.model import DuplicateWindow
from tests import look_back
from tests.builders import Rec
from tests.look_back import Look, Stood

MINUTE = 60_000
WINDOW = 10 * MINUTE
SMALL = LookBackSizes(block=4, identities=1_000)
_SHAPE = ContextShape(frozenset(), plain=True, dated=False)


def uploads_of(stood: Stood, cut: int = 0) -> list[Upload]:
    """Return the uploads of a record: one, or cut into two before an event."""
    whole = stood.identities
    parts = [(0, whole[:cut]), (cut, whole[cut:])] if 0 < cut < len(whole) else [(0, whole)]
    return [
        Upload(
            stood.offset, start, stood.time, stood.time, b"d", b"d", b"", b"",
            ["tap"] * len(part), [], [], b",".join([b"{}"] * len(part)), b"{}", _SHAPE,
            duplicate_keys=[name.encode() for name in part],
        )
        for start, part in parts
    ]  # fmt: skip


def judged(
    found: Duplicates, records: Sequence[Stood], *, poll: int = 3, cut: int = 0
) -> dict[int, list[bool]]:
    """Give records poll by poll; return by offset which events were marked."""
    marks: dict[int, list[bool]] = {}
    for at in range(0, len(records), poll):
        some = records[at : at + poll]
        uploads = [one for stood in some for one in uploads_of(stood, cut)]
        marked = found.mark([Rec(stood.offset, stood.time, b"") for stood in some], uploads)
        assert sorted(map(id, uploads)) == sorted(map(id, [*marked.kept, *marked.dropped]))
        for one in uploads:
            kinds = [kind is DUPLICATE for kind in one.types]
            marks.setdefault(one.offset, []).extend(kinds)
            gone = bool(kinds) and all(kinds)
            assert gone == (one in marked.dropped)
            assert (any(kinds) and not gone) == (one in marked.partial)
    return marks


def looking(window_ms: int = WINDOW, begin: int = 0, sizes: LookBackSizes = SMALL) -> Duplicates:
    return Duplicates([DuplicateWindow(window_ms, 0)], begin, sizes=sizes)


def line(*stood: tuple[int, str]) -> list[Stood]:
    """Return records of one event each, at these times."""
    return [Stood(offset, time, (name,)) for offset, (time, name) in enumerate(stood)]


# --------------------------------------------------------------------------- the definition


@pytest.mark.parametrize(("apart", "dropped"), [(0, True), (WINDOW, True), (WINDOW + 1, False)])
@pytest.mark.parametrize("order", [1, -1])
def test_the_window_is_how_far_apart_two_record_times_may_be(
    apart: int, order: int, *, dropped: bool
) -> None:
    found = judged(looking(), line((0, "a"), (order * apart, "a")))
    assert {0: [False], 1: [dropped]} == found


def test_what_was_dropped_itself_counts_as_having_come_before() -> None:
    """A client that tries every nine minutes is dropped for as long as it goes on."""
    tries = line(*[(n * 9 * MINUTE, "a") for n in range(12)])
    assert [[n > 0] for n in range(12)] == [*judged(looking(), tries).values()]


def test_equal_identities_of_one_record_are_no_duplicates_of_each_other() -> None:
    twice = [Stood(0, 0, ("a", "a", "b")), Stood(1, 0, ("a", "c", "a"))]
    found = {0: [False] * 3, 1: [True, False, True]}
    assert found == judged(looking(), twice)
    assert found == judged(looking(), twice, cut=1)


def test_an_event_without_identity_is_never_a_duplicate() -> None:
    assert {n: [False] for n in range(3)} == judged(looking(), line(*[(0, "")] * 3))


def test_an_earlier_time_of_an_identity_counts_too_where_times_are_out_of_order() -> None:
    hour = 60 * MINUTE
    assert [[False], [False], [True], [True]] == [
        *judged(looking(), line((0, "a"), (hour, "a"), (MINUTE, "a"), (hour, "a"))).values()
    ]


@pytest.mark.parametrize("time", [-1, 0, -(2**63), 2**63 - 1])
def test_a_record_time_may_be_any_number(time: int) -> None:
    found = judged(looking(), line(*[(time, "a"), (time, "a"), (5, "b")] * 4))
    assert [[n not in {0, 2}] for n in range(12)] == [*found.values()]


def test_a_client_whose_clock_is_wrong_is_found_as_long_as_the_others() -> None:
    """Its records are a year off: what is forgotten follows most records, not the odd one."""
    year = 365 * 24 * 60 * MINUTE
    for off in (year, -year):
        wrong = [(off, "x") if n % 5 == 2 else (n * 1_000, f"{n}") for n in range(40)]
        found = judged(looking(), line(*wrong))
        assert [n for n in range(40) if found[n] == [True]] == [*range(7, 40, 5)]


def test_the_oldest_go_beyond_the_most_that_are_remembered() -> None:
    few = LookBackSizes(block=4, identities=5)
    names = ["a", "b", "c", "d", "e", "a", "b", "f", "c"]
    found = judged(looking(sizes=few), line(*[(0, name) for name in names]))
    # "a" and "b" come as the fifth after themselves; "f" then pushes "c" out.
    assert [5, 6] == [n for n, marks in found.items() if marks == [True]]


def test_what_is_forgotten_is_forgotten_in_memory() -> None:
    found = looking(sizes=LookBackSizes(block=8))
    sizes = []
    for n in range(0, 6_000, 3):
        judged(found, [Stood(n + i, (n + i) * 1_000, (f"{n + i}", "x")) for i in range(3)])
        sizes.append((found.identities(), found.memory_bytes()))
    assert 2 * 620 > max(count for count, _ in sizes)
    assert sizes[-1][1] <= max(size for _, size in sizes[:700])
    assert 1.1 * 601 > len(found._times)  # noqa: SLF001  # what takes the memory


def test_all_is_forgotten_where_nothing_is_looked_for_though_no_record_is_there() -> None:
    windows = [DuplicateWindow(WINDOW, 0), DuplicateWindow(0, 5), DuplicateWindow(WINDOW, 6)]
    for gap in (0, 1):
        records = [Stood(n + gap * (n > 4), 0, ("a",)) for n in range(4 + gap, 8)]
        found = judged(Duplicates(windows, 0, sizes=SMALL), records)
        assert [n for n, marks in found.items() if marks == [True]] == [*range(7, 8 + gap)]


def test_partly_dropped_uploads_keep_their_places_and_lend_no_session_to_what_went() -> None:
    upload = uploads_of(Stood(1, 0, ("a", "b", "c", "d")))[0]
    upload.sessions = [b"1", b"2", b"3", b"4"]
    found = looking()
    judged(found, [Stood(0, 0, ("a", "c"))])
    found.mark([Rec(1, 0, b"")], [upload])
    assert [DUPLICATE, "tap", DUPLICATE, "tap"] == upload.types
    assert [b"2", b"2", b"2", b"4"] == upload.sessions
    assert (b"{},{}", 2) == without_duplicates(upload)


# --------------------------------------------------------------------------- against the oracle


@st.composite
def logs(draw: st.DrawFn) -> list[Stood]:
    """Draw a partition: gaps, clocks that run, stand, jump and are wrong, few identities."""
    records, offset, now = [], draw(st.integers(0, 9)), 0
    names = st.sampled_from(["", *"abcdefgh"])
    for _ in range(draw(st.integers(0, 60))):
        offset += draw(st.sampled_from([1, 1, 1, 1, 2, 5]))
        now += draw(st.sampled_from([0, 0, 1, 3, 10, 40, -40]))
        time = now + draw(st.sampled_from([0, 0, 0, 0, 0, 5, -5, 10**6, -(10**6)]))
        records.append(Stood(offset, time, tuple(draw(st.lists(names, max_size=3)))))
    return records


@st.composite
def windows(draw: st.DrawFn) -> list[DuplicateWindow]:
    """Draw windows that were changed now and then, perhaps switched off meanwhile."""
    starts = sorted(draw(st.sets(st.integers(1, 90), max_size=3)))
    return [DuplicateWindow(draw(st.sampled_from([10, 10, 30, 3, 0])), at) for at in [0, *starts]]


LOOK = Look(block=4, identities=12)
SIZES = LookBackSizes(block=4, identities=12, times=1_000)


@settings(max_examples=600, deadline=None)
@given(logs(), windows(), st.integers(1, 9), st.integers(0, 2))
def test_what_is_marked_is_what_the_definition_says(
    records: list[Stood], changed: list[DuplicateWindow], poll: int, cut: int
) -> None:
    begin = records[0].offset if records else 0
    made = Duplicates(changed, begin, sizes=SIZES)
    told: dict[float, int] = {one.start: one.window_ms for one in changed}
    assert look_back.within(records, told, LOOK) == judged(made, records, poll=poll, cut=cut)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from("abcdefgh")), max_size=80))
def test_in_a_log_in_order_of_time_all_is_found_that_comes_within_the_window(
    steps: list[tuple[int, str]],
) -> None:
    """Nothing is forgotten too early: the same as looking back on everything there is."""
    records, now = [], 0
    for offset, (step, name) in enumerate(steps):
        now += step
        records.append(Stood(offset, now, (name,)))
    assert look_back.anywhere(records, 50) == judged(looking(50), records)


# --------------------------------------------------------------------------- replays


@settings(max_examples=1_000, deadline=None)
@given(
    logs(), windows(), st.integers(0, 70), st.integers(0, 70), st.integers(0, 12),
    st.sampled_from([SIZES, msgspec.structs.replace(SIZES, times=2)]),
)  # fmt: skip
def test_whoever_begins_where_it_is_stored_finds_the_same(  # noqa: PLR0913, PLR0917  # drawn
    records: list[Stood],
    changed: list[DuplicateWindow],
    need: int,
    more: int,
    poll: int,
    sizes: LookBackSizes,
) -> None:
    """At any position reached later, for any offset still needed: all that lies behind is the same.

    ``need`` and ``more`` count records. The windows of before ``need`` are not known any more.
    """
    if not records:
        return
    needed, reached = records[: min(need, len(records))], records[: min(need + more, len(records))]
    whole = Duplicates(changed, records[0].offset, sizes=sizes)
    expected = judged(whole, records)
    until = Duplicates(changed, records[0].offset, sizes=sizes)
    judged(until, reached)
    offset = needed[-1].offset + 1 if needed else records[0].offset
    until.forget_reaches(offset)
    begin = until.seen_from(offset)
    behind = [*(one.start for one in changed[1:]), offset + 1]
    left = [one for one, end in zip(changed, behind, strict=True) if end > offset]

    def begun() -> Duplicates:
        return Duplicates(left, begin, offset, sizes=sizes)

    found = judged(begun(), [one for one in records if one.offset >= begin], poll=poll + 1)
    assert {at: marks for at, marks in expected.items() if at >= offset} == {
        at: marks for at, marks in found.items() if at >= offset
    }
    if not left[0].window_ms:
        return  # nothing is looked for from there on, nor stored
    # And who has come as far stores the same.
    after, third = reached[-1].offset + 1 if reached else offset, begun()
    judged(third, [one for one in reached if one.offset >= begin])
    assert until.seen_from(after) == third.seen_from(after)

"""How operators name a point in the log."""

import pytest

from forwarder.admin import outbox_range
from forwarder.admin.outbox_range import OutboxPlace, OutboxRange, RangeEdge, parse_edge
from forwarder.errors import ConfigurationError
from forwarder.model import Partition
from tests.batches import batch

P0, P1 = Partition("raw", 0), Partition("raw", 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31T12:00:00Z", RangeEdge(1_769_860_800_000, ())),
        ("2026-01-31T13:00:00.5+01:00", RangeEdge(1_769_860_800_500, ())),
        ("1769860800000", RangeEdge(1_769_860_800_000, ())),
        ("0:12", RangeEdge(None, (OutboxPlace(None, 0, (12, 0)),))),
        (
            "raw/0:12.3,1:4",
            RangeEdge(None, (OutboxPlace("raw", 0, (12, 3)), OutboxPlace(None, 1, (4, 0)))),
        ),
    ],
)
def test_a_time_or_a_place_can_be_named(text: str, expected: RangeEdge) -> None:
    assert expected == parse_edge(text, "--from")


@pytest.mark.parametrize("text", ["yesterday", "2026-01-31T12:00:00", "1:x", "", "12", "0:1,"])
def test_anything_else_is_refused_with_what_is_accepted(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"--from: .*(zone|must be)"):
        parse_edge(text, "--from")


def test_a_stretch_takes_its_beginning_and_not_its_end() -> None:
    stretch = OutboxRange(
        parse_edge("1970-01-01T00:00:01Z", "--from"), parse_edge("1970-01-01T00:00:02Z", "--to")
    )
    inside = [
        stretch.has(P0, (0, 0), batch("b", closed_at=closed)) for closed in (999, 1000, 1999, 2000)
    ]
    assert [False, True, True, False] == inside


def test_with_places_only_the_partitions_named_take_part() -> None:
    stretch = OutboxRange(parse_edge("0:5.1", "--from"), None)
    assert (True, False) == (stretch.covers(P0), stretch.covers(P1))
    one = batch("b")
    assert [False, True, True] == [stretch.has(P0, at, one) for at in ((5, 0), (5, 1), (6, 0))]


def test_a_stretch_that_is_resumed_keeps_its_times() -> None:
    since = parse_edge("1970-01-01T00:00:01Z", "--from")
    stretch = OutboxRange(since, None, parse_edge("raw/1:7", "--resume"))
    assert (False, True) == (stretch.covers(P0), stretch.covers(P1))
    assert not stretch.has(P1, (7, 0), batch("b", closed_at=999))
    assert not stretch.has(P1, (6, 0), batch("b", closed_at=1000))
    assert stretch.has(P1, (7, 0), batch("b", closed_at=1000))


def test_a_stretch_that_ends_before_it_begins_is_refused() -> None:
    since, until = parse_edge("1769860800000", "--from"), parse_edge("1769860800000", "--to")
    with pytest.raises(ConfigurationError, match="not after --from"):
        OutboxRange(since, until).check()


@pytest.mark.parametrize(
    ("since", "until", "complaint"),
    [
        ("5:0", None, "--from: there is no partition 5"),
        ("other/0:1", None, "no partition other/0 among"),
        ("raw/0:1,tv/0:1", "0:9", "--to: 0 may be raw/0 and tv/0; write TOPIC/0:OFFSET"),
        ("1:1,raw/1:2", None, "--from: names raw/1 twice"),
        ("1:3", "1:3.0", "not after --from"),
    ],
)
def test_a_place_that_cannot_be_meant_is_refused(
    since: str, until: str | None, complaint: str
) -> None:
    ends = [parse_edge(text, "") if text else None for text in (since, until)]
    with pytest.raises(ConfigurationError, match=complaint):
        OutboxRange(*ends).check_places([P0, P1, Partition("tv", 0)])


def test_places_of_partitions_that_are_there_are_taken() -> None:
    since = parse_edge("raw/0:1,1:2", "--from")
    OutboxRange(since, parse_edge("1:3", "--to"), parse_edge("1:2", "--resume")).check_places(
        [P0, P1]
    )
    OutboxRange(parse_edge("1769860800000", "--from")).check_places([P0])


def test_times_are_shown_in_utc() -> None:
    assert ("2026-01-31T12:00:00Z", "-") == (
        outbox_range.format_time(1_769_860_800_999),
        outbox_range.format_time(None),
    )

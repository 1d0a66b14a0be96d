"""What the demo shows has to be true: its books are judged here on made-up streams."""

import io
import json
import re
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from tests.demo.connections import CONNECTIONS
from tests.demo.figures import Figures
from tests.demo.layout import exact, flat, folded
from tests.demo.screen import Screen
from tests.services.ministack import Stored
from tests.traffic import Upload, traffic

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

BATCHES = "shop-batches"


def upload() -> Upload:
    """Return an upload of which every connection of phones keeps something."""
    return next(
        it
        for it in traffic(3, 60, 600, 1_700_000_000_000)
        if it.application == "com.acme.shop"
        and it.platform == "iOS"
        and it.environment == "production"
        and "screen_view" in it.event_types
    )


def stored(events: list[Any], name: str = "m-1") -> Stored:
    """Return a record of the stream with these events, as a sink might have put it."""
    document = {
        "events": events,
        "message_id": name,
        "timestamp_unixtime_ms": 1_700_000_000_000,
        "application_info": {"package": "com.acme.shop"},
    }
    return Stored("key", "1", json.dumps(document).encode())


def kept(sent: Upload) -> list[Any]:
    """Return the events that the connection of batches keeps."""
    wanted = CONNECTIONS[0].expected(sent)
    events = json.loads(sent.value)["events"]
    return [event for event in events if event["data"]["source_message_id"] in wanted]


def figures_after(*records: Stored) -> Figures:
    figures = Figures()
    figures.sent(upload())
    figures.read(BATCHES, records, 1_700_000_001_000)
    return figures


def test_what_arrives_as_it_was_sent_is_delivered() -> None:
    events = kept(upload())
    tally = figures_after(stored(events)).books[BATCHES].tally()
    assert (len(events), len(events), 0, 0) == (
        tally.sent,
        tally.delivered,
        tally.faults,
        tally.repeated,
    )


def test_what_does_not_arrive_is_lost() -> None:
    figures = figures_after(stored(kept(upload())[1:]))
    assert figures.books[BATCHES].tally().lost == 1
    assert not figures.ok


def test_an_event_with_another_content_is_altered() -> None:
    events = kept(upload())
    events[0]["data"]["event_id"] += 1
    assert figures_after(stored(events)).books[BATCHES].tally().altered == 1


def test_an_event_nobody_sent_is_extra() -> None:
    stray = {"event_type": "custom_event", "data": {"source_message_id": "nobody's"}}
    tally = figures_after(stored([*kept(upload()), stray])).books[BATCHES].tally()
    assert (1, 1) == (tally.extra, tally.faults)


def test_an_event_in_two_batches_is_twice() -> None:
    events = kept(upload())
    tally = figures_after(stored(events), stored(events[:1], "m-2")).books[BATCHES].tally()
    assert (1, 1, 0) == (tally.twice, tally.faults, tally.repeated)


def test_the_same_batch_again_is_a_repeat_and_no_fault() -> None:
    record = stored(kept(upload()))
    tally = figures_after(record, record).books[BATCHES].tally()
    assert (1, 0) == (tally.repeated, tally.faults)


def test_a_repeat_with_other_bytes_is_altered() -> None:
    record = stored(kept(upload()))
    other = record._replace(value=record.value + b" ")
    tally = figures_after(record, other).books[BATCHES].tally()
    assert (1, 1) == (tally.repeated, tally.altered)


def test_a_missing_dead_letter_is_not_ok() -> None:
    figures = Figures()
    assert figures.ok
    figures.malformed = 1
    assert not figures.ok


def test_the_connection_without_locations_expects_none_and_no_crashes() -> None:
    sessions = CONNECTIONS[1]
    uploads = list(traffic(5, 60, 3_000, 1_700_000_000_000))
    sent = {kind for it in uploads for kind in it.event_types}
    events = [event for it in uploads for event in sessions.expected(it).values()]
    assert any(b'"location":{"latitude"' in it.value for it in uploads)
    assert not any("location" in event["data"] for event in events)
    assert {
        "crash_report",
        "breadcrumb",
        "user_attribute_change",
        "user_identity_change",
        "validation_result",
    } == sent - {event["event_type"] for event in events}


@pytest.mark.parametrize(
    "document", [b"{}", b"[]", b'{"a":[1.10,-7,1e-7],"b":{"c":null},"d":"\\u00e9"}', b"[[[[1]]]]"]
)
@pytest.mark.parametrize("width", [10, 30, 100])
def test_folding_keeps_the_document_and_the_spelling_of_numbers(
    document: bytes, width: int
) -> None:
    assert exact(document) == exact(folded(exact(document), width).encode())


def test_what_fits_stays_on_a_line_and_what_does_not_is_broken_up() -> None:
    document = exact(b'{"short":{"a":1},"long":["aaaaaaaaaa","bbbbbbbbbb"]}')
    assert flat(document) == folded(document, 80)
    assert folded(document, 30).splitlines() == [
        "{",
        '  "short": {"a": 1},',
        '  "long": [',
        '    "aaaaaaaaaa",',
        '    "bbbbbbbbbb"',
        "  ]",
        "}",
    ]


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_nothing_on_a_terminal_is_wider_than_it(width: int) -> None:
    out = io.StringIO()
    screen = Screen(Console(file=out, width=width, force_terminal=True, color_system=None))
    figures = figures_after(stored(kept(upload())))
    with screen.live(figures):
        screen.happen("x" * 30)
        screen.show(figures)
    arrived = figures.books[BATCHES].recent[0]
    screen.batch(arrived)
    screen.verdict(figures)
    lines = ESCAPES.sub("", out.getvalue()).replace("\r", "\n").splitlines()
    assert any("shop-batches" in line for line in lines)
    assert width >= max(cell_len(line) for line in lines)

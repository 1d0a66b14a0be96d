"""What reading files may rely on, asked of every format; see ``test_formats``."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from forwarder import app
from forwarder.config.connection import Connection, Match
from tests import toy_format
from tests.builders import START
from tests.format_senders import DROPPING, SENDERS, Sender, connection

pytestmark = pytest.mark.usefixtures("core")


@pytest.fixture(params=SENDERS)
def sender(request: pytest.FixtureRequest) -> Sender:
    """Return each format's sender in turn."""
    found: Sender = SENDERS[request.param]
    return found


def test_an_upload_says_from_when_it_is(sender: Sender) -> None:
    assert START == sender.form.record_time(sender.record(sender.event(1)))
    assert sender.form.record_time(b"") is None


def test_lines_that_are_something_else_are_named(sender: Sender) -> None:
    assert sender.form.unlike(sender.record(sender.event(1))) is None
    for line in sender.foreign:
        found = sender.form.unlike(line)
        assert found is not None
        assert found.what


@pytest.fixture
def reading(tmp_path: Path) -> Callable[[Sender, Connection, Sequence[bytes]], Path]:
    """Return what writes a file and returns where its batches go."""

    def prepared(sender: Sender, chosen: Connection, values: Sequence[bytes]) -> Path:
        (tmp_path / "in").write_bytes(b"\n".join(values) + b"\n")
        assert chosen.sink.format == sender.form.name
        return tmp_path / "in"

    return prepared


async def test_a_file_is_read_and_delivered_in_any_format(
    sender: Sender,
    tmp_path: Path,
    reading: Callable[[Sender, Connection, Sequence[bytes]], Path],
) -> None:
    chosen = connection(sender, match=Match(application=frozenset({"shop"})), **DROPPING)
    values = [
        sender.record(sender.event(1), sender.event(2, sender.view), tag="a"),
        sender.broken[-1],
        sender.record(sender.event(3), tag="b"),
    ]
    source = reading(sender, chosen, values)
    tally = await app.run_file(
        [chosen], str(source), tmp_path / "out", sender.form.name, formats=toy_format.FORMATS
    )
    lines = (tmp_path / "out" / "lane.ndjson").read_bytes().splitlines()
    read = [sender.read(line)[1:] for line in lines]
    batches = "2 batches" if chosen.has_one_event_documents else "1 batch"
    assert [sender.event(1), sender.event(3)] == [one for events, _ in read for one in events]
    assert ["a", "b"] == [tag for _, tags in read for tag in tags]
    assert f"2 events in {batches} delivered, 1 events filtered out" in tally.text()
    assert 1 == len((tmp_path / "out" / "dead-letters.ndjson").read_bytes().splitlines())

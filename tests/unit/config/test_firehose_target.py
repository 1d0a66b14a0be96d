"""A Firehose delivery stream as a connection's sink: how it is configured, what fits into it."""

import pytest

from forwarder.cli import main
from forwarder.config.connection import Connection
from forwarder.config.targets import FirehoseTarget
from forwarder.model import Reason
from tests import builders
from tests.builders import connection, event, records, upload
from tests.configurations import Folder

SINK = "sink: {type: firehose, delivery_stream_name: archive, region: eu-west-1%s}\n"


def loaded(folder: Folder, more: str = "") -> Connection:
    folder.connect("name: acme\n" + SINK % more)
    (found,) = folder.load({}).configuration.connections
    return found


def test_a_delivery_stream_takes_records_of_1000_kib_unless_told_otherwise(folder: Folder) -> None:
    assert FirehoseTarget("archive", "eu-west-1", 1000 * 1024) == loaded(folder).sink


def test_every_key_is_read(folder: Folder) -> None:
    found = loaded(folder, ", max_record_bytes: 64KiB, endpoint_url: 'https://f.example'").sink
    assert FirehoseTarget("archive", "eu-west-1", 65_536, "https://f.example") == found


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (", max_record_bytes: 1001KiB", "1KiB to 1000KiB"),
        (", partition_key: mpid", "its place is below another type"),
        (", put: auto", "its place is below another type"),
    ],
)
def test_what_firehose_does_not_have_is_a_fault(
    folder: Folder, capsys: pytest.CaptureFixture[str], more: str, words: str
) -> None:
    path = folder.connect("name: acme\n" + SINK % more)
    assert 0 != main(["check", "--connection", str(path)])
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a" * 65, "must be 1 to 64 of"),
        ("arn:aws:firehose:us-east-1:1:deliverystream/x", "give the part after deliverystream/"),
    ],
)
def test_a_name_that_cannot_be_one_is_a_fault(
    folder: Folder, capsys: pytest.CaptureFixture[str], name: str, words: str
) -> None:
    text = SINK % ""
    path = folder.connect("name: acme\n" + text.replace("archive", f"'{name}'"))
    assert 0 != main(["check", "--connection", str(path)])
    assert words in capsys.readouterr().err


def test_check_says_where_batches_go(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == main(["check", "--connection", str(folder.connect("name: acme\n" + SINK % ""))])
    said = capsys.readouterr().out
    assert "# they go to the Firehose delivery stream archive in eu-west-1" in said
    assert "# signed with the default AWS chain" in said


def test_a_document_of_the_limit_leaves_room_for_the_end_of_its_line() -> None:
    fed = upload(event(t="x" * 2000))
    (document,) = builders.run(connection(), records(fed)).batches
    size = len(document.payload)
    fits = FirehoseTarget("s", "us-east-1", max_record_bytes=size + 1)
    (alone,) = builders.run(connection(sink=fits), records(fed)).batches
    assert size == len(alone.payload)
    less = FirehoseTarget("s", "us-east-1", max_record_bytes=size)
    out = builders.run(connection(sink=less), records(fed))
    assert ([], [Reason.EVENT_TOO_LARGE]) == (out.batches, [x.reason for x in out.dead_letters])


def test_a_batch_too_large_for_a_record_is_split() -> None:
    sink = FirehoseTarget("s", "us-east-1", max_record_bytes=1500)
    out = builders.run(connection(sink=sink), records(*[upload(event(n=n)) for n in range(40)]))
    assert 1 < len(out.batches)
    assert max(len(batch.payload) for batch in out.batches) < 1500
    assert 40 == sum(batch.count for batch in out.batches)
    assert [] == out.dead_letters

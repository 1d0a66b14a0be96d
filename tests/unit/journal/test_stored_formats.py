"""What earlier releases stored is read for ever; docs/formats.md tells how."""

import doctest
from pathlib import Path

import pytest

from forwarder.formats.ids import digest
from forwarder.journal import outbox
from forwarder.journal import state as states
from forwarder.journal.commit import CommitMetadata, decode_metadata, encode_metadata
from forwarder.journal.fold import fold_records
from forwarder.journal.state import LaneState
from forwarder.model import Batch, CloseReason, Commit, HeldWindow

ROOT = Path(__file__).parents[3]
STORED = ROOT / "tests" / "data" / "formats"


def batch(number: int) -> Batch:
    return Batch(
        lane="acme-production",
        id=f"00000000-0000-4000-8000-00000000000{number}",
        key=bytes(range(16)),
        window_key=b"",
        first=(41, number),
        last=(57, 0),
        count=3,
        closed_at=1_700_000_600_123,
        record_ms=1_700_000_599_000,
        mpid="-7346244611012968789",
        reason=CloseReason.AGE,
        payload=b'{"events":[{"event_type":"custom_event","data":{}}],"message_id":"%d"}' % number,
    )


HELD = HeldWindow(
    key=b"production\x00com.acme\x00d1\x0042",
    device=b"production\x00com.acme\x00d1\x0042",
    session=b"",
    pieces=[(41, 0, 2, 1_700_000_000_000, b'{"event_type":"a"},{"event_type":"b"}')],
    context=b'{"mpid":42}',
    identities_ms=1_700_000_000_000,
    newest_ms=1_700_000_000_500,
    to=(41, 1),
    opened=1_700_000_000_000,
    last_activity=1_700_000_000_500,
    deadline=1_700_000_600_000,
    reason=CloseReason.AGE,
)
GONE = LaneState(
    need=(30, 0),
    read=44,
    cursor=(9, 0),
    seen=1_699_999_000_000,
    keying=[("device-1", (0, 0))],
    extra={"shade": "blue"},
)


def stored(name: str) -> bytes:
    return (STORED / name).read_bytes()


def test_an_outbox_record_of_version_1_is_read() -> None:
    expected = [((12, 0), batch(1)), ((12, 1), batch(2))]
    assert expected == outbox.decode_record(12, stored("outbox-v1.bin"))


def test_a_base_of_version_1_is_read() -> None:
    state = fold_records([(30, stored("state-base-v1.bin"))], "forwarder", "raw-events")
    assert (7, 60, 16, 30, {"mood": 3}) == (
        state.n,
        state.read,
        state.obend,
        state.base_offset,
        state.extra,
    )
    lane = state.lanes["acme-production"]
    assert ((57, 1), 60, (12, 1), frozenset({(12, 3), (14, 0)})) == (
        lane.need,
        lane.read,
        lane.cursor,
        lane.acked,
    )
    assert {bytes(16): (58, 0)} == lane.closed
    assert [HELD] == [states.parse_window(form) for form in lane.held.values()]
    assert [digest(HELD.key)] == list(lane.held)
    assert [("device-1", (0, 0)), ("session-1", (60, 0))] == lane.keying
    assert GONE == state.lanes["gone"]


def test_a_delta_of_version_1_is_read() -> None:
    records = [(30, stored("state-base-v1.bin")), (31, stored("state-delta-v1.bin"))]
    state = fold_records(records, "forwarder", "raw-events")
    lane = state.lanes["acme-production"]
    assert (8, 63, 18) == (state.n, state.read, state.obend)
    assert ((63, 0), 63, (16, 0), frozenset()) == (lane.need, lane.read, lane.cursor, lane.acked)
    assert {bytes(16): (58, 0), bytes(range(16)): (62, 0)} == lane.closed
    assert GONE == state.lanes["gone"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("metadata-v1.json", CommitMetadata(8, 31)),
        ("metadata-v1-outbox.json", CommitMetadata(8, 31, 18)),
        (
            "metadata-v1-paused.json",
            CommitMetadata(8, 31, paused="memory_short", paused_since=1_767_225_600_000),
        ),
    ],
)
def test_commit_metadata_of_version_1_is_read_and_written_alike(
    name: str, said: CommitMetadata
) -> None:
    text = stored(name).decode()
    assert said == decode_metadata(Commit(60, text))
    assert text == encode_metadata(said)


def test_the_examples_of_the_documentation_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    failures, examples = doctest.testfile(
        str(ROOT / "docs" / "formats.md"), module_relative=False, encoding="utf-8"
    )
    assert failures == 0
    assert examples > 5

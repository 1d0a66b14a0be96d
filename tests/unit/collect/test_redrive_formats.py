"""What an operator sends back may be a document in another format than what the topic holds."""

import pytest

from forwarder.collect import redrive
from forwarder.collect.pipeline import Pipeline, ReplayFilter, compile_lanes
from forwarder.config.connection import Connection
from forwarder.config.targets import FileTarget
from forwarder.formats.registry import BUILT_IN
from forwarder.model import Batch, Collected, Partition, Reason, RecordOutcome
from tests import format_senders
from tests.builders import NOW, START, Rec, finished, merged

PAIRS = [*BUILT_IN.documents]
PARTITION = Partition("events", 0)
DEVICE = "0f" * 16


def lane(form: str) -> Connection:
    return Connection("lane", FileTarget("out", format=form))


def batch_of(pair: tuple[str, str]) -> Batch:
    """Return a document of one of the format's uploads."""
    sender = format_senders.SENDERS[pair[0]]
    fed = Pipeline(PARTITION, compile_lanes([lane(pair[1])], pair[0], BUILT_IN))
    record = Rec(0, START, sender.record(sender.event(1)))
    out = merged([fed.collect([record], NOW), *finished(fed)])
    return out.batches[0]


def sent_back(
    batch: Batch, pair: tuple[str, str], named: str = "lane", device: str = DEVICE, read: int = 0
) -> Collected:
    """Return what a topic of the pair's input makes of a batch that was refused."""
    told = [
        (redrive.REASON_HEADER, Reason.REFUSED),
        (redrive.CONNECTION_HEADER, named),
        (redrive.DEVICE_HEADER, device),
        (redrive.TIME_HEADER, "77"),
    ]
    record = Rec(5, START, batch.payload, tuple((k, v.encode()) for k, v in told if v))
    lanes = compile_lanes([lane(pair[1])], pair[0], BUILT_IN)
    fed = Pipeline(PARTITION, lanes, read, replays={"lane": ReplayFilter(read=read)})
    return fed.collect([record], NOW)


@pytest.mark.parametrize("pair", PAIRS, ids=" to ".join)
def test_a_batch_comes_back_byte_for_byte_whatever_the_topic_holds(pair: tuple[str, str]) -> None:
    batch = batch_of(pair)
    out = sent_back(batch, pair)
    (again,) = out.batches
    assert (batch.payload, batch.mpid, batch.count) == (again.payload, again.mpid, again.count)
    assert (bytes.fromhex(DEVICE), 77, NOW) == (again.key, again.record_ms, again.closed_at)
    assert (1, 1, {"lane": 1}) == (out.uploads, out.events, out.accepted)
    assert {RecordOutcome.ROUTED: 1} == out.outcome_records
    assert {RecordOutcome.ROUTED: len(batch.payload)} == out.outcome_bytes
    assert [] == out.dead_letters
    replayed = sent_back(batch, pair, read=6)
    assert [again] == replayed.batches
    assert (0, {}, {"lane": 1}) == (replayed.uploads, replayed.accepted, replayed.taken_over)


@pytest.mark.parametrize("pair", PAIRS, ids=" to ".join)
def test_a_batch_whose_device_nobody_tells_is_sent_all_the_same(pair: tuple[str, str]) -> None:
    one, other = (sent_back(batch_of(pair), pair, device="").batches[0] for _ in range(2))
    assert one == other
    assert 16 == len(one.key)


@pytest.mark.parametrize("pair", PAIRS, ids=" to ".join)
def test_a_batch_of_a_connection_that_is_not_here_stays_the_letter_it_was(
    pair: tuple[str, str],
) -> None:
    """As a letter of another reason it could never come back as the batch it is."""
    batch = batch_of(pair)
    (letter,) = sent_back(batch, pair, named="gone").dead_letters
    assert (Reason.REFUSED, "gone", batch.payload) == (
        letter.reason,
        letter.connection,
        letter.value,
    )
    assert (bytes.fromhex(DEVICE), 77, True) == (letter.device, letter.time, letter.redriven)

"""A saved window some of whose events are in a batch is taken up with the others alone."""

import pytest

from forwarder.model import Gate, Position
from forwarder.stages.shapes import digest
from tests import builders
from tests.builders import START, Rec, connection, encoded, event, upload

EVENTS = tuple(event(n=n) for n in range(4))


@pytest.mark.parametrize(
    ("last", "left"),
    [((-1, 0), [0, 1, 2, 3]), ((5, 0), [1, 2, 3]), ((5, 2), [3]), ((4, 7), [0, 1, 2, 3])],
)
def test_what_a_batch_holds_of_a_piece_is_not_in_a_window_again(
    last: Position, left: list[int]
) -> None:
    saved = builders.pipeline(connection())
    saved.collect([Rec(5, START, encoded(upload(*EVENTS)))], START)
    [held] = builders.saved(saved, 6)

    opened = builders.pipeline(connection(), read=6)
    closed = {digest(held.key): last}
    builders.resume(opened, Gate((6, 0), 6, closed, {}, []), [held])
    found = builders.merged(builders.finished(opened))

    documents = builders.documents(found.batches)
    assert left == [one["data"]["n"] for doc in documents for one in doc["events"]]
    assert [(5, left[0])] == [batch.first for batch in found.batches]

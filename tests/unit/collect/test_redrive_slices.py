"""A re-driven upload whose documents are made in several slices loses nothing between two."""

from itertools import product
from typing import Any

import pytest

from forwarder.collect.keying import BY_DEVICE, BY_SESSION
from forwarder.collect.lane import CollectBounds
from forwarder.collect.pipeline import Pipeline
from forwarder.collect.redrive import CONNECTION_HEADER, REASON_HEADER
from forwarder.collect.replay_filter import ReplayFilter
from forwarder.config.connection import Batching, Connection
from forwarder.model import LOWEST, Collected, Position
from tests import builders, streams
from tests.builders import NOW, START, Json, Rec, connection, encoded, event

SESSIONS = [11, 12, 12, 12, 11, 12, 11]
RECORD = Rec(
    0,
    START,
    encoded({"mpid": 7, "events": [event(session_id=s, n=n) for n, s in enumerate(SESSIONS)]}),
    [(REASON_HEADER, b"event_too_large"), (CONNECTION_HEADER, b"lane")],
)


KEYING = [(BY_SESSION, (0, 0)), (BY_DEVICE, (0, 1))]
"""A lane that was in session mode once: sessions are read, whatever mode it is in today."""


def lane_of(mode: dict[str, Any]) -> Connection:
    """Return a connection of a mode, whose documents have two events at most."""
    return connection(batching=Batching(max_events=2), **mode)


class Life:
    """What is committed of one record, over several openings."""

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.closed: dict[bytes, Position] = {}
        self.need = LOWEST

    def live(self, chosen: Connection, slices: int) -> Pipeline:
        """Open, collect the record and commit up to so many slices; what comes then is lost."""
        pipeline = builders.pipeline(
            chosen,
            read=1,
            replay=ReplayFilter(self.need, 1, self.closed, keying=KEYING),
            bounds=CollectBounds(encoded_bytes=1),
        )
        self._commit(pipeline, pipeline.collect([RECORD], NOW))
        for _ in range(slices):
            self._commit(pipeline, pipeline.expire(0, 0, NOW))
        return pipeline

    def _commit(self, pipeline: Pipeline, out: Collected) -> None:
        documents = builders.documents(out.batches)
        self.sent += [one["data"]["n"] for doc in documents for one in doc["events"]]
        for closing in out.closings:
            known = self.closed.get(closing.window_key, LOWEST)
            self.closed[closing.window_key] = max(known, closing.last)
        self.need = max(self.need, pipeline.unsaved().get("lane") or (1, 0))


@pytest.mark.parametrize(("first", "then"), list(product(streams.MODES, streams.MODES)))
@pytest.mark.parametrize("slices", range(4))
def test_a_crash_between_two_slices_loses_and_repeats_nothing(
    first: dict[str, Any], then: dict[str, Any], slices: int
) -> None:
    life = Life()
    life.live(lane_of(first), slices)
    life.live(lane_of(then), 1)
    again = life.live(lane_of(first), 10)
    assert not again.has_pending_documents
    assert list(range(len(SESSIONS))) == sorted(life.sent)


@pytest.mark.parametrize("mode", streams.MODES)
@pytest.mark.parametrize("events", [[], [event("screen_view", session_id=7)]])
def test_what_is_sent_back_without_events_becomes_one_document(
    mode: dict[str, Any], events: list[Json]
) -> None:
    content = encoded({"mp_deviceid": "d", "events": events, "user_attributes": {"a": 1}})
    sent_back = Rec(0, START, content, [(REASON_HEADER, b"not_encodable")])
    kept: dict[str, Any] = {"send_batches_without_events": True, "send_screen_views": False}
    chosen = connection(**kept, **mode)

    first = builders.pipeline(chosen).collect([sent_back], NOW)
    closed = {one.window_key: one.last for one in first.closings}
    again = builders.pipeline(chosen, read=1, replay=ReplayFilter((0, 0), 1, closed, {}, []))

    assert (1, 0) == (len(first.batches), len(again.collect([sent_back], NOW).batches))

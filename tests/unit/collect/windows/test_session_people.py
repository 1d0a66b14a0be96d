"""Sessions that several people of one device share outlive crashes as they would have without."""

from itertools import product
from typing import Any

import pytest

from forwarder.collect.pipeline import Pipeline
from forwarder.collect.replay_filter import ReplayFilter
from forwarder.collect.windows.sessions import MAX_USERS_PROLONGED
from forwarder.config.connection import Batching
from forwarder.formats.ids import digest
from tests import builders
from tests.builders import NOW, START, Rec, connection, encoded, event

SILENCE = 30_000
BATCHING = Batching(session_timeout_ms=SILENCE, session_grace_ms=3_000, session_max_ms=180_000)
LAST = 50_265
"""When the last of them was heard of, in milliseconds after the start."""


def told(offset: int, at: int, who: str, *kinds: str) -> Rec:
    """Return an upload of one of two people who share a device and a session."""
    events = [event(kind, session_id=11) for kind in kinds]
    content = {"mp_deviceid": "d-6", "mpid": 0, "user_identities": {"email": who}}
    return Rec(offset, START + at, encoded(content | {"events": events}))


RECORDS = (
    told(0, 14_169, "a", "session_start", "custom_event"),
    told(1, 23_466, "b", "custom_event"),
    told(2, 39_567, "a"),
    told(3, LAST, "a", "custom_event"),
)


def begun(read: int, **found: Any) -> Pipeline:  # noqa: ANN401  # as ``pipeline`` takes it
    """Return a pipeline as an opening begins it."""
    lane = connection(batching=BATCHING, wait_for_complete_batch=True)
    return builders.pipeline(lane, read=read, **found)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize(("first", "below"), list(product(range(5), range(5))))
def test_no_crash_ends_a_session_early_whoever_of_a_device_was_heard_of_last(
    first: int, below: int, *, again: bool
) -> None:
    for then, below_then in product(range(first, 5), range(5)):
        fed = begun(0)
        fed.collect(RECORDS[:first], NOW)
        held = builders.saved(fed, below)
        if again:
            fed.collect(RECORDS[first:then], NOW)
            held = builders.saved(fed, below_then)
        need, read = fed.unsaved().get("lane"), then if again else first
        settled = {digest(one.key): one.to for one in held}
        start = (read, 0) if need is None else need
        replay = ReplayFilter(start, read, saved=settled)
        opened = begun(read, replay=replay, held=held)

        found = opened.collect(RECORDS[start[0] :], NOW)
        assert [] == found.closings
        assert [] == opened.expire(START + LAST + SILENCE - 1, 100).closings
        assert 2 == len(opened.expire(START + LAST + SILENCE, 100).closings)


@pytest.mark.parametrize(
    ("people", "left"), [(MAX_USERS_PROLONGED, MAX_USERS_PROLONGED), (MAX_USERS_PROLONGED + 1, 1)]
)
def test_a_session_that_too_many_share_goes_on_for_whoever_sends(people: int, left: int) -> None:
    fed = begun(0)
    fed.collect([told(n, n, f"u{n}", "custom_event") for n in range(people)], NOW)
    later = fed.collect([told(people, SILENCE - 1, "u0", "custom_event")], NOW)
    over = fed.expire(START + 2 * SILENCE - 2, 100)
    assert (people - left, left) == (len([*later.closings, *over.closings]), fed.open_windows())

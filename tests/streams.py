"""Hypothesis strategies for streams of records, small enough to collide often."""

from typing import Any

from hypothesis import strategies as st

from forwarder.config.connection import Batching
from tests.builders import START, Json, Rec, encoded, event, upload

_KINDS = ["custom_event", "screen_view", "session_start", "session_end", "profile", "new_kind"]
_SESSIONS = [None, None, "s1", "s2", "S3", 7]
_NUMBERS = [7, "7", 0, -1, "", None]
_PEOPLE = [
    None,
    None,
    {"email": "a", "other": "null"},
    {"email": "b"},
    [{"identity_type": "email", "identity": "a"}],
]
NO_ID = "00000000-0000-0000-0000-000000000000"


@st.composite
def events(draw: st.DrawFn) -> Json:
    """Draw an event of some type, perhaps of a session, perhaps with a location."""
    session = draw(st.sampled_from(_SESSIONS))
    fields: dict[str, Any] = {"n": draw(st.integers(0, 99))}
    if session is not None:
        fields["session_uuid" if isinstance(session, str) else "session_id"] = session
        if draw(st.integers(0, 3)) == 0:
            fields["session_id"] = draw(st.sampled_from(_NUMBERS))
    if draw(st.booleans()):
        fields["location"] = {"latitude": 1.0}
    return event(draw(st.sampled_from(_KINDS)), **fields)


@st.composite
def uploads(draw: st.DrawFn) -> object:
    """Draw an upload, now and then two in an array, a tombstone or rubbish."""
    rare = draw(st.integers(0, 30))
    if rare == 0:
        return draw(st.sampled_from([None, b"{", b"5", b"[]", {"events": [3], "mpid": 1}]))
    device = draw(st.sampled_from(["a", "a", "b", "", NO_ID]))
    content = upload(*draw(st.lists(events(), max_size=4)), device=device)
    if device and draw(st.booleans()):
        content["user_identities"] = draw(st.sampled_from(_PEOPLE))
        content["mpid"] = draw(st.sampled_from([None, 0, 5]))
        content["device_info"] = {"amp_id": "unknown", "ios_advertising_id": NO_ID}
    if draw(st.booleans()):
        content["system_notifications"] = [draw(st.integers(0, 9))]
    return [content, upload(draw(events()), device="b")] if rare == 1 else content


@st.composite
def streams(draw: st.DrawFn, most: int = 25) -> list[Rec]:
    """Draw records whose time mostly goes on, sometimes back, sometimes far ahead."""
    drawn, time = [], START
    for i, one in enumerate(draw(st.lists(uploads(), min_size=1, max_size=most))):
        time += draw(st.sampled_from([0, 1, 999, 1000, 5000, 30_000, -2500, 400_000]))
        drawn.append(Rec(2 * i, time, None if one is None else encoded(one)))
    return drawn


BATCHINGS = st.builds(
    Batching,
    max_age_ms=st.sampled_from([1, 1000, 10_000, 600_000]),
    max_events=st.integers(1, 5),
    session_timeout_ms=st.sampled_from([1000, 60_000]),
    session_grace_ms=st.sampled_from([0, 500, 5000]),
    session_max_ms=st.sampled_from([2000, 100_000]),
)

MODES: list[dict[str, bool]] = [
    {},
    {"send_as_batch": False},
    {"wait_for_complete_batch": True},
]
"""Settings of the three batch modes."""


def cut(drawn: list[Rec], sizes: list[int]) -> list[list[Rec]]:
    """Cut records into polls of these sizes, in turn; a size of 0 is an empty poll."""
    polls, at = [], 0
    for size in sizes:
        polls.append(drawn[at : at + size])
        at += size
    return [*polls, drawn[at:]]

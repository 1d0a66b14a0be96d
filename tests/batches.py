"""Batches, lanes and held windows made by hand, for tests of what comes after the pipeline."""

from forwarder.formats import ids
from forwarder.journal.state import LaneState
from forwarder.model import Address, Batch, CloseReason, HeldWindow, Position

GROUP = "forwarder"
TOPIC = "raw-events"


def batch(  # noqa: PLR0913  # what tests vary
    ident: str,
    *,
    lane: str = "acme",
    key: str = "device",
    first: Position = (0, 0),
    last: Position | None = None,
    closed_at: int = 1_000,
    payload: bytes = b"{}",
) -> Batch:
    """Return a batch of one lane and device key."""
    return Batch(
        lane=lane,
        id=ident,
        key=digest(key),
        window_key=digest(key),
        first=first,
        last=last or first,
        count=1,
        closed_at=closed_at,
        record_ms=900,
        mpid="42",
        reason=CloseReason.AGE,
        payload=payload,
    )


def digest(key: str) -> bytes:
    """Return the 16 bytes of a key given as text."""
    return ids.digest(key.encode())


def held(key: str, *offsets: int, to: Position | None = None) -> HeldWindow:
    """Return the saved part of a window with one event at each of ``offsets``."""
    pieces = [(offset, 0, 1, 700, b'{"event_type":"custom_event"}') for offset in offsets]
    return HeldWindow(
        key=key.encode(),
        device=key.encode(),
        session=b"",
        pieces=pieces,
        context=b'{"mpid":42}',
        identities_ms=700,
        newest_ms=700,
        to=to or (offsets[-1], 0),
        opened=700,
        last_activity=700,
        deadline=600_700,
        reason=CloseReason.AGE,
    )


def lane_state(
    need: Position = (0, 0), read: int = 0, cursor: Address = (0, 0), rule: str = "device-1"
) -> LaneState:
    """Return what is stored of a lane that has never closed a window."""
    return LaneState(need=need, read=read, cursor=cursor, keying=[(rule, (0, 0))])

"""What the histories feed: small uploads whose events carry numbers, sessions and oddities."""

from collections.abc import Sequence

import msgspec

from forwarder.model import Position

KINDS = (
    "custom_event",
    "custom_event",
    "custom_event",
    "custom_event",
    "screen_view",
    "screen_view",
    "session_end",
    "session_start",
    "huge",
    "poison",
)
"""``huge`` does not fit into a record of the destination; ``poison`` cannot be changed as the
settings of some lanes ask. Both are custom events with odd content."""

SESSIONS = ("s1", "s1", "s2", "")
GARBAGE = b"{"
PAD = "x" * 1_500

NOTES = (0, 0, 0, 0, 250, 0, 450, 1_300)
"""Bytes of an upload's notifications: two of 450, or a few of 250, leave no room in a record of
the destination, and beside 1,300 nothing fits."""

LARGEST_NOTE = max(NOTES)


SHARED = "d2"
"""The device without an mpid: people take turns on it."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event as it was fed; ``poisoned``: its upload holds a poison event.

    ``owner`` is the device, of a shared one with who had it.
    ``upload`` numbers its upload, ``note`` is how many bytes of notifications that has.
    """

    number: int
    partition: int
    position: Position
    device: str
    owner: str
    session: str
    kind: str
    poisoned: bool
    upload: int
    note: int


def owner(device: str, who: int) -> str:
    """Return who sends, ``who`` telling the people of a shared device apart."""
    return f"{device}#{who}" if device == SHARED else device


def upload(device: str, whose: str, events: Sequence[Event], note: int) -> bytes:
    """Return the bytes of an upload of an owner, with so many bytes of notifications."""
    inner = ",".join(map(_event, events))
    user = '"mpid":7'
    if whose != device:
        user = f'"mpid":0,"user_identities":{{"customer_id":"{whose}"}}'
    noted = f',"system_notifications":[{{"x":"{"y" * note}",{tag(events)}}}]' if note else ""
    return f'{{"events":[{inner}],"mp_deviceid":"{device}",{user}{noted}}}'.encode()


def tag(events: Sequence[Event]) -> str:
    """Return what the notifications of an upload are known by."""
    return f'"of":{events[0].upload if events else -1}'


def record(uploads: Sequence[bytes]) -> bytes:
    """Return the value of a record that holds these uploads."""
    return uploads[0] if len(uploads) == 1 else b"[%b]" % b",".join(uploads)


def _event(event: Event) -> str:
    kind, more = event.kind, ""
    if kind == "huge":
        kind, more = "custom_event", f',"pad":"{PAD}"'
    elif kind == "poison":
        kind, more = "custom_event", ',"location":{"latitude":1},"poison":1'
    session = f',"session_uuid":"{event.session}"' if event.session else ""
    return f'{{"event_type":"{kind}","data":{{"event_id":{event.number}{session}{more}}}}}'

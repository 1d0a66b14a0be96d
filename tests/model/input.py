"""What the histories feed: small uploads whose events carry numbers, sessions and oddities."""

import re
from collections.abc import Sequence

import msgspec

from forwarder.formats import rawjson
from forwarder.formats.contract import EventFilter, Reject, Upload
from forwarder.formats.mparticle.decode import MParticleDecoder
from forwarder.formats.mparticle.format import MParticleInput
from forwarder.model import Partition, Position

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

    ``owner`` is the device, of a shared one with who had it. ``once`` is what it is known by if it
    is sent again, empty: it is not.
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
    once: str = ""


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


class Retries(MParticleDecoder):
    """Reads of each event what it is known by if it is sent again, as clients of other formats say.

    mParticle's own say it of whole uploads.
    """

    def decode(
        self, value: bytes, offset: int, time: int, clock: int, *, framed: bool = False
    ) -> list[Upload] | Reject:
        """Return the uploads, with the identities of their events."""
        found = super().decode(value, offset, time, clock, framed=framed)
        for upload in found if isinstance(found, list) else ():
            events = rawjson.split_values(upload.body) if upload.types else []
            names = [_ONCE.search(bytes(event)) for event in events]
            upload.duplicate_keys = [name.group() if name else b"" for name in names]
        return found


class RetriedInput(MParticleInput):
    """mParticle's uploads whose events say what they are known by if they are sent again."""

    def decoder(
        self,
        partition: Partition,
        filters: Sequence[EventFilter],  # noqa: ARG002  # every lane gets all there is to know
        *,
        sessions: bool,
        duplicates: bool = False,
        matches: bool = False,  # noqa: ARG002  # it is read where somebody asks
    ) -> MParticleDecoder:
        """Return what reads a partition."""
        kind = Retries if duplicates else MParticleDecoder
        made = kind(partition, sessions=sessions, places=True, duplicates=duplicates)
        if duplicates:
            made.scanner = None  # it knows nothing of ``Retries``
        return made


RETRIED = RetriedInput()
_ONCE = re.compile(rb'"once":"[^"]*"')


def _event(event: Event) -> str:
    kind, more = event.kind, ""
    if kind == "huge":
        kind, more = "custom_event", f',"pad":"{PAD}"'
    elif kind == "poison":
        kind, more = "custom_event", ',"location":{"latitude":1},"poison":1'
    more += f',"once":"{event.once}"' if event.once else ""
    session = f',"session_uuid":"{event.session}"' if event.session else ""
    return f'{{"event_type":"{kind}","data":{{"event_id":{event.number}{session}{more}}}}}'

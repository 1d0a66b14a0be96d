"""The seam between formats and everything that is neutral of them.

An input format (``topics[].format``) decodes the records of a topic into uploads; a document format
(``sink.format``) makes documents of what waited in windows. Collecting, rules, journal and delivery
know uploads, pieces, contexts and documents by the types below and nothing of what is inside them.
``registry`` says which formats there are; ``app`` alone gives them to the rest. A new format is one
class for each protocol here, a line in the registry, and ``tests/contract/test_formats.py`` run
on it.

What has to hold of every format:

* **Events are JSON values,** what they come in, and contexts, need not be JSON.
* **Positions are exact.** Event ``i`` of an upload is at (its record's offset, ``start + i``), an
  upload without events takes one place; the uploads of a record stand one after the other.
* **Bytes stay.** An event's bytes are those of the record, unless a setting of the connection, or a
  key that is given twice, has to change them.
* **All is a function of the record.** Keys, types, sessions, ids and documents depend on the
  record, its partition and the connection, on no clock and on nothing that is open: exactly-once
  rests on it.
* **Nothing raises through the loop.** What cannot be read is a ``Reject``.
* **A document fits.** An event of at most ``Frame.room`` bytes, with the context it was framed for,
  makes a document within the limit that the sink states. Where events are rendered
  (``DocumentMaker.render``) that holds of what they become, which is known once it is made.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from forwarder.config.connection import Connection, Settings
from forwarder.config.targets import RecordLimit
from forwarder.formats.ids import BatchIds
from forwarder.model import HeldWindow, Partition, Piece, Reason, Record

MAX_USER_CHARACTERS = 256
"""Characters of a user's id that is stored beside a batch, and may choose its shard."""

UNKNOWN = ""
"""The type of an event that names none, or not with a text."""


class _OwnType(str):
    """A type that no record names, whatever it says: equal to itself alone."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other


DUPLICATE: str = _OwnType("duplicate")
"""The type that an event is given once it is known to have come before. Every filter leaves it out
for the reason ``DUPLICATES``; it begins and ends no session."""

DUPLICATES = "duplicates"
"""The reason for which filters leave it out, beside the settings: the topic's key of this name."""


class ContextShape(msgspec.Struct, frozen=True, gc=False):
    """What there is to know of a context without reading it; one object for equal lists of keys.

    ``keys``: its members, empty where they are too many to be kept with every window. ``plain``: no
    member needs more than "the newest wins" when merged, so that a newer plain context with all
    the keys of an older plain one takes its place as it is. ``dated``: it holds what documents
    date with the record time of the upload it came from (``HeldWindow.identities_ms``).
    """

    keys: frozenset[str]
    plain: bool
    dated: bool


class Upload(msgspec.Struct, gc=False):
    """One decoded upload: one user on one device, 0..n events. A decoder makes it.

    ``offset`` is its record's, ``start`` the index of its first event in the record, ``time``
    its record time and ``clock`` the partition's record clock, both in milliseconds.
    ``device`` is the device key, which orders deliveries; ``owner`` what its windows are keyed by:
    who may share a document. ``environment`` and ``application`` are values that a match compares,
    as JSON strings; ``InputFormat.applications`` has all names of the application. ``types`` and
    ``sessions`` have one entry for each event (sessions are empty unless asked for; ``b""``: of no
    session). ``body`` is the events joined by commas, ``context`` the upload without its events,
    ``shape`` what that is; both may outlive the record.
    ``duplicate_keys``: what each event is known by if it comes again, whatever names it without
    doubt and of any length; ``b""``: it never counts as the same; empty unless asked for.
    ``types`` and ``sessions`` are the upload's own where ``duplicate_keys`` are asked for: who
    finds duplicates changes them; else uploads may share them, as they may share ``governed``.
    ``size``: its bytes of the record. ``keyless``: it does not even say that it has no events.

    ``platform`` and ``api_keys``: what a match compares besides, where the decoder came upon it;
    None: nobody has looked yet, ``InputFormat`` does.

    The format's own, which nobody else reads: ``governed``, the events that an event filter may
    have to change; ``forms`` and ``bodies``, the events as filters have left them, so that lanes
    with equal settings share the work.

    ``piece``: all its events as they came, as one piece; None: it has none.

    Collecting's own: ``name``, the digest of the owner; ``former``, the upload as a former rule
    keys it; ``merged``, the context of a window that it was last held against, and what the two
    make; ``used``: it has no events, and touched a window all the same, or became a document.
    """

    offset: int
    start: int
    time: int
    clock: int
    device: bytes
    owner: bytes
    environment: bytes
    application: bytes
    types: list[str]
    sessions: list[bytes]
    governed: list[int]
    body: bytes
    context: bytes
    shape: ContextShape
    forms: dict[int, list[bytes]] | None = None
    bodies: dict[int, bytes] | None = None
    name: bytes = b""
    former: "Upload | None" = None
    merged: "tuple[bytes, tuple[bytes, ContextShape]] | None" = None
    duplicate_keys: Sequence[bytes] = ()
    size: int = 0
    keyless: bool = False
    used: bool = False
    piece: Piece | None = None
    platform: bytes | None = None
    api_keys: tuple[bytes, ...] | None = None


Kept = tuple[Upload, list[Piece]]
"""What a lane keeps of an upload; no pieces: its context alone."""


class Reject(msgspec.Struct, frozen=True, gc=False):
    """Why a record is no upload; ``error`` is one line that never quotes it."""

    reason: Reason
    error: str


class OddRecord(msgspec.Struct, frozen=True, gc=False):
    """A record of a poll that is not one upload, or that its headers say more of.

    ``index``: which record it is, ``before``: how many of the poll's other uploads came earlier,
    ``clock``: as in ``Upload``. ``found``: what ``decode`` makes of it; None: nobody asked yet.
    """

    index: int
    before: int
    clock: int
    found: list[Upload] | Reject | None


class Scan(msgspec.Struct, gc=False):
    """What a decoder makes of the records of a poll.

    ``uploads``: of all records but the odd ones, one of each, ``size`` told. ``clock``: the
    partition's record clock behind the last record. ``types``: of all their events;
    ``governed``: whether a filter may have to change any of them.
    """

    uploads: list[Upload]
    odd: list[OddRecord]
    clock: int
    types: set[str]
    governed: bool


class Decoder(Protocol):
    """Reads the records of one partition. Caller: its pipeline, poll by poll, in order."""

    def scan(
        self,
        records: Sequence[Record],
        clock: int,
        now_ms: int,
        is_told: Callable[[Sequence[tuple[str, bytes | None]]], bool],
    ) -> Scan:
        """Return the uploads of a poll; ``clock``: the partition's record clock before it.

        The clock of a record is the latest record time so far, but never later than ``now_ms``.
        ``is_told`` is asked of headers whether they make the record an odd one; one without a value
        is odd, too.
        """

    def decode(self, value: bytes, offset: int, time: int, clock: int) -> list[Upload] | Reject:
        """Return the uploads of a record's value, one at least, or why it is none; never raises.

        ``time`` and ``clock`` as in ``Upload``. What it takes is bounded: in memory by a multiple
        of the value's length, whatever the value claims.
        """

    def from_piece(self, piece: Piece, held: HeldWindow) -> Upload:
        """Return a stored piece as an upload again, so that today's event filter can judge it.

        Only ``offset``, ``start``, ``time``, ``device``, ``types``, ``sessions`` and ``body`` are
        those of the upload it was.
        """

    def shape(self, context: bytes) -> ContextShape:
        """Return the shape of a stored context; one object for all that are alike."""


class EventFilter(Protocol):
    """Keeps of every upload the events that one connection's settings want. Caller: its lane.

    ``rule`` names what it keeps and how it changes that: windows saved under the same rule are not
    judged again. ``reasons`` are the settings by which it leaves events out, as they are counted;
    whatever they are, events of the type ``DUPLICATE`` are left out, counted as ``DUPLICATES``.
    ``empty_too``: an upload of which no event is kept is a piece without events, and becomes a
    document all the same.
    """

    rule: str
    reasons: tuple[str, ...]
    empty_too: bool

    def sift(
        self, uploads: Sequence[Upload], filtered: dict[tuple[str, str], int]
    ) -> tuple[list[Kept], list[Upload]]:
        """Return what is kept of each upload, and the uploads that could not be changed.

        Pieces are runs of consecutive events with exact positions. Adds to ``filtered``, by (name
        of the connection, reason), the events that are left out; of an upload that could not be
        changed none.
        """

    def keeps_all(self, upload: Upload) -> bool:
        """Tell whether all events pass and none is changed; False where that is not sure."""

    def passes(self, types: set[str], *, governed: bool) -> bool:
        """Tell whether all events of these types pass, and none is changed.

        ``governed``: whether any of them may have to be. False where that is not sure: then
        ``sift`` is asked.
        """


class FormerRule(NamedTuple):
    """A keying rule that the format had before; windows under its keys are in Kafka (L2).

    ``by_session``: whether it keyed windows by session. ``keyed`` returns an upload as the rule
    keyed it, the same object for all lanes.
    """

    by_session: bool
    keyed: Callable[[Upload], Upload]


class Unlike(NamedTuple):
    """What a value is that is no upload: what is said of it, and how uploads are made of it."""

    what: str
    remedy: str = ""


class InputFormat(Protocol):
    """What the records of a topic hold; stateless, shared by all partitions.

    ``session_start`` and ``session_end`` are the types of the events that begin and end a session.
    ``former_rules``: by stored name, the keying rules before today's.
    """

    name: str
    session_start: str
    session_end: str
    former_rules: Mapping[str, FormerRule]

    def decoder(
        self,
        partition: Partition,
        filters: Sequence[EventFilter],
        *,
        sessions: bool,
        duplicates: bool = False,
        matches: bool = False,
    ) -> Decoder:
        """Return what reads a partition, for lanes with these filters.

        ``sessions``: whether somebody needs the names of sessions; ``duplicates``: whether what
        comes again is looked for, which needs ``Upload.duplicate_keys``; ``matches``: whether a
        match compares more than environment and application, which uploads may tell at once.
        """

    def event_filter(self, connection: str, settings: Settings) -> EventFilter:
        """Compile the filter of the connection of this name."""

    def merge(self, old: bytes, new: bytes) -> tuple[bytes, ContextShape]:
        """Return the context of what came so far (``old``) and of the upload that joins it.

        Uploads are merged in the order in which they came. The result is no longer than both
        together; the shape is that of the result.
        """

    def shape(self, context: bytes) -> ContextShape:
        """Return the shape of a context."""

    def upload(self, events: bytes, context: bytes, *, keyless: bool = False) -> bytes:
        """Return an upload of these comma-joined events and a context, as a dead letter keeps it.

        A decoder reads the same types, sessions and bodies in it. ``keyless``: it came without
        events, and did not even say so.
        """

    def applications(self, upload: Upload) -> tuple[bytes, ...]:
        """Return the names of the application that a match compares, as JSON strings; one at least.

        The first is ``Upload.application``.
        """

    def platform(self, upload: Upload) -> bytes:
        """Return the platform that a match compares, as a JSON string; ``b'""'``: none is told."""

    def api_keys(self, upload: Upload) -> tuple[bytes, ...]:
        """Return the keys of the app that a match compares, as JSON values."""

    def record_time(self, value: bytes) -> int | None:
        """Return the time that an upload in a file gives itself, in milliseconds; None: none."""

    def unlike(self, value: bytes) -> Unlike | None:
        """Say what a value is that is no upload; None where it may be one.

        Raises ``rawjson.ShapeError`` for what is JSON and cannot be an upload, ValueError or
        RecursionError for what is no JSON.
        """


class Frame(msgspec.Struct, frozen=True, gc=False):
    """What the documents of one context have in common.

    ``user`` is the id of its user as text, by which a sink may choose the shard; empty: none can,
    or it is longer than ``MAX_USER_CHARACTERS``. ``tail`` is the maker's own. ``size``: the bytes
    of a document without events, ``limit``: how many any may have.
    """

    user: str
    tail: bytes
    size: int
    limit: int

    @property
    def room(self) -> int:
        """Return how many bytes of events fit, commas included; below 0: not even none."""
        return self.limit - self.size


class Recognized(NamedTuple):
    """A document that was made before, as it is read back: its id, its user (see ``Frame``).

    And how many ``events`` it holds.
    """

    id: str
    user: str
    events: int


AS_RENDERED = "as rendered"
"""A document is its only event as it was rendered, and nothing else (``DocumentMaker.native``)."""


class DocumentMaker(Protocol):
    """Makes the documents of one connection. Callers: the encoder, and who judges what will fit.

    ``version`` is part of every id: it changes whenever the same events would give other bytes.
    ``least``: how many bytes any document may have, whatever its context. A
    context of at most ``small_context_bytes`` takes less than half of it, and each event of an
    upload with at most ``small_events_bytes`` of events fits into the other half: most uploads need
    no other look.
    """

    version: bytes
    least: int
    small_context_bytes: int
    small_events_bytes: int

    @property
    def native(self) -> object | None:
        """What a native encoder makes documents by; None: it leaves them to Python.

        The maker's native twin. Of one that renders: the twin of the maker whose documents its own
        are laid out like, with a tail that ``frame`` has written, or ``AS_RENDERED``.
        """

    @property
    def render(self) -> Callable[[Frame, bytes], bytes] | None:
        """Return what makes of one event, as it waited, what stands in a document of this frame.

        None: events stand there as they waited. It raises what an odd event raises, which becomes
        a dead letter of its own, as does one that has become too large.
        """

    def frame(self, context: bytes, dated_ms: int, newest_ms: int) -> Frame:
        """Return what documents have besides events and ids; raises what an odd context raises.

        ``newest_ms``: record time of the newest upload, ``dated_ms``: of the one that the dated
        part of the context came from (``ContextShape.dated``).
        """

    def document(self, frame: Frame, events: bytes, ids: BatchIds) -> bytes:
        """Return a document of these comma-joined events: ``frame.size`` and ``events`` long.

        They are as they waited, or as ``render`` made them.
        """

    def prune(self, context: bytes, most: int) -> bytes:
        """Return a context without what is large and in no document; the same object if it is all.

        Beyond ``most`` bytes all goes that documents leave out.
        """

    def recognize(self, value: bytes) -> Recognized | None:
        """Return what a document made here before says of itself; None: it is none."""


DocumentFormat = Callable[[Connection, RecordLimit], DocumentMaker]
"""Compiles the maker of a connection's documents."""


class Formats(msgspec.Struct, frozen=True):
    """The formats there are.

    ``inputs`` by name (``topics[].format``); ``documents`` by (input format, ``sink.format``): how
    documents of one are made of uploads of the other.
    """

    inputs: Mapping[str, InputFormat]
    documents: Mapping[tuple[str, str], DocumentFormat]

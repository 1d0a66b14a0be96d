"""The words of the program as types; see docs/architecture.md for what each one means."""

from collections.abc import Mapping, Sequence
from enum import Enum, StrEnum
from typing import NamedTuple, Protocol, Self, TypeVar

import msgspec

K = TypeVar("K")

Position = tuple[int, int]
"""(offset of the record, index of the event in it); tuples compare in stream order."""

Address = tuple[int, int]
"""(offset in the outbox, index of the batch in that record)."""

LOWEST: Position = (-1, -1)
"""Below every position and every address."""


class Partition(msgspec.Struct, frozen=True, gc=False, order=True):
    """One partition of one input topic; the unit of ownership."""

    topic: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.number}"


class DuplicateWindow(NamedTuple):
    """How far apart two records may be for one to hold duplicates of the other, in milliseconds.

    0: none are looked for. It holds from the offset ``start`` on.
    """

    window_ms: int
    start: int


class LogEnds(NamedTuple):
    """Where a partition ends: for ``read_committed``, and with what is not committed yet.

    Below ``stable`` (the last stable offset) every transaction has ended; below ``high`` (the high
    watermark) is everything that was accepted.
    """

    stable: int
    high: int


class LogBounds(NamedTuple):
    """Log start and read_committed end (last stable offset) of one partition."""

    start: int
    end: int


class Commit(NamedTuple):
    """A group's committed offset of one partition, and the metadata as it is stored with it."""

    offset: int
    metadata: str


class OpenTransaction(msgspec.Struct, frozen=True):
    """The oldest transaction open in a partition, as far as Kafka tells.

    ``transactional_id`` is empty where Kafka does not say it: the principal may not describe it,
    or its coordinator did not answer. ``since_ms``: wall clock of its begin, ``timeout_ms``: after
    how long Kafka aborts it, ``wrote_ms``: wall clock of the producer's last record; 0: not told.
    """

    producer_id: int
    since_ms: int = 0
    transactional_id: str = ""
    timeout_ms: int = 0
    wrote_ms: int = 0


class Record(Protocol):
    """What a source hands over: one message of the input topic.

    The native core's ``Record`` and those that aiokafka's compiled reader makes fit as they are, so
    that nothing is wrapped on the hot path.
    """

    @property
    def offset(self) -> int:
        """Where the record is in its partition."""

    @property
    def timestamp(self) -> int:
        """Record time in milliseconds since the epoch; -1: it has none."""

    @property
    def value(self) -> bytes | None:
        """The bytes of the upload; None for a tombstone."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]:
        """What came with it; hardly ever anything."""


class CloseReason(StrEnum):
    """Why a window was closed."""

    AGE = "age"
    SESSION_END = "session_end"
    SESSION_TIMEOUT = "session_timeout"
    SIZE = "size"
    MEMORY = "memory"
    SINGLE = "single"
    END = "end"
    REDRIVEN = "redriven"


class Reason(StrEnum):
    """Why something became a dead letter: the bounded set of values of the header and the label."""

    INVALID_JSON = "invalid_json"
    INVALID_UTF8 = "invalid_utf8"
    NOT_AN_UPLOAD = "not_an_upload"
    TOO_MANY_PARTS = "too_many_parts"
    EVENT_TOO_LARGE = "event_too_large"
    NOT_ENCODABLE = "not_encodable"
    TOO_LARGE_UNPACKED = "too_large_unpacked"
    UNREADABLE_BATCH = "unreadable_batch"
    REFUSED = "refused_by_sink"


class Sealed(bytes):
    """A batch of records as Kafka stores it, where a record's value would be: nobody unpacks it.

    ``first`` is the offset of the first record in it that nobody has read, the record's own that
    of the last. ``error`` says why in one line.
    """

    reason: Reason
    error: str
    first: int

    def __new__(cls, content: bytes, reason: Reason, error: str, first: int) -> Self:
        """Take the bytes, and what is known of them."""
        sealed = super().__new__(cls, content)
        sealed.reason, sealed.error, sealed.first = reason, error, first
        return sealed


class RecordOutcome(StrEnum):
    """Where a record went, and each of its bytes: every one went one way."""

    ROUTED = "routed"
    """To a connection, at least one; its settings decide about each event."""
    UNMATCHED = "unmatched"
    CONTEXT_ONLY = "context_only"
    """An upload without events: what it tells of the user may join a window."""
    REJECTED = "rejected"
    TOMBSTONE = "tombstone"
    DUPLICATE = "duplicate"
    """An upload of which every event had come before, on a topic that looks for duplicates."""


class Unused(StrEnum):
    """What an upload without events had instead of them, when it came to nothing."""

    MISSING = "events_missing"
    EMPTY = "events_empty"


class ReleaseCause(StrEnum):
    """Why an opening ended that events waited in."""

    MOVED = "moved"
    FAILED = "failed"


STATUS = "status"
"""The setting by which an inactive connection leaves events out: ``status: inactive``."""


class Batch(msgspec.Struct, frozen=True, gc=False):
    """A closed window (or a part of one), encoded and immutable.

    ``key`` is the 16-byte digest of the device key (one put in flight per key), ``window_key``
    that of the key the window was opened under, which in session mode includes the session.
    ``closed_at`` is wall-clock time, ``record_ms`` the record time of the newest upload in it.
    ``mpid`` is its plain text, empty where there is none.
    """

    lane: str
    id: str
    key: bytes
    window_key: bytes
    first: Position
    last: Position
    count: int
    closed_at: int
    record_ms: int
    mpid: str
    reason: CloseReason
    payload: bytes


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """A record, event or batch that cannot be processed: its bytes and where they came from.

    ``connection`` is empty for a record that no connection could have used.
    ``error`` is one line for a person; it never quotes the value. ``time`` is the record time of
    what it holds (0: not known), ``device`` of a batch its ``key``; ``redriven``: it was one
    before and has failed again. ``events`` is how many it holds; 0 of a record that could not be
    read. ``first`` is the offset of the first record of a batch of them, -1 of anything else.
    """

    reason: Reason
    offset: int
    connection: str
    error: str
    value: bytes
    time: int = 0
    device: bytes = b""
    redriven: bool = False
    events: int = 0
    first: int = -1


Piece = tuple[int, int, int, int, bytes]
"""A run of consecutive events of one record as they wait in a window.

(record offset, index of the first, how many, record time in ms, their JSON joined by commas).
An upload without events that a lane accepts is a piece of its own with 0 events and no bytes.
"""


class HeldWindow(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=False):
    """The stored form of an open window's saved part, and what its closing depends on.

    ``key`` is the whole window key, ``device`` the whole device key, ``session`` the raw session
    name (empty: none). ``context`` is a JSON object: the upload without its events, merged.
    ``identities_ms`` is the record time of the upload that ``user_identities`` came from,
    ``newest_ms`` that of the newest upload. ``to`` is the last position ever saved, also if a
    filter has emptied the window since. ``opened``, ``last_activity`` and ``deadline`` are
    milliseconds on the partition's record clock.
    """

    key: bytes
    device: bytes
    session: bytes
    pieces: list[Piece]
    context: bytes
    identities_ms: int
    newest_ms: int
    to: Position
    opened: int
    last_activity: int
    deadline: int
    reason: CloseReason


class PieceSummary(msgspec.Struct, frozen=True, gc=False):
    """What is known of stored pieces without decoding them: how many, of how many events.

    ``bytes`` are those of the events, ``last`` is the position of the last one.
    """

    pieces: int
    events: int
    bytes: int
    last: Position


class PackedWindow(HeldWindow, frozen=True, gc=False):
    """A saved window whose pieces need no filtering and stay encoded.

    ``pieces`` is empty, ``packed`` the pieces as they are stored, in msgpack.
    """

    packed: bytes
    judged: PieceSummary


class Closing(msgspec.Struct, frozen=True, gc=False):
    """One window that closed, whatever became of it: batches, dead letters, or both."""

    lane: str
    window_key: bytes
    last: Position


class Collected(msgspec.Struct):
    """What a poll or an expiry brought about; the journal gets it all in one tick.

    What counts the input counts each offset once, from the opening's ``read`` on: ``records``
    and their ``bytes``, and both by where they went (``outcome_records``, ``outcome_bytes``);
    ``uploads`` and their ``events``, ``duplicates`` among these, ``tombstones``, ``unmatched``
    uploads; ``unused`` uploads without events that touched no window, and ``idle`` records of
    nothing else that have no key ``events``. ``replayed`` are the records below ``read``.

    In events and by lane, from the lane's own ``read`` on: ``routed`` = ``accepted`` +
    ``filtered``, the last by (lane, setting). Below it: ``taken_over`` into windows again, or
    ``settled`` before. ``closed`` counts windows by (lane, reason), ``missed`` by (lane, part of
    its match, value) why uploads matched no lane, if that was asked for.
    ``encoded``: bytes of the documents made of windows.
    """

    batches: list[Batch] = msgspec.field(default_factory=list)
    closings: list[Closing] = msgspec.field(default_factory=list)
    dead_letters: list[DeadLetter] = msgspec.field(default_factory=list)
    records: int = 0
    bytes: int = 0
    replayed: int = 0
    uploads: int = 0
    events: int = 0
    duplicates: int = 0
    tombstones: int = 0
    unmatched: int = 0
    idle: int = 0
    outcome_records: dict[RecordOutcome, int] = msgspec.field(default_factory=dict)
    outcome_bytes: dict[RecordOutcome, int] = msgspec.field(default_factory=dict)
    unused: dict[Unused, int] = msgspec.field(default_factory=dict)
    routed: dict[str, int] = msgspec.field(default_factory=dict)
    accepted: dict[str, int] = msgspec.field(default_factory=dict)
    filtered: dict[tuple[str, str], int] = msgspec.field(default_factory=dict)
    taken_over: dict[str, int] = msgspec.field(default_factory=dict)
    settled: dict[str, int] = msgspec.field(default_factory=dict)
    closed: dict[tuple[str, CloseReason], int] = msgspec.field(default_factory=dict)
    encoded: int = 0
    missed: dict[tuple[str, str, str], int] = msgspec.field(default_factory=dict)


class Released(msgspec.Struct, frozen=True):
    """What waited in an opening when it ended: whoever opens the partition next finds it again.

    ``events`` that were accepted or taken over, by lane; ``records`` and ``bytes`` that were
    collected and not committed, so that they are read again; ``failed``: the journal ended it.
    """

    events: Mapping[str, int]
    records: int
    bytes: int
    failed: bool

    @property
    def cause(self) -> ReleaseCause:
        """Return why the opening ended."""
        return ReleaseCause.FAILED if self.failed else ReleaseCause.MOVED


def add_count(counts: dict[K, int], key: K, count: int) -> None:
    """Add ``count`` to the count of ``key``; 0 makes no entry."""
    if count:
        counts[key] = counts.get(key, 0) + count


class OutcomeKind(Enum):
    """The answer for one batch."""

    DELIVERED = "delivered"
    """Stored by the destination: the batch is acknowledged."""
    THROTTLED = "throttled"
    """Not stored, the destination asks for less: resend after a backoff."""
    TRANSIENT = "transient"
    """Failed or unanswered, perhaps stored: resend the same bytes after a backoff."""
    CONFIGURATION = "configuration"
    """Cannot succeed until somebody acts: pause the lane, keep the batch, probe every 5 to 60 s."""
    REFUSED = "refused"
    """This batch alone was refused for good, sent on its own: a dead letter *if* the lane
    delivered another batch since its first refusal, else treat it as CONFIGURATION."""


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """One answer; ``code`` is the bounded error code for metrics, ``error`` one line for people.

    Where somebody has to act, ``error`` ends with ``remedy``. ``shard``: where the destination
    keeps the batch's key, if it said so. None may hold a secret or any part of a payload.
    """

    kind: OutcomeKind
    code: str = ""
    error: str = ""
    shard: str = ""
    remedy: str = ""


DELIVERED = Outcome(OutcomeKind.DELIVERED)

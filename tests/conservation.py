"""The oracle of conservation: is everything that was sent there, once, unaltered and in order.

It shares no code with the program: documents and stored records are read here anew. What has to
arrive is told by the caller (``Wanted``), event by event; an event is known again by its id.
"""

import json
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec
import zstandard

from tests.oracle import exact


class Wanted(NamedTuple):
    """An event that a lane has to forward; ``group`` names the window it may share.

    Device key in batch mode, device key and session in session mode. ``row`` names the events it
    must not overtake, if they are others than those of the group. ``event`` is its ``mark``. An
    optional event may be missing: nothing says whether the lane still, or already, wanted it.
    Wanted events are given in the order of the input, one partition after the other.
    """

    group: Hashable
    id: str
    event: bytes
    row: Hashable = None
    optional: bool = False


class Batch(NamedTuple):
    """A batch of the outbox, under its address (partition, offset, index)."""

    address: tuple[int, int, int]
    lane: str
    id: str
    key: bytes
    events: int
    payload: bytes
    first: tuple[int, int] = (0, 0)
    last: tuple[int, int] = (0, 0)
    closed_at: int = 0
    why: str = ""


class Landed(NamedTuple):
    """A record of a stream: the id of its document, and its bytes' ``digest``."""

    id: str
    digest: bytes


class Letter(NamedTuple):
    """A dead letter; equal ones are repeats."""

    reason: str
    topic: str
    partition: int
    offset: int
    connection: str
    value: bytes


class Lane(NamedTuple):
    """One lane's figures; everything from ``lost`` to ``stream_order`` must be 0.

    ``optional`` counts optional events that are there, ``dropped`` batches that may be missing in
    the stream and are.
    """

    name: str
    events: int
    batches: int
    lost: int
    altered: int
    invented: int
    twice: int
    mixed: int
    order: int
    context: int
    early: int
    missing: int
    stream_altered: int
    stream_invented: int
    stream_order: int
    records: int
    repeats: int
    optional: int
    dropped: int

    @property
    def faults(self) -> int:
        """Return how many things are wrong."""
        return sum(getattr(self, name) for name in FAULTS)


FIGURES = Lane._fields[1:]
FAULTS = Lane._fields[3:-4]


class Terms(NamedTuple):
    """What else holds for one lane; nothing by default.

    ``explains`` judges the documents; ``due`` tells the earliest time in milliseconds at which a
    batch may have been closed, ``droppable`` whether it need not be in the stream; batches of
    different ``kind`` may overtake each other.
    """

    explains: "Explains | None" = None
    due: Callable[[Batch], int] = lambda _: 0
    droppable: Callable[[Batch], bool] = lambda _: False
    kind: Callable[[Batch], Hashable] = lambda _: None


class Verdict(NamedTuple):
    """What became of everything that was sent."""

    lanes: list[Lane]
    letters: int
    letters_lost: int
    letters_invented: int
    letters_twice: int
    examples: list[str]

    @property
    def faults(self) -> int:
        """Return how many things are wrong."""
        letters = self.letters_lost + self.letters_invented + self.letters_twice
        return letters + sum(lane.faults for lane in self.lanes)

    def text(self) -> str:
        """Return the figures as a table, and the first examples of what is wrong."""
        rows = [("", *(lane.name for lane in self.lanes))]
        rows += [
            (label, *(f"{getattr(x, name):,}" for x in self.lanes))
            for name, label in LABELS.items()
        ]
        rows.append(("repeats, share", *(share(x.repeats, x.records) for x in self.lanes)))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
            for row in rows
        ]
        lines.append(
            f"dead letters: {self.letters:,} (lost {self.letters_lost}, "
            f"invented {self.letters_invented}, twice {self.letters_twice})"
        )
        return "\n".join([*lines, *self.examples])


LABELS = {
    "events": "events wanted",
    "batches": "batches in the outbox",
    "lost": "lost",
    "altered": "altered",
    "invented": "invented",
    "twice": "twice in the outbox",
    "mixed": "batches mixing devices or sessions",
    "order": "out of order in the outbox",
    "context": "documents with another context",
    "early": "closed before their time",
    "missing": "batches missing in the stream",
    "stream_altered": "stream records with other bytes",
    "stream_invented": "stream records not in the outbox",
    "stream_order": "out of order in the stream",
    "records": "records in the stream",
    "repeats": "of them repeats",
    "optional": "optional events that are there",
    "dropped": "batches dropped, as they may be",
}

MOST_EXAMPLES = 3
"""How many of each fault a lane's report shows."""


def share(part: int, whole: int) -> str:
    """Return a share as a percentage."""
    return f"{100 * part / whole:.2f} %" if whole else "-"


def batches(records: Iterable[tuple[int, int, bytes]]) -> list[Batch]:
    """Read outbox records (partition, offset, value) by the description in docs/formats.md."""
    found = []
    for partition, offset, value in records:
        raw = zstandard.ZstdDecompressor().decompressobj().decompress(value)
        stored = msgspec.msgpack.decode(raw)
        for index, batch in enumerate(stored["batches"]):
            address = (partition, offset, index)
            found.append(
                Batch(
                    address,
                    stored["lane"],
                    batch["id"],
                    batch["key"],
                    batch["n"],
                    batch["payload"],
                    tuple(batch["F"]),
                    tuple(batch["L"]),
                    batch["closed_at"],
                    batch["why"],
                )
            )
    return sorted(found)


def mark(event: object) -> bytes:
    """Return what two events share if they are the same, number for number as it is spelled."""
    text = json.dumps(event, sort_keys=True, default=lambda number: {"number": number.text})
    return blake2b(text.encode(), digest_size=12).digest()


def digest(payload: bytes) -> bytes:
    """Return what two documents share if they are the same bytes."""
    return blake2b(payload, digest_size=12).digest()


def landed(value: bytes) -> Landed:
    """Return what is kept of a record of a stream."""
    return Landed(str(exact(value).get("message_id")), digest(value))


Explains = Callable[[Sequence[str], Mapping[str, Any]], bool]
"""Tells whether all of a document but its events is what uploads of these event ids give."""


def judge(  # noqa: PLR0913  # one argument for each thing that is compared
    wanted: Mapping[str, Sequence[Wanted]],
    outbox: Sequence[Batch],
    streams: Mapping[str, Sequence[Landed]],
    letters: tuple[Sequence[Letter], Sequence[Letter]],
    *,
    identify: Callable[[Any], str],
    terms: Mapping[str, Terms],
) -> Verdict:
    """Compare what was wanted of each lane with its batches and what is in its stream.

    ``letters`` are the dead letters wanted and those found. ``identify`` returns an event's id.
    """
    events = _Events(identify)
    judges = [_Judge(lane, wanted[lane], events, terms.get(lane, Terms())) for lane in wanted]
    strays = [batch for batch in outbox if batch.lane not in wanted]
    lanes = []
    for judging in judges:
        mine = [batch for batch in outbox if batch.lane == judging.lane]
        lanes.append(judging.judge(mine, streams[judging.lane]))
    examples = [example for judging in judges for example in judging.examples]
    examples += [f"a batch of a lane nobody configured: {b.lane} at {b.address}" for b in strays]
    expected, found = Counter(letters[0]), Counter(letters[1])
    lost, invented = expected.keys() - found.keys(), found.keys() - expected.keys()
    examples += [f"dead letter lost: {letter}"[:300] for letter in sorted(lost)[:3]]
    examples += [f"dead letter invented: {letter}"[:300] for letter in sorted(invented)[:3]]
    return Verdict(
        lanes,
        len(letters[0]),
        len(lost),
        len(invented) + len(strays),
        sum(n - expected[letter] for letter, n in found.items() if n > expected[letter] > 0),
        examples,
    )


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """Return verdicts on different partitions as one."""
    lanes: dict[str, Counter[str]] = {}
    for lane in [lane for verdict in verdicts for lane in verdict.lanes]:
        figures = lanes.setdefault(lane.name, Counter())
        figures.update({name: getattr(lane, name) for name in FIGURES})
    return Verdict(
        [Lane(name, **{f: figures[f] for f in FIGURES}) for name, figures in lanes.items()],
        sum(verdict.letters for verdict in verdicts),
        sum(verdict.letters_lost for verdict in verdicts),
        sum(verdict.letters_invented for verdict in verdicts),
        sum(verdict.letters_twice for verdict in verdicts),
        _few([example for verdict in verdicts for example in verdict.examples]),
    )


def _few(examples: Sequence[str]) -> list[str]:
    """Return the first examples of each kind: what stands before its second colon."""
    kinds: Counter[str] = Counter()
    few = []
    for example in examples:
        kind = ":".join(example.split(":", 2)[:2])
        kinds[kind] += 1
        if kinds[kind] <= MOST_EXAMPLES:
            few.append(example)
    return few


class _Document(msgspec.Struct):
    """A document whose events are left as they are spelled."""

    events: list[msgspec.Raw]
    message_id: str = ""


_document = msgspec.json.Decoder(_Document).decode


class _Events:
    """Reads events, each spelling only once: most are in the documents of many lanes."""

    def __init__(self, identify: Callable[[Any], str]) -> None:
        self._identify = identify
        self._known: dict[bytes, tuple[str, bytes]] = {}

    def of(self, text: bytes) -> tuple[str, bytes]:
        """Return an event's id and its mark."""
        found = self._known.get(text)
        if found is None:
            event = exact(text)
            found = self._known[text] = self._identify(event), mark(event)
        return found


class _Judge:
    """Judges one lane."""

    def __init__(
        self, lane: str, wanted: Sequence[Wanted], events: "_Events", terms: Terms
    ) -> None:
        self.lane = lane
        self.examples: list[str] = []
        self._events = events
        self._terms = terms
        self._wanted = {w.id: (rank, w) for rank, w in enumerate(wanted)}
        # What the input itself holds twice has to come out twice.
        self._copies = Counter(w.id for w in wanted)
        self._seen: Counter[str] = Counter()
        self._last_rank: dict[Hashable, int] = {}
        self._figures: Counter[str] = Counter()

    def judge(self, mine: Sequence[Batch], stream: Sequence[Landed]) -> Lane:
        for batch in mine:
            self._open(batch)
        for name, (_, wanted) in self._wanted.items():
            if wanted.optional:
                self._figures["optional"] += name in self._seen
            elif self._seen[name] < self._copies[name]:
                self._fault("lost", f"event {name}: {wanted}")
        self._stream(mine, stream)
        figures = {name: self._figures[name] for name in FIGURES[2:]}
        surely = sum(not wanted.optional for _, wanted in self._wanted.values())
        return Lane(self.lane, surely, len(mine), **figures)

    def _open(self, batch: Batch) -> None:
        if batch.closed_at < (due := self._terms.due(batch)):
            self._fault("early", f"{batch._replace(payload=b'')}, not before {due}")
        document = _document(batch.payload)
        if document.message_id != batch.id:
            self._fault("altered", f"batch {batch.id} at {batch.address} carries another id")
        groups = set()
        known = []
        for text in document.events:
            name, marked = self._events.of(bytes(text))
            self._seen[name] += 1
            if name not in self._wanted:
                self._fault("invented", f"event {name} in {batch._replace(payload=b'')}")
                continue
            known.append(name)
            rank, wanted = self._wanted[name]
            groups.add(wanted.group)
            self._event(batch, rank, wanted, marked)
        if len(groups) > 1:
            self._fault("mixed", f"batch {batch.id} holds {sorted(map(str, groups))}")
        elif groups and self._terms.explains:
            self._context(batch, known, self._terms.explains)

    def _context(self, batch: Batch, known: Sequence[str], explains: Explains) -> None:
        document = exact(batch.payload)
        if not explains(known, document):
            context = {key: value for key, value in document.items() if key != "events"}
            self._fault("context", f"batch {batch.id}: {context}")

    def _event(self, batch: Batch, rank: int, wanted: Wanted, marked: bytes) -> None:
        if self._seen[wanted.id] > self._copies[wanted.id]:
            self._fault("twice", f"event {wanted.id}, again in {batch._replace(payload=b'')}")
            return
        if marked != wanted.event:
            self._fault("altered", f"event {wanted.id} in {batch.payload!r}")
        row = (wanted.group if wanted.row is None else wanted.row, self._terms.kind(batch))
        if rank < self._last_rank.get(row, -1):
            self._fault("order", f"event {wanted.id} in {batch.id} at {batch.address}")
        self._last_rank[row] = rank

    def _stream(self, mine: Sequence[Batch], stream: Sequence[Landed]) -> None:
        known = {batch.id: (rank, batch, digest(batch.payload)) for rank, batch in enumerate(mine)}
        if len(known) != len(mine):
            self._fault("twice", "two batches of the outbox share an id")
        last: dict[bytes, int] = {}
        seen: set[str] = set()
        for record in stream:
            self._figures["records"] += 1
            if record.id not in known:
                self._fault("stream_invented", f"record {record.id} in the stream")
                continue
            rank, batch, stored = known[record.id]
            if record.digest != stored:
                self._fault("stream_altered", f"record {record.id} in the stream")
            if record.id in seen:
                self._figures["repeats"] += 1
                continue
            seen.add(record.id)
            if rank < last.get(batch.key, -1):
                self._fault("stream_order", f"record {record.id} at {batch.address}")
            last[batch.key] = rank
        for name in known.keys() - seen:
            self._missing(known[name][1])

    def _missing(self, batch: Batch) -> None:
        if self._terms.droppable(batch):
            self._figures["dropped"] += 1
        else:
            self._fault("missing", f"{batch._replace(payload=b'')}")

    def _fault(self, kind: str, example: str) -> None:
        self._figures[kind] += 1
        if self._figures[kind] <= MOST_EXAMPLES:
            self.examples.append(f"{self.lane}: {kind}: {example[:400]}")

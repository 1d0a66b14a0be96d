"""An open window of one lane: its events, what of it a checkpoint has saved, what memory it takes.

A long tail of pieces becomes a compressed block. Nothing but the memory they take tells a block
from its pieces: whoever reads the pieces of a window asks ``all_pieces`` or ``first_pieces``.
"""

import msgspec
import zstandard

from forwarder.collect.windows.packs import Entry, Pack
from forwarder.formats.contract import ContextShape
from forwarder.formats.pieces import last_position, split_to_size
from forwarder.model import LOWEST, CloseReason, HeldWindow, PackedWindow, Piece, Position

MAX_PIECE_BYTES = 1024 * 1024
"""Bytes of a stored piece of more than one event: one alone is never larger than a document."""

# Measured as resident memory (tests/bench/windows.py, CPython 3.11): 20,000 to 1,000,000 windows
# of one event take 1.84 KB each, 1.10 of it events, context and key, in packs 0.83; every further
# event 222 B besides its bytes; a window of a session 0.4 KB more, 1.3 where its device has had
# others; one keyed by identities some 0.3. Up to as many closed ones as are open wait in queues to
# be cleared, 0.3 KB each.
WINDOW_OVERHEAD_BYTES = 600
PIECE_OVERHEAD_BYTES = 225
SESSION_OVERHEAD_BYTES = 400
SESSIONS_OVERHEAD_BYTES = 900
SIBLING_OVERHEAD_BYTES = 300
BLOCK_OVERHEAD_BYTES = 230
SAVED_OVERHEAD_BYTES = 400

LEAST_BYTES = WINDOW_OVERHEAD_BYTES + PIECE_OVERHEAD_BYTES
"""Of a window of its device with one piece: besides its context, its key and its event."""

_compressor = zstandard.ZstdCompressor(level=1, write_checksum=False)
_decompressor = zstandard.ZstdDecompressor()
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Piece]).decode


class Block(msgspec.Struct, frozen=True, gc=False):
    """Consecutive pieces of a window, in msgpack, compressed with zstd.

    ``count`` pieces with ``size`` bytes of events, the last of them at ``last``.
    """

    count: int
    size: int
    last: Position
    packed: bytes

    def pieces(self) -> list[Piece]:
        """Return the pieces again, as they were."""
        return _decode(_decompressor.decompress(self.packed))


class SavedPart(msgspec.Struct, frozen=True, gc=False):
    """What a checkpoint holds of a window: its first pieces, and what else it was by then.

    ``pieces`` is how many, the rest as in ``HeldWindow``. What came later is replayed on top of it.
    ``context`` is None where it stands in the window's pack.
    """

    pieces: int
    context: bytes | None
    identities_ms: int
    newest_ms: int
    to: Position
    last_activity: int
    deadline: int
    reason: CloseReason

    def memory_bytes(self) -> int:
        """Estimate the memory of it, besides the pieces it shares with the window."""
        return SAVED_OVERHEAD_BYTES + len(self.context or b"")


class CheckpointMark(msgspec.Struct, gc=False):
    """Stands for one checkpoint in the windows that it took.

    ``settled``, once the tick that writes it is drawn, makes their pending parts count all at
    once: a million of them one by one would stall the loop.
    """

    settled: bool = False


class PendingPart(msgspec.Struct, gc=False):
    """What becomes the saved part of a window once its checkpoint is settled.

    ``after`` is the first position that changed the window since: then the first unsaved one.
    """

    part: SavedPart
    checkpoint: CheckpointMark
    after: Position | None = None


class RoomSums(msgspec.Struct, gc=False):
    """Of a window that not every upload may join, what is in it, in bytes; see ``fit.RecordFit``.

    * ``event_bytes``: with a comma each, -1: not measured. ``largest_piece``: of any event run.
    * ``received_bytes``: all that joined it, contexts too. ``rescanned_bytes``: what was looked
      through again for what joined it later.
    * ``framed_context``: that was judged last, as it was with an upload. ``frame_bytes``: a
      document of it without events. ``framed_room``: what is left for them.
    """

    event_bytes: int = -1
    largest_piece: int = 0
    received_bytes: int = 0
    rescanned_bytes: int = 0
    framed_context: bytes = b""
    framed_room: int = 0
    frame_bytes: int = 0


class Window(msgspec.Struct, gc=False):
    """An open accumulation for one lane and key. Changed by its store and ``RecordFit`` alone.

    What it shares with its stored form (see ``HeldWindow``): ``key``, ``device``, ``session``,
    ``context``, ``identities_ms``, ``newest_ms``, ``opened``, ``last_activity``, ``deadline``,
    ``reason``.

    * ``count``: its events, in three places, one behind the other: compressed in its ``pack``, at
      this ``place`` of it, and in its ``blocks``, and in the tail, which is nothing, or one piece
      (``only``), or several (``tail``). Most windows of a million have one piece.
    * ``cold``: its context is that of its pack, too: nothing has come since.
    * ``weight``: bytes of memory it is estimated to take; ``look_at``: the weight at which class
      and tail are due for a look.
    * ``slot``: its second in the deadlines, -1: none. ``size_class``: see ``EvictionQueue``.
    * ``first``: position of its first event once known: ask ``first_position``.
    * ``unsaved``: first position that is in no checkpoint. ``touched``: the last one that changed
      it, events or context.
    * ``saved``: the part that a snapshot holds; ``pending``: the part that a checkpoint has taken.
      Once that is settled it counts before ``saved`` and ``unsaved``.
    * ``closed``: queues may still refer to it. ``apart``: each event becomes a document of its own.
    * ``narrow``: not so small that every upload may join; ``sums``: of one that was so.
    """

    key: bytes
    device: bytes
    session: bytes
    context: bytes
    shape: ContextShape
    identities_ms: int
    newest_ms: int
    opened: int
    last_activity: int
    deadline: int
    reason: CloseReason
    count: int = 0
    only: Piece | None = None
    weight: int = 0
    look_at: int = 0
    slot: int = -1
    first: Position | None = None
    unsaved: Position | None = None
    touched: Position = LOWEST
    tail: list[Piece] | None = None
    size_class: int = 0
    blocks: list[Block] | None = None
    saved: SavedPart | None = None
    pending: PendingPart | None = None
    sums: RoomSums | None = None
    pack: Pack | None = None
    place: int = 0
    cold: bool = False
    closed: bool = False
    apart: bool = False
    narrow: bool = False

    # ------------------------------------------------------------------ its pieces

    def append(self, piece: Piece) -> None:
        """Add a piece to the tail. Callers: the stores, who count it."""
        if self.tail is not None:
            self.tail.append(piece)
        elif self.only is None:
            self.only = piece
        else:
            self.tail = [self.only, piece]
            self.only = None

    def keep_only(self, pieces: list[Piece]) -> None:
        """Put these in the place of all its pieces."""
        self.only, self.tail, self.blocks, self.pack = None, pieces, None, None
        self.count = sum([piece[2] for piece in pieces])
        self.weight = self.memory_bytes()

    def tail_pieces(self) -> list[Piece]:
        """Return the pieces that are in no block; not for changing."""
        if self.tail is not None:
            return self.tail
        return [] if self.only is None else [self.only]

    def all_pieces(self) -> list[Piece]:
        """Return all pieces, in order; not for changing."""
        if self.blocks is None and self.pack is None:
            return self.tail_pieces()
        found: list[Piece] = []
        if self.pack is not None:
            found += self.pack.entry(self.place)[1]
        for block in self.blocks or ():
            found += block.pieces()
        return found + self.tail_pieces()

    def first_pieces(self, count: int) -> list[Piece]:
        """Return the first pieces, without reading blocks beyond them."""
        found: list[Piece] = []
        if self.pack is not None:
            found += self.pack.entry(self.place)[1]
        for block in self.blocks or ():
            if len(found) >= count:
                return found[:count]
            found += block.pieces()
        return (found + self.tail_pieces())[:count]

    def piece_count(self) -> int:
        """Return how many pieces it has."""
        packed = 0 if self.pack is None else self.pack.piece_count(self.place)
        blocks = sum([block.count for block in self.blocks or ()])
        return packed + blocks + len(self.tail_pieces())

    def first_position(self) -> Position:
        """Return the position of the first event; it is remembered, for it may be in a block."""
        if self.first is None:
            offset, index, *_ = self.first_pieces(1)[0]
            self.first = offset, index
        return self.first

    @property
    def last(self) -> Position:
        """Return the position of the last event."""
        tail = self.tail_pieces()
        if not tail and self.blocks:
            return self.blocks[-1].last
        return last_position((tail or self.all_pieces())[-1])

    def events_bytes(self) -> int:
        """Return the bytes of all its events as they came, not as they are kept."""
        if self.only is not None:
            size = len(self.only[4])
        else:
            size = sum([len(piece[4]) for piece in self.tail or ()])
        if self.pack is not None:
            size += self.pack.events_bytes(self.place)
        return size if self.blocks is None else size + sum([one.size for one in self.blocks])

    def compress_tail(self) -> int:
        """Make a block of the tail; return by how many bytes the window is lighter now."""
        tail = self.tail_pieces()
        packed = _compressor.compress(_encode(tail))
        size = sum([len(piece[4]) for piece in tail])
        # A copy of its exact size: what the compressor returns is a large buffer that was shrunk.
        block = Block(len(tail), size, last_position(tail[-1]), bytes(memoryview(packed)))
        if self.blocks is None:
            self.blocks = []
        self.blocks.append(block)
        self.only = self.tail = None
        return tail_bytes(tail) - BLOCK_OVERHEAD_BYTES - len(packed)

    def entry(self) -> Entry:
        """Return what of it goes into a pack: what has been in one, and what came since."""
        pieces = self.tail_pieces()
        if self.pack is not None:
            pieces = self.pack.entry(self.place)[1] + pieces
        return self.context, pieces

    def enter(self, pack: Pack, place: int) -> None:
        """Put what it holds into a pack, where its ``entry`` stands at this place.

        What a checkpoint holds is kept only where that is another context.
        """
        saved, pending = self.saved, self.pending
        if saved is not None:
            self.saved = self._moved(saved)
        if pending is not None:
            self.pending = PendingPart(self._moved(pending.part), pending.checkpoint, pending.after)
        self.pack, self.place, self.cold, self.context = pack, place, True, b""
        self.only = self.tail = None

    def _moved(self, part: SavedPart) -> SavedPart:
        """Return a saved part as it is in the next pack."""
        context = part.context
        if context is None and self.pack is not None:
            context = self.pack.entry(self.place)[0]
        if context == self.context:
            context = None
        return msgspec.structs.replace(part, context=context)

    def warm(self) -> None:
        """Read the context again; the pieces stay in the pack."""
        if self.cold and self.pack is not None:
            self.context, self.cold = self.pack.entry(self.place)[0], False

    def unpack(self) -> None:
        """Take what is in the pack out of it: the window has closed, and becomes documents."""
        self.warm()
        if self.blocks is None:
            _, pieces = self.entry()
            self.pack = None
            self.only, self.tail = (pieces[0], None) if len(pieces) == 1 else (None, pieces)
        self.weight = self.memory_bytes()

    def release(self) -> None:
        """Release what a closed window holds; queues may still refer to it.

        Only ``closed`` may be read afterwards.
        """
        self.key = self.device = self.context = b""
        self.only = self.tail = self.unsaved = self.first = None
        self.touched = LOWEST
        if self.blocks or self.saved or self.pending or self.sums or self.pack:
            self.blocks = self.saved = self.pending = self.sums = self.pack = None

    # ------------------------------------------------------------------ its memory, in bytes

    def memory_bytes(self) -> int:
        """Estimate what it takes, never below the bytes it keeps; ``weight`` is that, kept up."""
        return self.least_bytes() + self.further_bytes() + tail_bytes(self.tail_pieces())

    def least_bytes(self) -> int:
        """Estimate what a window takes that has nothing but its context."""
        size = WINDOW_OVERHEAD_BYTES + len(self.context) + len(self.key)
        if self.key is self.device:
            return size
        if is_of_session(self.key, self.session):
            return size + SESSION_OVERHEAD_BYTES + len(self.session)
        return size + SIBLING_OVERHEAD_BYTES + len(self.device)

    def further_bytes(self) -> int:
        """Estimate what only few windows have: blocks and saved parts."""
        size = 0
        if self.blocks is not None:
            size += sum([BLOCK_OVERHEAD_BYTES + len(block.packed) for block in self.blocks])
        if self.saved is not None:
            size += self.saved.memory_bytes()
        if self.pending is not None:
            size += self.pending.part.memory_bytes()
        return size

    def packed_bytes(self) -> int:
        """Estimate its share of a pack."""
        if self.pack is None:
            return 0
        return 2 * self.pack.memory_bytes() // len(self.pack.sizes)

    # ------------------------------------------------------------------ its saved part

    def part_now(self) -> SavedPart:
        """Return all of it as it is, as the part to save."""
        to = self.touched
        if self.only or self.tail or self.blocks or self.pack:
            to = max(to, self.last)
        return SavedPart(
            pieces=self.piece_count(),
            context=None if self.cold else self.context,
            identities_ms=self.identities_ms,
            newest_ms=self.newest_ms,
            to=to,
            last_activity=self.last_activity,
            deadline=self.deadline,
            reason=self.reason,
        )

    def stored(self, part: SavedPart) -> HeldWindow:
        """Return the stored form of a part of it."""
        pieces, context = self.first_pieces(part.pieces), part.context
        if context is None:
            context = b"" if self.pack is None else self.pack.entry(self.place)[0]
        if max([len(piece[4]) for piece in pieces], default=0) > MAX_PIECE_BYTES:
            pieces = [small for piece in pieces for small in split_to_size(piece, MAX_PIECE_BYTES)]
        return HeldWindow(
            key=self.key,
            device=self.device,
            session=self.session,
            pieces=pieces,
            context=context,
            identities_ms=part.identities_ms,
            newest_ms=part.newest_ms,
            to=part.to,
            opened=self.opened,
            last_activity=part.last_activity,
            deadline=part.deadline,
            reason=part.reason,
        )

    def is_settled(self) -> bool:
        """Tell whether the pending part counts as the saved one by now."""
        return self.pending is not None and self.pending.checkpoint.settled

    def is_fresh(self) -> bool:
        """Tell whether it is open and was never saved."""
        return not self.closed and self.saved is None and not self.is_settled()

    def first_unsaved(self) -> Position | None:
        """Return from where on a window that closed is in no checkpoint; None: all of it is."""
        if self.pending is not None and self.pending.checkpoint.settled:
            return self.pending.after
        if self.unsaved is None and self.saved is None:  # of single events: it never was open
            offset, index, *_ = self.tail_pieces()[0]
            return offset, index
        return self.unsaved


def reopened(
    held: HeldWindow, pieces: list[Piece], shape: ContextShape, long_tail: int
) -> tuple[Window, int]:
    """Return an open window made of a stored one with these of its pieces, and a bound of them.

    The bound: no piece of it has more bytes. Caller: ``WindowStore.restore``. The pieces of a
    ``PackedWindow`` are inside it: from ``long_tail`` bytes on they become a block at once.
    """
    count, blocks = sum([piece[2] for piece in pieces]), None
    largest = max([len(piece[4]) for piece in pieces], default=0)
    if isinstance(held, PackedWindow):
        known = held.judged
        count, largest = known.events, known.bytes  # ``largest``: or less
        if known.bytes < long_tail:
            pieces = _decode(held.packed)
        else:
            packed = bytes(memoryview(_compressor.compress(held.packed)))
            pieces, blocks = [], [Block(known.pieces, known.bytes, known.last, packed)]
    device = held.key if held.key == held.device else held.device  # kept once
    window = Window(
        key=held.key,
        device=device,
        session=held.session,
        context=held.context,
        shape=shape,
        identities_ms=held.identities_ms,
        newest_ms=held.newest_ms,
        opened=held.opened,
        last_activity=held.last_activity,
        deadline=held.deadline,
        reason=held.reason,
        count=count,
        touched=held.to,
        blocks=blocks,
    )
    for piece in pieces:
        window.append(piece)
    window.saved = window.part_now()
    return window, largest


def tail_bytes(tail: list[Piece]) -> int:
    """Estimate the memory of pieces that are in no block."""
    return PIECE_OVERHEAD_BYTES * len(tail) + sum([len(piece[4]) for piece in tail])


def session_key(owner: bytes, session: bytes) -> bytes:
    """Return the window key of an owner's session; it never equals an owner or a device key."""
    return b"%b|%b" % (owner, session)


def is_of_session(key: bytes, session: bytes) -> bool:
    """Tell whether a window key is that of a session, perhaps of one without a name."""
    return bool(session) or key.endswith(b"|")

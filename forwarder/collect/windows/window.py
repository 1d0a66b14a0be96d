"""An open window of one lane: what waits in it, and what of it is saved."""

import msgspec

from forwarder.formats.contract import Names
from forwarder.formats.pieces import last_of
from forwarder.model import LOWEST, CloseReason, Piece, Position


class Block(msgspec.Struct, frozen=True, gc=False):
    """Consecutive pieces of a window, compressed; see ``blocks``.

    ``count`` pieces with ``size`` bytes of events, the last of them at ``last``.
    """

    count: int
    size: int
    last: Position
    packed: bytes


class Saved(msgspec.Struct, frozen=True, gc=False):
    """The saved part of a window: its first pieces, and what else it was when it was saved.

    ``pieces`` is how many, the rest as in ``Held``. What came later is replayed on top of it.
    """

    pieces: int
    context: bytes
    identities_ms: int
    newest_ms: int
    to: Position
    last_activity: int
    deadline: int
    reason: CloseReason


class Generation(msgspec.Struct, gc=False):
    """One saving, as the windows it took know it; settled when its base's tick is drawn."""

    settled: bool = False


class Draft(msgspec.Struct, gc=False):
    """What becomes the saved part of a window once ``generation`` is settled.

    ``after`` is the first position that changed the window since: then the first unsaved one.
    """

    saved: Saved
    generation: Generation
    after: Position | None = None


class Window(msgspec.Struct, gc=False):
    """An open accumulation for one lane and key; see ``Held`` for the words it shares.

    Its pieces are those in ``blocks``, then ``pieces``: read them with ``blocks.pieces``.
    ``unsaved`` is the first position that is in no base, ``touched`` the last one that changed
    the window, events or context; a settled ``draft`` counts before ``saved`` and ``unsaved``.
    ``first`` is that of its first event once it was asked for: read it with ``blocks.first``.
    ``slot`` is its place in the deadlines, ``rank`` its size class, ``weight`` the memory it is
    estimated to take; when that has reached ``look``, rank and tail are looked at. ``apart``: each
    of its events becomes a document of its own. ``narrow``: it is not so small that every upload
    may join (see ``fit``); ``filled`` are the bytes of its events with a comma each, ``largest``
    those of its largest piece, ``received`` those of all that joined it, contexts too, once they
    are measured; ``work`` those that were looked through again for what joined it later.
    ``framed`` is the context that was judged last, as it was with
    an upload: ``frame_bytes`` are those of a document without events, ``room`` what is left.
    """

    key: bytes
    device: bytes
    session: bytes
    pieces: list[Piece]
    count: int
    context: bytes
    names: Names
    identities_ms: int
    newest_ms: int
    opened: int
    last_activity: int
    deadline: int
    reason: CloseReason
    slot: int = -1
    rank: int = 0
    weight: int = 0
    look: int = 0
    first: Position | None = None
    unsaved: Position | None = None
    touched: Position = LOWEST
    blocks: list[Block] | None = None
    saved: Saved | None = None
    draft: Draft | None = None
    closed: bool = False
    apart: bool = False
    narrow: bool = False
    filled: int = -1
    largest: int = 0
    received: int = 0
    work: int = 0
    framed: bytes = b""
    room: int = 0
    frame_bytes: int = 0

    @property
    def last(self) -> Position:
        """Return the position of the last event."""
        if self.pieces or not self.blocks:
            return last_of(self.pieces[-1])
        return self.blocks[-1].last

    def hollow(self) -> None:
        """Let go of what it held: rows may keep it for a while after it was closed."""
        self.key = self.device = self.context = self.framed = b""
        self.pieces, self.touched, self.unsaved = _NOTHING, LOWEST, None
        if self.blocks or self.saved or self.draft:
            self.blocks = self.saved = self.draft = None


_NOTHING: list[Piece] = []


def session_key(owner: bytes, session: bytes) -> bytes:
    """Return the window key of an owner's session; it never equals an owner or a device key."""
    return b"%b|%b" % (owner, session)


def is_of_session(key: bytes, session: bytes) -> bool:
    """Tell whether a window key is that of a session, perhaps of one without a name."""
    return bool(session) or key.endswith(b"|")

"""Encode closed windows into batches that fit, each a document of its own."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from forwarder import native
from forwarder.collect.windows.window import Window
from forwarder.config.connection import Connection
from forwarder.formats import rawjson
from forwarder.formats.contract import AS_RENDERED, DocumentMaker, Frame, InputFormat
from forwarder.formats.ids import IdSource, digest
from forwarder.formats.pieces import last_position, split_each
from forwarder.model import (
    Batch,
    Closing,
    Collected,
    DeadLetter,
    Partition,
    Piece,
    Position,
    Reason,
)

MAX_LETTER_BYTES = 8 * 1024 * 1024
"""Bytes of events in one letter of a window, beside its context: it has to be stored, too."""


class EncodeResult(msgspec.Struct, gc=False):
    """What became of a window: documents, letters, up to which event, and what is left of it."""

    batches: list[Batch]
    letters: list[DeadLetter]
    last: Position
    rest: list[Piece]


class Ordinary(NamedTuple):
    """Windows that were encoded in one go.

    ``end``: the first that was not; ``encoded``: bytes of documents; ``lowest``: offset of the
    event that came first of those that are the last of a window.
    """

    end: int
    encoded: int
    lowest: int


class _LeftOut(msgspec.Struct, gc=False):
    """Events that no document can have: too large for one, or not to be rendered."""

    large: list[Piece]
    odd: list[Piece]


class _BatchKeys(msgspec.Struct, frozen=True, gc=False):
    """What the batches of a window have in common besides their frame."""

    window: Window
    key: bytes
    window_key: bytes
    closed_at: int
    frame: Frame


class DocumentEncoder:
    """Encodes the windows of one connection on one partition."""

    def __init__(
        self,
        partition: Partition,
        connection: Connection,
        documents: DocumentMaker,
        form: InputFormat,
    ) -> None:
        """Prepare the documents and ids of one connection on one partition."""
        self._lane = connection.name
        ids = IdSource(partition, connection, documents.version)
        self._derive = ids.derive
        self._frame = documents.frame
        self._document = documents.document
        self._render = documents.render
        self._single = connection.has_one_event_documents
        self._upload = form.upload
        self._native: Any = None
        core, maker = native.core(), documents.native
        if core is not None and maker is not None:
            if documents.render is not None:
                like = None if maker is AS_RENDERED else maker
                maker = core.PythonFrames(documents.frame, documents.render, like)
            args = (self._lane, ids.prefix, maker, self._single, Batch, Closing)
            self._native = core.Encoder(*args)

    def encode_ordinary(
        self, windows: list[Window], start: int, now_ms: int, most: int, out: Collected
    ) -> Ordinary:
        """Make documents of windows from ``start`` on as long as each is one that needs no care.

        That is what the native core can do alone: what it makes of them is in ``out`` as after
        ``encode``, and they are released. Stops as soon as ``most`` bytes are made.
        """
        if self._native is None:
            return Ordinary(start, 0, 0)
        return Ordinary(
            *self._native.encode(
                windows, start, now_ms, most, out.batches, out.closings, out.closed
            )
        )

    def encode(self, window: Window, now_ms: int, most: int) -> EncodeResult:
        """Return a window's documents and the events that cannot be in one; never raises.

        At most about ``most`` bytes of documents, one at least: a context close to the limit is
        repeated for every few events, and would take many times the memory the window did.
        ``now_ms`` becomes ``closed_at``; nothing in a document depends on it.
        """
        pieces = window.all_pieces()
        try:
            return self._encode(self._keys(window, now_ms), pieces, most)
        except Exception as error:  # noqa: BLE001  # one odd window must not stop the others
            text = f"cannot be encoded: {type(error).__name__}"
            letters = self._letters(window, pieces, Reason.NOT_ENCODABLE, text)
            return EncodeResult([], letters, last_position(pieces[-1]), [])

    def _keys(self, window: Window, now_ms: int) -> _BatchKeys:
        frame = self._frame(window.context, window.identities_ms, window.newest_ms)
        key = digest(window.device)
        other = key if window.key == window.device else digest(window.key)
        return _BatchKeys(window, key, other, now_ms, frame)

    def _encode(self, keys: _BatchKeys, pieces: Sequence[Piece], most: int) -> EncodeResult:
        if keys.window.apart or self._single:
            return self._encode_each(keys, pieces, most)
        total = keys.frame.size + sum([len(piece[4]) + 1 for piece in pieces])
        if total - 1 <= keys.frame.limit and (whole := self._whole(keys, pieces)) is not None:
            batch = self._batch(keys, pieces, whole)
            return EncodeResult([batch], [], last_position(pieces[-1]), [])
        return self._encode_split(
            keys, [single for run in pieces for single in split_each(run)], most
        )

    def _whole(self, keys: _BatchKeys, pieces: Sequence[Piece]) -> bytes | None:
        """Return all events as one document has them; None: one is odd, or they are too large."""
        render, frame = self._render, keys.frame
        if render is None:
            return _joined(pieces)
        try:
            events = [
                render(frame, event)
                for piece in pieces
                if piece[2]
                for event in (
                    [piece[4]]
                    if piece[2] == 1
                    else [bytes(one) for one in rawjson.split_values(piece[4])]
                )
            ]
        except Exception:  # noqa: BLE001  # which one it is shows when each is looked at
            return None
        whole = b",".join(events)
        return whole if len(whole) <= frame.room else None

    def _encode_each(self, keys: _BatchKeys, pieces: Sequence[Piece], most: int) -> EncodeResult:
        """Make a document of every event, in order: each fits alone, as it came."""
        batches, made, left_out = list[Batch](), 0, _LeftOut([], [])
        last, rest = last_position(pieces[-1]), list[Piece]()
        for at, run in enumerate(pieces):
            events = split_each(run)
            for number, event in enumerate(events):
                if made >= most:
                    rest = [*events[number:], *pieces[at + 1 :]]
                    last = batches[-1].last
                    return EncodeResult(batches, self._left(keys, left_out), last, rest)
                piece = event if self._render is None else self._rendered(keys, event, left_out)
                if piece is not None:
                    batches.append(self._batch(keys, [piece]))
                    made += len(batches[-1].payload)
        return EncodeResult(batches, self._left(keys, left_out), last, rest)

    def _encode_split(self, keys: _BatchKeys, events: list[Piece], most: int) -> EncodeResult:
        """Split a window into documents that fit, in order.

        An event is too large only as it was rendered, or in a window saved under a larger limit:
        none joins else.
        """
        room, batches, made = keys.frame.room, list[Batch](), 0
        left_out, group, left, comma = _LeftOut([], []), list[Piece](), room, 0
        end = len(events)
        for at, came in enumerate(events):
            piece = came if self._render is None else self._rendered(keys, came, left_out)
            if piece is None:
                continue
            size = len(piece[4])
            if size > room:
                left_out.large.append(came)
                continue
            if group and size + (comma if size else 0) > left:
                batches.append(self._batch(keys, group))
                made += len(batches[-1].payload)
                group, left, comma = [], room, 0
                if made >= most:
                    end = at
                    break
            group.append(piece)
            if size:
                left -= size + comma
                comma = 1
        if group:
            batches.append(self._batch(keys, group))
        letters = self._left(keys, left_out)
        return EncodeResult(batches, letters, last_position(events[end - 1]), events[end:])

    def _rendered(self, keys: _BatchKeys, event: Piece, left_out: _LeftOut) -> Piece | None:
        """Return an event as its document has it; None: it is left out, and noted there why."""
        if self._render is None or not event[2]:
            return event
        try:
            rendered = self._render(keys.frame, event[4])
        except Exception:  # noqa: BLE001  # one odd event must not stop the others
            left_out.odd.append(event)
            return None
        if len(rendered) + keys.frame.size > keys.frame.limit:
            left_out.large.append(event)
            return None
        return (*event[:4], rendered)

    def _left(self, keys: _BatchKeys, left_out: _LeftOut) -> list[DeadLetter]:
        """Return the letters of events that are in no document."""
        if not left_out.large and not left_out.odd:
            return []
        room = max(keys.frame.room, 0)
        large = f"does not fit into a record: {room} bytes are left beside its context"
        odd = "cannot be made into an event of the sink's format"
        window = keys.window
        return [
            *self._letters(window, left_out.large, Reason.EVENT_TOO_LARGE, large),
            *self._letters(window, left_out.odd, Reason.NOT_ENCODABLE, odd),
        ]

    def _batch(
        self, keys: _BatchKeys, pieces: Sequence[Piece], events: bytes | None = None
    ) -> Batch:
        window = keys.window
        offset, start, count, time, _ = pieces[0]
        first = (offset, start)
        if len(pieces) == 1 and count < 2:  # noqa: PLR2004  # one event, or none
            last = first
        else:
            last = last_position(pieces[-1])
            count = sum([piece[2] for piece in pieces])
        ids = self._derive(window.device, first, last, count, time)
        events = _joined(pieces) if events is None else events
        return Batch(
            self._lane, ids.text, keys.key, keys.window_key, first, last, count, keys.closed_at,
            window.newest_ms, keys.frame.user, window.reason,
            self._document(keys.frame, events, ids),
        )  # fmt: skip

    def _letters(
        self, window: Window, pieces: Sequence[Piece], reason: Reason, error: str
    ) -> list[DeadLetter]:
        """Return events of a window as an upload with its context, several only if very large.

        Which upload gave what of the context is not known any more; together they gave all of it.
        """
        letters: list[DeadLetter] = []
        group: list[Piece] = []
        size = 0
        for piece in pieces:
            if group and size + len(piece[4]) > MAX_LETTER_BYTES:
                letters.append(self._letter(window, group, reason, error))
                group, size = [], 0
            group.append(piece)
            size += len(piece[4])
        return [*letters, self._letter(window, group, reason, error)] if group else letters

    def _letter(
        self, window: Window, pieces: Sequence[Piece], reason: Reason, error: str
    ) -> DeadLetter:
        events = _joined(pieces)
        value = self._upload(events, window.context)
        count = sum([piece[2] for piece in pieces])
        return DeadLetter(
            reason, pieces[0][0], self._lane, error, value, pieces[0][3], events=count
        )


def _joined(pieces: Sequence[Piece]) -> bytes:
    """Return the events of pieces, comma-joined."""
    if len(pieces) == 1:
        return pieces[0][4] if pieces[0][2] else b""
    return b",".join([piece[4] for piece in pieces if piece[2]])

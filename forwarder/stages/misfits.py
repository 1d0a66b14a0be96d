"""Events that do not fit alone: one dead letter for each upload, and what keeps it from a second.

A letter closes when its upload is added, under window keys of its own, which O8 and K3 hold for
as for every other: one for the upload, told by a glance, and one for each event in it. So a
replay knows which events are in a letter, whatever limit the sink has by then.
"""

from collections.abc import Iterator

import msgspec

from forwarder.formats import rawjson
from forwarder.formats.pieces import last_of, singles
from forwarder.model import Gate, Piece, Position, Reason
from forwarder.stages import fit, gate
from forwarder.stages.shapes import Upload, digest, session_key


class Misfits(msgspec.Struct, frozen=True, gc=False):
    """The events of an upload that become a letter; ``pieces`` are of one event, or of none."""

    upload: Upload
    pieces: list[Piece]
    reason: Reason
    error: str

    @property
    def value(self) -> bytes:
        """Return them as an upload of their own, in the shape they came in, with its context."""
        upload = self.upload
        if not self.events and upload.keyless:
            return upload.context
        if self.events == len(upload.types):
            return rawjson.with_events(upload.body, upload.context)
        came = rawjson.split(upload.body)
        chosen = [bytes(came[piece[1] - upload.start]) for piece in self.pieces]
        return rawjson.with_events(b",".join(chosen), upload.context)

    @property
    def events(self) -> int:
        """Return how many events they are."""
        return sum([piece[2] for piece in self.pieces])

    def closings(self) -> Iterator[tuple[bytes, Position]]:
        """Yield the window keys that the letter closes, digested, and the last position of each."""
        last = last_of(self.pieces[-1])
        yield _key(self.upload.offset, self.upload.start), last
        for piece in self.pieces:
            yield _event_key(piece), last_of(piece)


def sort(judge: fit.Fit, upload: Upload, pieces: list[Piece]) -> tuple[list[Piece], Misfits | None]:
    """Return what fits alone of an upload, and the rest as what is to become a letter."""
    if not pieces:
        return pieces, None
    try:
        room = judge.room(upload)
    except Exception as error:  # noqa: BLE001  # one odd upload must not stop the others
        text = f"cannot be encoded: {type(error).__name__}"
        every = [single for piece in pieces for single in singles(piece)]
        return [], Misfits(upload, every, Reason.NOT_ENCODABLE, text)
    fits, rest = fit.sort(pieces, room)
    if not rest:
        return fits, None
    text = f"does not fit into a record: {max(room, 0)} bytes are left beside its context"
    return fits, Misfits(upload, rest, Reason.EVENT_TOO_LARGE, text)


def lettered(replay: Gate, upload: Upload, pieces: list[Piece]) -> tuple[list[Piece], int]:
    """Return a replayed upload's pieces without those in a letter, and how many events went."""
    if _key(upload.offset, upload.start) not in replay.closed:
        return pieces, 0
    every = [single for piece in pieces for single in singles(piece)]
    left = [piece for piece in every if _event_key(piece) not in replay.closed]
    return left, sum([piece[2] for piece in every]) - sum([piece[2] for piece in left])


def wanted(replay: Gate, found: Misfits, *, by_session: bool) -> Misfits | None:
    """Return the misfits of a replayed upload that no batch and no saved window holds."""
    upload, left = found.upload, []
    for piece in found.pieces:
        key = upload.owner
        if by_session:
            session = upload.sessions[piece[1] - upload.start] if upload.types else b""
            key = session_key(upload.owner, session)
        if gate.passes(replay, digest(key), last_of(piece)):
            left.append(piece)
    return msgspec.structs.replace(found, pieces=left) if left else None


def _key(offset: int, start: int) -> bytes:
    return digest(b"!%d/%d" % (offset, start))


def _event_key(piece: Piece) -> bytes:
    return digest(b"!%d/%d." % (piece[0], piece[1]))

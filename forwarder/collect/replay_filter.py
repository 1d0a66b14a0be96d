"""What a replay must not collect again: positions that are in batches or saved windows (O8)."""

from collections.abc import Iterable, Mapping, Sequence

from forwarder.formats.contract import Upload
from forwarder.formats.ids import digest
from forwarder.formats.pieces import last_position, split_after
from forwarder.model import LOWEST, Piece, Position


class ReplayFilter:
    """What one lane of one partition has settled before this opening (O5 to O8).

    ``need``: lowest position the lane still needs. ``read``: offset up to which it was fed: what
    lies below is a replay, whose dead letters were made before. ``keying``: (rule, from) in order
    of position, the last one being today's. ``accept_below``: an inactive connection accepts only
    offsets below this one; None: no bound.

    It owns two tables, both from the digest of a window key to a position: up to where what was
    collected under the key is in batches or dead letters, and up to where it is in a checkpoint.
    Callers: who opens the partition fills them, the lane notes what closes during the replay, and
    they are let go once the replay is over. Every other method is a query.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # what the state says of a lane, each given once
        self,
        need: Position = LOWEST,
        read: int = 0,
        closed: Mapping[bytes, Position] | None = None,
        saved: Mapping[bytes, Position] | None = None,
        keying: Sequence[tuple[str, Position]] = (),
        accept_below: int | None = None,
    ) -> None:
        """Begin with copies of these tables; without any it keeps nothing out."""
        self.need = need
        self.read = read
        self.keying = keying
        self.accept_below = accept_below
        self._closed: dict[bytes, Position] = dict(closed or {})
        self._saved: dict[bytes, Position] = dict(saved or {})

    # ------------------------------------------------------------------ commands

    def take_closed(self, entries: dict[bytes, Position]) -> None:
        """Take over the entries of windows that closed before this opening, without a copy.

        The caller must not use them any more.
        """
        self._closed = entries

    def note_saved(self, key: bytes, to: Position) -> None:
        """Note up to where a saved window that is being restored holds its events."""
        self._saved[key] = to

    def note_closed(self, key: bytes, last: Position) -> None:
        """Note what closes below ``read``: later events of the key are not replayed any more."""
        self._closed[key] = max(self._closed.get(key, last), last)

    def release(self, limit: int) -> bool:
        """Forget at most ``limit`` entries of each table; tell whether any are left.

        Caller: the pipeline, once the replay is over.
        """
        for known in (self._closed, self._saved):
            for _ in range(min(limit, len(known))):
                known.popitem()
        return bool(self._closed or self._saved)

    # ------------------------------------------------------------------ queries

    def entries(self) -> int:
        """Return how many entries it still has."""
        return len(self._closed) + len(self._saved)

    def rule_at(self, position: Position, today: str) -> str:
        """Return the rule by which an event at this position is keyed (L2)."""
        found = self.keying[0][0] if self.keying else today
        for rule, start in self.keying[1:]:
            if start <= position:
                found = rule
        return found

    def takes(self, offset: int) -> bool:
        """Tell whether a record is taken at all: an inactive connection takes no new ones."""
        return self.accept_below is None or offset < self.accept_below

    def closed_to(self, key: bytes) -> Position | None:
        """Return the last position of the window key that is in a batch or a dead letter."""
        return self._closed.get(key)

    def settled_to(self, key: bytes) -> Position:
        """Return the last position of the window key that is batched or saved."""
        closed = self._closed.get(key, LOWEST)
        saved = self._saved.get(key, LOWEST) if self._saved else LOWEST
        return max(closed, saved) if saved is not LOWEST else closed

    def passes(self, key: bytes, position: Position) -> bool:
        """Tell whether a position of the window key is still wanted."""
        return position >= self.need and position > self.settled_to(key)

    def is_settled(self, upload: Upload, *, by_device: bool) -> bool:
        """Tell whether nothing of an upload is wanted, before anything is made of its events.

        Where windows are keyed otherwise than ``by_device``, by owner, their keys are not known
        yet.
        """
        last = (upload.offset, upload.start + (len(upload.types) or 1) - 1)
        if last < self.need or not (by_device and (self._closed or self._saved)):
            return last < self.need
        return last <= self.settled_to(upload.name or owner_digest(upload))

    def admitted(self, key: bytes, pieces: Iterable[Piece]) -> list[Piece]:
        """Return what is still wanted of pieces of the window key."""
        settled = self.settled_to(key)
        admitted = []
        for piece in pieces:
            last = last_position(piece)
            if last < self.need or last <= settled:
                continue
            first = max(self.need, (settled[0], settled[1] + 1))
            surplus = first[1] - piece[1] if first[0] == piece[0] else 0
            admitted.append(split_after(piece, surplus)[1] if surplus > 0 else piece)
        return admitted


def owner_digest(upload: Upload) -> bytes:
    """Return the digest of the owner; the upload remembers it, for all lanes."""
    if not upload.name:
        upload.name = digest(upload.owner)
    return upload.name

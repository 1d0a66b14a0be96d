"""Judge what fits into one record, and let what fits join a window.

An event *fits alone* if it and the context of its own upload fit into a record of the sink. Only
such events wait in windows, and whatever a window has gathered leaves room for each of them: so
every document can be made. Nearly all uploads are so small that a comparison of lengths tells it.
"""

from collections.abc import Sequence

import msgspec

from forwarder.collect.windows.window import RoomSums, Window
from forwarder.formats.contract import ContextShape, DocumentMaker, InputFormat, Upload
from forwarder.formats.pieces import split_each
from forwarder.model import Piece

_MAX_GROWTH = 2
"""How many times what came in the documents of a window may take together."""

_FREE_RESCAN_BYTES = 16 * 1024 * 1024
_RESCAN_FACTOR = 16
"""How many bytes a window may look through again for what joins it: ``_FREE_RESCAN_BYTES``, and
``_RESCAN_FACTOR`` for each byte that came in. What accumulates is looked through with every upload:
ten thousand of one user that all delete attributes would take an hour otherwise."""

_MAX_SMALL_CONTEXT = 32 * 1024
"""Bytes of contexts that are merged without being counted so, whatever the sink takes."""

_SHARED = 4
"""How many times an upload's context a merge may be, before and after, that is kept for the other
lanes until their poll ends: a few bytes may join a context of megabytes, with every upload."""

_SMALL_MERGE = 64 * 1024
"""Bytes of a merge that is kept all the same: of a poll's thousand uploads 64 MiB at the worst."""

MIN_CONTEXT_BYTES = 64 * 1024
"""Bytes of a context that may wait in any case; beyond the record's limit it is pruned."""


class RecordFit:
    """Decides whether an upload may join a window so that every event still fits into one record.

    Caller: the windows of a connection. Two lengths spare all of it: where a window's context and
    an upload's have together at most ``small_context_bytes``, and no upload in it has more than
    ``small_events_bytes`` of events, the context takes less than half a record and every event fits
    into the other half.
    """

    def __init__(self, documents: DocumentMaker, form: InputFormat) -> None:
        """Take the lengths of the document maker; ``form`` is what the uploads are of."""
        self.form = form
        self._frame_of = documents.frame
        self._prune = documents.prune
        self._merge = form.merge
        self._shape = form.shape
        self.small_context_bytes = min(_MAX_SMALL_CONTEXT, documents.small_context_bytes)
        self.small_events_bytes = documents.small_events_bytes
        self._most_context = max(documents.least, MIN_CONTEXT_BYTES)

    def room(self, upload: Upload) -> int:
        """Return how large an event may be to fit alone; raises what an odd context raises."""
        return self._frame_of(upload.context, upload.time, upload.time).room

    def pruned(self, upload: Upload) -> Upload:
        """Return the upload as it may wait: its context without what is large and not sent."""
        kept = self._prune(upload.context, self._most_context)
        if kept is upload.context:
            return upload
        return msgspec.structs.replace(upload, context=kept, shape=self._shape(kept))

    def absorb(self, window: Window, upload: Upload) -> int:
        """Bring the window's context up to the upload's; return by how many bytes it is longer."""
        shape, before = upload.shape, len(window.context)
        if window.shape is shape and shape.plain:
            window.context = upload.context
        else:
            window.context, window.shape = self._merged(window, upload)
        if shape.dated:
            window.identities_ms = upload.time
        window.newest_ms = upload.time
        return len(window.context) - before

    def try_join(self, window: Window, upload: Upload, pieces: Sequence[Piece]) -> bool:
        """Count an upload's pieces in a window's sums if it may join; tell whether it may.

        It may if all of it goes into one document, or if the context leaves room for every event
        and the documents together are at most twice what came in: each repeats the context. Nor
        may it take more and more work. What the window's has of large things that are not sent is
        pruned. Of an upload that comes in many parts, with events of other sessions between, the
        context is looked at once.
        """
        sums = window.sums
        if sums is None:
            sums = window.sums = RoomSums()
        if sums.event_bytes < 0:
            _measure(window, sums)
        came = 0
        if sums.framed_context is not window.context or not has_context_of(window, upload):
            came = 0 if has_context_of(window, upload) else len(upload.context)
            if not self._frame(window, sums, upload):
                return False
        added = sum([len(piece[4]) + 1 for piece in pieces])
        filled, received = sums.event_bytes + added, sums.received_bytes + added + came
        largest = max(sums.largest_piece, max([len(piece[4]) for piece in pieces], default=0))
        if filled - 1 > sums.framed_room and (
            largest > sums.framed_room
            or _documents_bytes(sums, filled, largest) > _MAX_GROWTH * received
        ):
            return False
        if pieces and has_used_its_work(window):
            return False
        sums.event_bytes, sums.largest_piece, sums.received_bytes = filled, largest, received
        if (
            len(sums.framed_context) <= self.small_context_bytes
            and largest <= self.small_events_bytes
        ):
            sums.event_bytes = -1  # small again: not to be measured at every upload
        return True

    def _frame(self, window: Window, sums: RoomSums, upload: Upload) -> bool:
        """Note what a window's documents are with an upload besides events; False: none can be."""
        kept = self._prune(window.context, self._most_context)
        if kept is not window.context:
            window.context, window.shape = kept, self._shape(kept)
        merged, _ = self._merged(window, upload)
        if merged is not upload.context:
            sums.rescanned_bytes += len(merged)
        if len(merged) > self._most_context:
            return False
        identities_ms = upload.time if upload.shape.dated else window.identities_ms
        try:
            frame = self._frame_of(merged, identities_ms, upload.time)
        except Exception:  # noqa: BLE001  # the two apart may be odd together
            return False
        sums.framed_context, sums.framed_room, sums.frame_bytes = merged, frame.room, frame.size
        return True

    def _merged(self, window: Window, upload: Upload) -> tuple[bytes, ContextShape]:
        """Return what ``absorb`` makes of the window's context, and its shape."""
        shape = upload.shape
        if shape.plain and window.shape.plain and window.shape.keys <= shape.keys:
            return upload.context, shape
        if has_context_of(window, upload):
            return window.context, window.shape
        if (known := upload.merged) is not None and known[0] is window.context:
            return known[1]  # it was judged before it is taken
        found = self._merge(window.context, upload.context)
        upload.merged = window.context, found
        return found


def has_context_of(window: Window, upload: Upload) -> bool:
    """Tell whether other events of an upload, of the same session, are in a window already.

    Then its context is merged, and what accumulates must not be appended once more.
    """
    return window.touched >= (upload.offset, upload.start)


def drop_merge_cache(upload: Upload) -> None:
    """Drop the merge that was made last if it is much larger than the upload itself.

    Caller: the store of windows, once it has taken the upload; those of a poll live until it ends.
    """
    known = upload.merged
    if known is not None:
        old, (new, _) = known
        if len(old) + len(new) > max(_SHARED * len(upload.context), _SMALL_MERGE):
            upload.merged = None


def has_used_its_work(window: Window) -> bool:
    """Tell whether joins have used up the work allowed for a window: it should be closed."""
    sums = window.sums
    return sums is not None and (
        sums.rescanned_bytes > _FREE_RESCAN_BYTES + _RESCAN_FACTOR * sums.received_bytes
    )


def _documents_bytes(sums: RoomSums, filled: int, largest: int) -> int:
    """Return how many bytes the documents of so many bytes of events have at most.

    Each but the last is so full that the largest event might not have fitted.
    """
    return filled + sums.frame_bytes * (1 + filled // (sums.framed_room - largest + 1))


def split_by_size(pieces: Sequence[Piece], room: int) -> tuple[list[Piece], list[Piece]]:
    """Return the pieces that fit into ``room`` bytes event by event, and the events that do not."""
    fits: list[Piece] = []
    misfits: list[Piece] = []
    for whole in pieces:
        if len(whole[4]) <= room:
            fits.append(whole)
            continue
        for piece in split_each(whole):
            (fits if len(piece[4]) <= room else misfits).append(piece)
    return fits, misfits


def _measure(window: Window, sums: RoomSums) -> None:
    """Look once at all that waits in a window: how much it is, and the largest of it."""
    sizes = [len(piece[4]) for piece in window.all_pieces()]
    sums.event_bytes = sum(sizes) + len(sizes)
    sums.largest_piece = max(sizes, default=0)
    # Of the contexts that were merged so far, what is left of them.
    sums.received_bytes = sums.event_bytes + len(window.context)
    sums.rescanned_bytes += sums.event_bytes

"""Events that do not fit alone: one dead letter for each upload, and what keeps it from a second.

A letter closes when its upload is added, under window keys of its own, which O8 and K3 hold for
as for every other: one for the upload, told by a glance, and one for each run of events in it. So
a replay knows which events are in a letter, whatever limit the sink has by then. A run of one
event has the key that earlier releases gave to each event: theirs are read, too.
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from forwarder.collect.replay_filter import ReplayFilter
from forwarder.collect.windows import fit
from forwarder.collect.windows.window import session_key
from forwarder.formats import rawjson
from forwarder.formats.contract import InputFormat, Upload
from forwarder.formats.ids import digest
from forwarder.formats.pieces import split_each
from forwarder.model import Piece, Position, Reason

Run = tuple[int, int]
"""Consecutive events of an upload: (index of the first in the record, how many; 0: none)."""


class Misfits(msgspec.Struct, frozen=True, gc=False):
    """The events of an upload that become a letter, in order."""

    upload: Upload
    runs: list[Run]
    reason: Reason
    error: str

    def value(self, form: InputFormat) -> bytes:
        """Return them as an upload of their own, in the shape they came in, with its context."""
        upload = self.upload
        if self.events == len(upload.types):
            return form.upload(upload.body, upload.context, keyless=upload.keyless)
        came = rawjson.split_values(upload.body)
        runs = [(at - upload.start, count) for at, count in self.runs]
        chosen = [bytes(one) for at, count in runs for one in came[at : at + count]]
        return form.upload(b",".join(chosen), upload.context)

    @property
    def events(self) -> int:
        """Return how many events they are."""
        return sum([count for _, count in self.runs])

    def closings(self) -> Iterator[tuple[bytes, Position]]:
        """Yield the window keys that the letter closes, digested, and the last position of each."""
        offset = self.upload.offset
        yield _key(offset, self.upload.start), (offset, _last(self.runs[-1]))
        for run in self.runs:
            key = _run_key(offset, run[0]) if run[1] > 1 else _event_key(offset, run[0])
            yield key, (offset, _last(run))


def split_misfits(
    judge: fit.RecordFit, upload: Upload, pieces: list[Piece]
) -> tuple[list[Piece], Misfits | None]:
    """Return what fits alone of an upload, and the rest as what is to become a letter."""
    if not pieces:
        return pieces, None
    try:
        room = judge.room(upload)
    except Exception as error:  # noqa: BLE001  # one odd upload must not stop the others
        text = f"cannot be encoded: {type(error).__name__}"
        return [], Misfits(upload, _runs(pieces), Reason.NOT_ENCODABLE, text)
    fits, rest = fit.split_by_size(pieces, room)
    if not rest:
        return fits, None
    text = f"does not fit into a record: {max(room, 0)} bytes are left beside its context"
    return fits, Misfits(upload, _runs(rest), Reason.EVENT_TOO_LARGE, text)


def is_lettered(replay: ReplayFilter, upload: Upload) -> bool:
    """Tell whether any event of a replayed upload is in a letter."""
    if not replay.entries():
        return False
    return replay.closed_to(_key(upload.offset, upload.start)) is not None


def without_lettered(
    replay: ReplayFilter, upload: Upload, pieces: list[Piece]
) -> tuple[list[Piece], int]:
    """Return a replayed upload's pieces without those in a letter, and how many events went."""
    if not is_lettered(replay, upload):
        return pieces, 0
    gone = set(_lettered_indices(replay, upload))
    every = [single for piece in pieces for single in split_each(piece)]
    left = [piece for piece in every if piece[1] not in gone]
    return left, sum([piece[2] for piece in every]) - sum([piece[2] for piece in left])


def unsettled_misfits(replay: ReplayFilter, found: Misfits, *, by_session: bool) -> Misfits | None:
    """Return the misfits of a replayed upload that no batch and no saved window holds."""
    upload, left = found.upload, list[Piece]()
    for at in [at for first, count in found.runs for at in range(first, first + max(count, 1))]:
        key = upload.owner
        if by_session:
            session = upload.sessions[at - upload.start] if upload.types else b""
            key = session_key(upload.owner, session)
        if replay.passes(digest(key), (upload.offset, at)):
            left.append((upload.offset, at, 1 if upload.types else 0, upload.time, b""))
    return msgspec.structs.replace(found, runs=_runs(left)) if left else None


def _runs(pieces: Sequence[Piece]) -> list[Run]:
    """Return the events of pieces as runs, as long as they can be."""
    runs: list[Run] = []
    for _, at, count, _, _ in pieces:
        if runs and at == sum(runs[-1]):
            runs[-1] = runs[-1][0], runs[-1][1] + count
        else:
            runs.append((at, count))
    return runs


def _last(run: Run) -> int:
    return run[0] + max(run[1], 1) - 1


def _lettered_indices(replay: ReplayFilter, upload: Upload) -> Iterable[int]:
    """Yield the indices of an upload's events that are in letters, found run by run."""
    offset, at = upload.offset, upload.start
    end = at + max(len(upload.types), 1)
    while at < end:
        _, last = replay.closed_to(_run_key(offset, at)) or (offset, at)
        if last > at or replay.closed_to(_event_key(offset, at)) is not None:
            yield from range(at, last + 1)
        at = last + 1


def _key(offset: int, start: int) -> bytes:
    return digest(b"!%d/%d" % (offset, start))


def _event_key(offset: int, at: int) -> bytes:
    return digest(b"!%d/%d." % (offset, at))


def _run_key(offset: int, at: int) -> bytes:
    return digest(b"!%d/%d-" % (offset, at))

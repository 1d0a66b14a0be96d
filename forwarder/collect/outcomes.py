"""Counts where every record and each of its bytes went, once.

docs/reliability.md has the equations.
"""

from collections.abc import Iterable, Sequence

from forwarder.formats.contract import DUPLICATE, Kept, Reject, Upload
from forwarder.model import (
    Collected,
    DeadLetter,
    Position,
    Record,
    RecordOutcome,
    Sealed,
    Unused,
    add_count,
)


def events_of(uploads: Sequence[Upload]) -> int:
    """Return how many events uploads have; of a thousand lanes each asks, mostly about one."""
    if len(uploads) == 1:
        return len(uploads[0].types)
    return sum([len(upload.types) for upload in uploads])


def note_used(uploads: Sequence[Upload], touched: set[Position]) -> None:
    """Note which uploads without events changed a window; one that did may have been a copy."""
    for upload in uploads:
        if not upload.types and (upload.offset, upload.start) in touched:
            upload.used = True


def note_empty(kept: Iterable[Kept]) -> None:
    """Note which uploads without events become documents all the same."""
    for upload, pieces in kept:
        if pieces and not upload.types:
            upload.used = True


def share_out(uploads: Sequence[Upload], size: int) -> None:
    """Share a record's bytes out to its uploads, so that they add up to ``size``.

    An upload behind the first has those of its events and its context; the first has the rest:
    brackets, commas, white space, and whatever was read twice or left out.
    """
    for upload in uploads[1:]:
        upload.size = len(upload.body) + len(upload.context)
        size -= upload.size
    uploads[0].size = size


def settle(out: Collected, outcome: RecordOutcome, records: int, size: int) -> None:
    """Count records and bytes that went one way."""
    add_count(out.outcome_records, outcome, records)
    add_count(out.outcome_bytes, outcome, size)


def count_records(records: Sequence[Record], read: int, out: Collected) -> None:
    """Count what was read, once: what lies below ``read`` was counted when it came first."""
    if records and records[0].offset < read:
        fresh = [record for record in records if record.offset >= read]
        out.replayed = len(records) - len(fresh)
        records = fresh
    out.records = len(records)
    out.bytes = sum([len(record.value) for record in records if record.value is not None])
    if out.tombstones:
        settle(out, RecordOutcome.TOMBSTONE, out.tombstones, 0)


def count_outcomes(uploads: Sequence[Upload], unmatched: Sequence[Upload], out: Collected) -> None:
    """Count what became of decoded uploads; ``unmatched`` are those of them no lane wants.

    Called when the lanes have had them: ``used`` tells of an upload without events that it
    touched a window. A record of several uploads counts where its first one went, its bytes
    where each went.
    """
    records = len([upload for upload in uploads if not upload.start])
    size = sum([upload.size for upload in uploads])
    bare = [upload for upload in uploads if not upload.types]
    ways = [(RecordOutcome.UNMATCHED, unmatched)]
    if bare:
        lost = set(map(id, unmatched))
        ways.append((RecordOutcome.CONTEXT_ONLY, [one for one in bare if id(one) not in lost]))
        _count_unused(uploads, [upload for upload in bare if not upload.used], out)
    for outcome, gone in ways:
        if gone:
            firsts, bytes_ = len([1 for one in gone if not one.start]), sum([u.size for u in gone])
            settle(out, outcome, firsts, bytes_)
            records, size = records - firsts, size - bytes_
    settle(out, RecordOutcome.ROUTED, records, size)


def letter_of_reject(record: Record, found: Reject, time: int) -> DeadLetter:
    """Return the dead letter of a record that is no upload."""
    value, first = record.value or b"", -1
    if isinstance(value, Sealed):  # no JSON: what is wrong with it was known before
        found, first, value = Reject(value.reason, value.error), value.first, bytes(value)
    return DeadLetter(found.reason, record.offset, "", found.error, value, time, first=first)


def count_duplicates(dropped: Sequence[Upload], partial: Sequence[Upload], out: Collected) -> None:
    """Count events that have come before, and the uploads that have no others: ``dropped``.

    Those went nowhere else; the rest of ``partial`` goes on.
    """
    events = sum([len(upload.types) for upload in dropped])
    out.uploads += len(dropped)
    out.events += events
    out.duplicates += events + sum([upload.types.count(DUPLICATE) for upload in partial])
    firsts = len([upload for upload in dropped if not upload.start])
    settle(out, RecordOutcome.DUPLICATE, firsts, sum([upload.size for upload in dropped]))


def _count_unused(uploads: Sequence[Upload], unused: Sequence[Upload], out: Collected) -> None:
    """Count uploads without events that came to nothing, and the records of no others."""
    keyless = {upload.offset for upload in unused if upload.keyless}
    for reason, number in (
        (Unused.MISSING, len([1 for upload in unused if upload.keyless])),
        (Unused.EMPTY, len([1 for upload in unused if not upload.keyless])),
    ):
        add_count(out.unused, reason, number)
    if keyless:
        nothing = set(map(id, unused))
        keyless -= {u.offset for u in uploads if not u.keyless or id(u) not in nothing}
        out.idle += len(keyless)

"""What an opening asks of the outbox besides its bounds: whether the batches known are there."""

import json
from collections.abc import Sequence

from forwarder.errors import JournalError
from forwarder.journal.contract import Commit
from forwarder.kafka.admin import Bounds
from forwarder.kafka.reader import Reader
from forwarder.model import Partition


async def holds_any(reader: Reader, outbox: Partition, bounds: Bounds) -> bool:
    """Tell whether batches were ever committed; a failed tick leaves none. Raises JournalError."""
    if bounds.end == bounds.start:
        return bounds.start > 0
    return bool(await _first(reader, outbox, bounds.start, bounds.end))


async def sound_end(
    reader: Reader, outbox: Partition, bounds: Bounds, commit: Commit | None
) -> int:
    """Return the end of the outbox, of what is left where the last batch known is gone.

    A log that lost its last records grows again: a failed tick and every marker of a transaction
    takes up an offset, so that its end alone does not show the loss. Raises JournalError.
    """
    last = number(commit, "outbox") - 1
    if bounds.start <= last < bounds.end and not await _first(reader, outbox, last, last + 1):
        return last
    return bounds.end


def number(commit: Commit | None, name: str) -> int:
    """Return a number from a tick's metadata, 0 if it says none."""
    try:
        found = json.loads(commit.metadata)[name] if commit else 0
    except (ValueError, KeyError, TypeError):
        return 0
    return found if isinstance(found, int) and found >= 0 else 0


def risen(log: Partition, end: int, stored: Sequence[int]) -> int:
    """Return a log's end after records were stored; raises JournalError if that fell."""
    if stored and min(stored) < end:
        text = (
            f"{log} stored a record at offset {min(stored)}, though it ended at {end}: "
            "it was deleted and created again, or has lost records"
        )
        raise JournalError(text)
    return max([end, *(offset + 1 for offset in stored)])


async def _first(reader: Reader, outbox: Partition, start: int, end: int) -> bool:
    records, _ = await reader.read((outbox.topic, outbox.number), start, end, 1, None)
    return bool(records)

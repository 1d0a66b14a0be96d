"""``forwarder reset``: move where a group at rest collects (an operator's move, O2)."""

from collections.abc import Sequence
from typing import Any

import msgspec

from forwarder.admin import salvage
from forwarder.admin.contract import GroupSurvey
from forwarder.errors import ConfigurationError, ForwarderError, RefusedError
from forwarder.journal.commit import decode_metadata
from forwarder.journal.opening import Restored
from forwarder.journal.state import PartitionState
from forwarder.model import Commit, Partition

OPERATORS = ""
"""Commit metadata that no tick writes: whoever opens the partition obeys the offset."""


class Target(msgspec.Struct, frozen=True):
    """Where to: ``earliest`` or ``latest``, else a time, else an offset."""

    word: str = ""
    time_ms: int | None = None
    offset: int | None = None


class Move(msgspec.Struct, frozen=True):
    """What a reset does to one partition. ``read`` is None if it was never opened."""

    partition: Partition
    to: int
    read: int | None
    watermark: int | None
    held_windows: int
    note: str

    def commit(self, _: Sequence[int]) -> Commit:
        """Return what the group commits: the new offset, marked as an operator's."""
        return Commit(self.to, OPERATORS)

    def document(self) -> dict[str, Any]:
        """Return the reset as JSON output has it; the keys are stable."""
        return {
            "topic": self.partition.topic,
            "number": self.partition.number,
            "to": self.to,
            "read": self.read,
            "watermark": self.watermark,
            "records_again": max(0, (self.read or 0) - self.to) if self.read is not None else 0,
            "records_left_out": max(0, self.to - (self.read or self.to)),
            "windows_dropped": self.held_windows,
            "open_from": self.watermark if self._cuts() else None,
            "note": self.note or None,
        }

    def _cuts(self) -> bool:
        """Tell whether events of open windows lie before the new offset."""
        return self.watermark is not None and self.watermark < self.to


async def refuse_if_active(survey: GroupSurvey) -> None:
    """Raise ForwarderError while the group has members."""
    group = await survey.group()
    if group.active:
        names = ", ".join(sorted(member.client_id for member in group.members)) or "not told"
        text = (
            f"group {survey.group_id} is active ({group.state}; members: {names}): stop every "
            "worker first, and wait until the session timeout of any that was killed is over"
        )
        raise ForwarderError(text)


async def plan(survey: GroupSurvey, partitions: Sequence[Partition], target: Target) -> list[Move]:
    """Return what the reset would do; raises ConfigurationError for an offset outside the log."""
    if target.offset is not None and len(partitions) != 1:
        complaint = "--to: an offset is of one partition; add --topic and --partition"
        raise ConfigurationError([complaint])
    return [await _move(survey, partition, target) for partition in partitions]


async def _move(survey: GroupSurvey, partition: Partition, target: Target) -> Move:
    found = await survey.find(partition)
    state = _state(survey, partition, found)
    hidden = state is None and await _holds_any(survey, partition, found)
    await survey.leave(partition)
    to, note = await _resolve(survey, partition, target, found)
    if hidden:
        note = _left_out(partition, found) + note
    commit = found.commit.offset if found.commit else None
    held = sum(len(lane.held) for lane in state.lanes.values()) if state else 0
    return Move(partition, to, state.read if state else commit, commit, held, note)


async def _resolve(
    survey: GroupSurvey, partition: Partition, target: Target, found: Restored
) -> tuple[int, str]:
    start, end = found.input_start, found.input_end
    if target.word:
        return (start if target.word == "earliest" else end), ""
    if target.time_ms is not None:
        at = await survey.input_at(partition, target.time_ms)
        return (end, "no record is as new: the end") if at is None else (max(start, at), "")
    offset = target.offset or 0
    if not start <= offset <= end:
        complaint = f"--to: {partition} holds offsets {start} to {end}, not {offset}"
        raise ConfigurationError([complaint])
    return offset, ""


async def _holds_any(survey: GroupSurvey, partition: Partition, found: Restored) -> bool:
    """Tell whether any batch is stored in the outbox."""
    at, end = found.outbox_start, found.outbox_end
    while at < end:
        records, at = await survey.outbox(partition, at, end, 1)
        if records:
            return True
    return False


def _left_out(partition: Partition, found: Restored) -> str:
    """Refuse a reset that hides a lost state, or say what comes of it if it is hidden already.

    Without cursors a connection begins at the end of the outbox. Only what a tick committed tells
    the next opening, and ``accept-loss``, that there were cursors; a reset replaces it.
    """
    if found.commit is None or decode_metadata(found.commit) is not None:
        text = (
            f"{partition}: its state is lost, and a reset would leave out all that waits in the "
            "outbox: let `forwarder accept-loss` go on from there first, then move it"
        )
        raise ForwarderError(text)
    return "no state: what waits in the outbox is left out; `forwarder replay` can send it. "


def _state(survey: GroupSurvey, partition: Partition, found: Restored) -> PartitionState | None:
    """Return where the partition stands, None if no state is left.

    Raises ForwarderError for what no offset mends: another group's state, or a later release's.
    """
    try:
        return salvage.salvage(found.state, survey.group_id, partition.topic).state
    except RefusedError as refusal:
        text = f"{partition} cannot be moved: {refusal}"
        raise ForwarderError(text) from refusal


async def apply_reset(survey: GroupSurvey, moves: Sequence[Move]) -> None:
    """Commit every move; a worker that has come to life meanwhile is fenced, and refused.

    Raises ForwarderError, and then the partitions before the one it names are moved.
    """
    for move in moves:
        writer = survey.writer(move.partition)
        became = f"{move.partition} was not moved, nor any after it"
        try:
            await writer.start()
            await refuse_if_active(survey)
            became = f"{move.partition} may be moved or not, none after it is; run this again"
            await writer.commit((), move.commit)
        except ForwarderError as error:
            text = f"{became}: {error}"
            raise ForwarderError(text) from error
        finally:
            await writer.close()

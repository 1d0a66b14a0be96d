"""What one partition has stored in Kafka, and how an opening reads it (O2, O3, O6).

The two who read it are an owner, once it has fenced the one before (O1), and the operators'
commands, which fence nobody: for both it is the same steps in the same order.
"""

import asyncio
from collections.abc import Collection, Sequence
from contextlib import aclosing

from forwarder.config.settings import Kafka, outbox_topic, state_topic
from forwarder.errors import JournalError
from forwarder.journal.commit import metadata_hint
from forwarder.journal.contract import OutboxRecord, OutboxSlice, Restored, Take
from forwarder.kafka.admin import KafkaAdmin
from forwarder.kafka.reader import FETCH_BYTES, PartitionReader
from forwarder.model import Commit, LogBounds, Partition


class PartitionLogs:
    """Input, outbox and state of one partition of a group; close it in the end.

    Caller: a journal in Kafka, one for each opening; the survey of the operators' commands.
    """

    def __init__(
        self,
        kafka: Kafka,
        client_id: str,
        cluster: KafkaAdmin,
        partition: Partition,
        outbox_fetch_bytes: int = FETCH_BYTES,
    ) -> None:
        """Connect to nothing yet; the cluster is another's.

        ``outbox_fetch_bytes``: stored bytes of one fetch of the outbox.
        """
        group, number = kafka.group_id, partition.number
        self.input = partition
        self.outbox = Partition(outbox_topic(group, partition.topic), number)
        self.state = Partition(state_topic(group, partition.topic), number)
        self._group = group
        self._cluster = cluster
        self._state_reader = PartitionReader(kafka, client_id, [self.state])
        self._outbox_reader = PartitionReader(kafka, client_id, [self.outbox], outbox_fetch_bytes)

    async def restore(
        self, take: Take, *, whole_state: bool = False, input_exists: bool = True
    ) -> Restored:
        """Read commit, state and the logs' bounds; every state record goes to ``take``, in order.

        ``whole_state``: from its log start on, not from ``ptr``. Without an input its bounds are
        (0, 0). The commit is read first and the outbox's end last: beside a worker that commits
        meanwhile they say together no more than was true at one moment. Raises JournalError, and
        what ``take`` raises.
        """
        commit = await self._commit()  # O2
        bounds = await self._cluster.bounds([self.state, *([self.input] if input_exists else [])])
        state, source = bounds[self.state], bounds.get(self.input, LogBounds(0, 0))
        ptr = metadata_hint(commit).ptr
        if ptr is not None and ptr < state.start:
            # O3: a later owner may have cut the state meanwhile.
            commit = await self._commit()
            ptr = metadata_hint(commit).ptr
        start = state.start if whole_state or ptr is None else max(ptr, state.start)
        taken = await self._read_state(start, state.end, take)
        # O6: asked after the state was read, so that it cannot lie below what the state knows.
        outbox = (await self._cluster.bounds([self.outbox]))[self.outbox]
        return Restored(
            commit=commit,
            state_start=state.start,
            state_end=state.end,
            outbox_start=outbox.start,
            outbox_end=await self._sound_end(outbox, metadata_hint(commit).outbox - 1),
            first=source.start,
            input_start=source.start,
            input_end=source.end,
            number=self.input.number,
            outbox_used=commit is None and not taken and await self._holds_batches(outbox),
            input_id=await self._cluster.topic_id(self.input.topic) if input_exists else "",
        )

    async def read_outbox(
        self, start: int, end: int, max_bytes: int, lanes: Collection[str] | None = None
    ) -> OutboxSlice:
        """Read outbox records of some lanes, or all, from ``start`` up to offset ``end`` (D2)."""
        names = None if lanes is None else [lane.encode() for lane in lanes]
        found = await self._outbox_reader.read(self.outbox, start, end, max_bytes, names)
        # Asked for all: one that no worker wrote may have any key, or none.
        records = [
            OutboxRecord(r.offset, (r.key or b"").decode(errors="replace"), r.value)
            for r in found.records
        ]
        return OutboxSlice(records, found.upto, found.seen)

    async def outbox_bounds(self) -> LogBounds:
        """Return start and read_committed end of the outbox."""
        return (await self._cluster.bounds([self.outbox]))[self.outbox]

    async def close_state(self) -> None:
        """Give up the connection that the state is read with: an owner reads it once."""
        await self._state_reader.close()

    async def close(self) -> None:
        """Give up every connection within seconds; raises nothing."""
        await asyncio.gather(self._state_reader.close(), self._outbox_reader.close())

    async def _commit(self) -> Commit | None:
        return (await self._cluster.committed(self._group, [self.input]))[self.input]

    async def _read_state(self, start: int, end: int, take: Take) -> int:
        """Give every record in [``start``, ``end``) to ``take``; return how many there are.

        The loop goes round after each, and no more than one fetch is in memory.
        """
        taken = 0
        if start < end:
            async with aclosing(self._state_reader.records(self.state, start, end)) as records:
                async for record in records:
                    take(record.offset, record.value)
                    taken += 1
                    await asyncio.sleep(0)
        return taken

    async def _holds_batches(self, outbox: LogBounds) -> bool:
        """Tell whether batches were ever committed; a failed tick leaves none."""
        if outbox.end == outbox.start:
            return outbox.start > 0
        return await self._has_batch(outbox.start, outbox.end)

    async def _sound_end(self, outbox: LogBounds, last: int) -> int:
        """Return the end of the outbox; where the ``last`` batch known is gone, that one's offset.

        A log that lost its last records grows again: a failed tick and every marker of a
        transaction takes up an offset, so that its end alone does not show the loss.
        """
        if outbox.start <= last < outbox.end and not await self._has_batch(last, last + 1):
            return last
        return outbox.end

    async def _has_batch(self, start: int, end: int) -> bool:
        found = await self._outbox_reader.read(self.outbox, start, end, 1)
        return bool(found.records)


def risen_end(log: Partition, end: int, stored: Sequence[int]) -> int:
    """Return where a log ends that ended at ``end``, once records were stored at these offsets.

    Raises JournalError if one lies below: it is another log, or has lost records (K4).
    """
    if stored and min(stored) < end:
        text = (
            f"{log} stored a record at offset {min(stored)}, though it ended at {end}: "
            "it was deleted and created again, or has lost records"
        )
        raise JournalError(text)
    return max([end, *(offset + 1 for offset in stored)])

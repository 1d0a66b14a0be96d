"""What a group keeps, made by hand, as the operators' commands see it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from forwarder.admin.contract import DeadLetterTopic
from forwarder.config.settings import Configuration, InputTopic, Kafka
from forwarder.journal import outbox
from forwarder.journal import state as states
from forwarder.journal.commit import CommitMetadata, encode_metadata
from forwarder.journal.opening import Restored
from forwarder.journal.state import PartitionState, StateHeader
from forwarder.kafka.admin import GroupState
from forwarder.model import Batch, Commit, LogBounds, LogEnds, OpenTransaction, Partition
from forwarder.ops.diagnosis import Finding
from tests.batches import GROUP, TOPIC

P0 = Partition(TOPIC, 0)
P1 = Partition(TOPIC, 1)
NOBODY = GroupState("Empty", ())


@dataclass
class Bounds:
    start: int
    end: int


@dataclass
class Kept:
    """One partition's logs; every outbox record takes two offsets, its marker included."""

    state: PartitionState | None = None
    commit: Commit | None = None
    outbox: dict[int, bytes] = field(default_factory=dict)
    outbox_start: int = 0
    input: Bounds = field(default_factory=lambda: Bounds(0, 100))

    @property
    def outbox_end(self) -> int:
        return max(self.outbox, default=self.outbox_start - 2) + 2

    def store(self, *batches: Batch) -> int:
        """Append one outbox record; return its offset."""
        offset = self.outbox_end
        self.outbox[offset] = outbox.encode_record(batches)
        return offset


@dataclass
class Writer:
    kept: Kept
    steps: list[str]

    async def start(self) -> None:
        self.steps.append("fence")

    async def commit(
        self, values: Sequence[bytes], settle: Callable[[Sequence[int]], Commit]
    ) -> list[int]:
        self.steps.append("commit")
        offsets = list(range(50, 50 + len(values)))
        self.kept.commit = settle(offsets)
        return offsets

    async def close(self) -> None:
        self.steps.append("close")


class Survey:
    """Answers at once from what the test put there."""

    def __init__(self, *partitions: Partition) -> None:
        kafka = Kafka(("127.0.0.1:1",), (InputTopic(TOPIC),), GROUP)
        self.settings = Configuration(kafka, ())
        self.group_id = GROUP
        self.kept = {partition: Kept() for partition in partitions or (P0,)}
        self.groups = [NOBODY]
        self.times: dict[int, int] = {}
        self.steps: list[str] = []
        self.reads = 0
        self.left: list[Partition] = []
        self.deleted: set[Partition] = set()
        self.found: list[Finding] = []
        self.ids: dict[Partition, str] = {}
        self.later: dict[Partition, int] = {}
        self.high: dict[Partition, int] = {}
        self.open: dict[Partition, OpenTransaction] = {}

    async def partitions(self, topics: Iterable[str] = ()) -> list[Partition]:
        assert set(topics) <= {TOPIC}
        return [partition for partition in self.kept if partition.topic == TOPIC]

    async def left_out(self) -> list[Partition]:
        return [partition for partition in self.kept if partition.topic != TOPIC]

    async def exists(self, partition: Partition) -> bool:
        return partition not in self.deleted

    async def find(
        self,
        partition: Partition,
        *,
        whole: bool = False,  # noqa: ARG002  # all there is
        left_out: bool = False,  # noqa: ARG002  # the same
    ) -> Restored:
        kept = self.kept[partition]
        records = [] if kept.state is None else [(30, base(kept.state, partition.topic))]
        return Restored(
            commit=kept.commit,
            state=records,
            state_start=30 if records else 0,
            state_end=32 if records else 0,
            outbox_start=kept.outbox_start,
            outbox_end=kept.outbox_end,
            first=0,
            input_start=kept.input.start,
            input_end=kept.input.end,
            input_id=self.ids.get(partition, ""),
        )

    async def ends(self, partition: Partition) -> LogEnds:
        stable = self.kept[partition].input.end
        return LogEnds(self.later.get(partition, stable), max(stable, self.high.get(partition, 0)))

    async def open_transaction(self, partition: Partition) -> OpenTransaction | None:
        return self.open.get(partition)

    async def outbox_bounds(self, partition: Partition) -> LogBounds:
        kept = self.kept[partition]
        return LogBounds(kept.outbox_start, kept.outbox_end)

    async def outbox(
        self, partition: Partition, start: int, end: int, max_bytes: int, lane: str | None = None
    ) -> tuple[Sequence[tuple[int, bytes]], int]:
        self.reads += 1
        found: list[tuple[int, bytes]] = []
        for offset, value in self.kept[partition].outbox.items():
            if not start <= offset < end:
                continue
            if lane is not None and outbox.decode_record(offset, value)[0][1].lane != lane:
                continue
            found.append((offset, value))
            if sum(len(stored) for _, stored in found) >= max_bytes:
                return found, offset + 1
        return found, end

    async def outbox_at(self, partition: Partition, time_ms: int) -> int | None:  # noqa: ARG002  # one clock
        return next((at for time, at in sorted(self.times.items()) if time >= time_ms), None)

    async def input_at(self, partition: Partition, time_ms: int) -> int | None:
        return await self.outbox_at(partition, time_ms)

    async def complaints(self) -> list[Finding]:
        return self.found

    async def group(self) -> GroupState:
        return self.groups.pop(0) if len(self.groups) > 1 else self.groups[0]

    def writer(self, partition: Partition) -> Writer:
        return Writer(self.kept[partition], self.steps)

    def dead_letters(self) -> DeadLetterTopic:
        """Have none: ``tests.letters`` has."""
        msg = "what is tried here reads no dead letters"
        raise AssertionError(msg)

    async def leave(self, partition: Partition) -> None:
        self.left.append(partition)

    async def close(self) -> None:
        msg = "who is given a survey leaves it open"
        raise AssertionError(msg)


def base(state: PartitionState, topic: str = TOPIC) -> bytes:
    """Return a state as one stored base."""
    head = StateHeader(states.BASE, state.n, GROUP, topic, state.read, state.obend)
    lanes = {name: states.lane_in_base(lane) for name, lane in state.lanes.items()}
    [value] = states.encode(head, state.extra, lanes)
    return value


def committed(offset: int, n: int) -> Commit:
    """Return the commit of a tick whose newest base lies where ``Survey.find`` puts it."""
    return Commit(offset, encode_metadata(CommitMetadata(n, 30)))

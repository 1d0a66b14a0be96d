"""Whether positions move and the group knows this worker, looked at every few seconds.

Nothing may stand still unnoticed. What holds a partition for a reason (a transaction open in its
input, the circuit breaker, a journal that is behind …) is told with that reason. What has none is
a client that went silent: its tasks may end with an error nobody expected, and it then returns
nothing, or the same error for ever, or waits for a membership that it has lost. A worker on which
nothing moves ends then, and starts anew; never because Kafka is away. Where others flow it is one
partition that stands: its fetching is begun anew, the next time the partition is opened again; to
end the worker would stop all of them, and each next owner in turn. A client that is told an error
by the partition's leader is not silent: it goes on asking, and what the leader says is told.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

import structlog

from forwarder import retry
from forwarder.clock import Clock
from forwarder.errors import ForwarderError, JournalError
from forwarder.model import LogEnds, OpenTransaction, Partition
from forwarder.ops.reporter import Phase
from forwarder.ops.stall import COMMITTED_REASONS, Stall, StallReason, iso_time
from forwarder.sources.contract import Source
from forwarder.worker.context import WorkerContext
from forwarder.worker.supervisor import Membership

log = structlog.get_logger()

WATCH_SECONDS = 10.0
"""Seconds between two looks."""

STALL_AFTER_SECONDS = 25.0
"""Seconds a position stands still below the high watermark before that is told: with the pause
between two looks it is known within a minute."""

UNKNOWN_MEMBER_SECONDS = 150.0
"""Seconds the group may not know this worker before it gives up: more than two rebalances take."""

MAX_TRANSACTION_LOOKUPS = 16
"""Partitions whose open transaction is asked for at one look; each takes three requests."""

MAX_PARTITIONS_NAMED = 20
"""Partitions that one line of the log names."""

STALL_REPEAT_SECONDS = 600.0
"""Seconds after which what still stands is logged once more."""

REBALANCE_ALARM_SECONDS = 60.0
"""Seconds in which so many rebalances are worth a warning, and in which that is said once:"""

REBALANCES_TO_ALARM = 6


SILENT_CLIENT_SECONDS = 60.0
"""Seconds a position may stand still below the last stable offset before something is done."""

SILENT_CLIENT_REASONS = frozenset({StallReason.NOT_FETCHED, StallReason.REBALANCE})
"""What a client that went silent looks like: a rebalance takes less time than that."""


class StandingPosition(NamedTuple):
    """A position that has not moved, and since when, in steady seconds and wall-clock ms."""

    position: int | None
    since: float
    wall_ms: int


class Watchdog:
    """Watches one worker. Caller: the worker, as one of its chores."""

    def __init__(self, source: Source, context: WorkerContext, membership: Membership) -> None:
        """Create; nothing is observed before :meth:`run`."""
        self._source = source
        self._clock = context.clock
        self._reporter = context.reporter
        self._membership = membership
        self._seen: dict[Partition, StandingPosition] = {}
        self._silent_client = SilentClient(source, context, membership)
        self._reported: dict[Partition, StallReason] = {}
        self._repeats = retry.RepeatSuppressor(STALL_REPEAT_SECONDS)
        self._member_known_at = context.clock.steady()

    async def run(self) -> None:
        """Look for ever; raises ForwarderError when the worker has to start anew."""
        self._member_known_at = (
            self._clock.steady()
        )  # waiting for Kafka before the start does not count
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            await self._watch_positions()
            await self._watch_membership()

    # ------------------------------------------------------------------ positions

    async def _watch_positions(self) -> None:
        partitions = list(self._membership.supervisors)
        positions = await self._positions(partitions)
        asked, wall_ms = self._clock.steady(), self._clock.wall_ms()
        ends = await self._source.ends(partitions)
        stalled: dict[Partition, Stall] = {}
        for partition in [p for p in partitions if p in self._membership.supervisors]:
            at, told = positions[partition], ends.get(partition)
            reason = self._reason(partition, at, told)
            self._silent_client.check(partition, at, told, reason)
            # The answer may have taken long: what moved meanwhile does not stand.
            moved = self._opened_at(partition) not in {None, at}
            if moved or (told is not None and told.high <= (at or 0)):
                self._seen.pop(partition, None)
                continue
            still = self._seen.get(partition)
            if still is None or still.position != at:
                still = self._seen[partition] = StandingPosition(at, asked, wall_ms)
            if self._clock.steady() - still.since >= STALL_AFTER_SECONDS:
                high = None if told is None else told.high
                stalled[partition] = self._stall(partition, reason, still, high)
        for gone in self._seen.keys() - self._membership.supervisors.keys():
            self._seen.pop(gone)
        self._silent_client.keep_only(frozenset(self._membership.supervisors))
        self._report(await self._with_transactions(stalled))

    async def _positions(self, partitions: list[Partition]) -> dict[Partition, int | None]:
        """Return where each partition reads on: as committed where it is not open.

        Nor is one that failed and has committed nothing since: what it reads, it reads in vain.
        """
        closed = [p for p in partitions if self._membership.phase(p) is not Phase.OPEN]
        positions: dict[Partition, int | None] = dict.fromkeys(partitions)
        if closed:
            positions |= await self._source.committed(closed)
        for partition in partitions:
            if (at := self._opened_at(partition)) is not None:
                positions[partition] = at
        return positions

    def _opened_at(self, partition: Partition) -> int | None:
        """Return where a partition that is open reads on, None if it is not."""
        owned = self._membership.open_partition(partition)
        if owned is None or self._membership.phase(partition) is not Phase.OPEN:
            return None
        # While the intake is stopped the source stands behind a sample that nobody collected.
        read = None if owned.intake_stopped else self._source.position(partition)
        return owned.position if read is None else read

    def _reason(self, partition: Partition, at: int | None, told: LogEnds | None) -> StallReason:
        """Return what would hold a partition, if it should stand still."""
        supervisor = self._membership.supervisors[partition]
        owned, phase = supervisor.open_partition(), supervisor.phase
        if owned is None or phase is not Phase.OPEN:
            return StallReason.REFUSED if phase is Phase.REFUSED else StallReason.OPENING
        if owned.intake_stopped:
            return StallReason.INTAKE_STOPPED
        if supervisor.pause_reason is not None:
            return supervisor.pause_reason
        if told is None:
            return StallReason.UNAVAILABLE
        if at is not None and at >= told.stable:
            return StallReason.OPEN_TRANSACTION
        return StallReason.REBALANCE if self._is_unassigned(partition) else StallReason.NOT_FETCHED

    def _is_unassigned(self, partition: Partition) -> bool:
        return self._membership.rebalancing or self._source.position(partition) is None

    def _stall(
        self, partition: Partition, reason: StallReason, still: StandingPosition, high: int | None
    ) -> Stall:
        """Return what stands, with what the partition's leader says of it, if it does."""
        refused = self._source.refusal(partition) if reason is StallReason.NOT_FETCHED else None
        if refused is None:
            return Stall(reason, still.wall_ms, still.position, high)
        what, remedy = refused.what, refused.remedy
        return Stall(reason, still.wall_ms, still.position, high, what=what, remedy=remedy)

    async def _with_transactions(self, stalled: dict[Partition, Stall]) -> dict[Partition, Stall]:
        """Add whose transactions hold partitions back, of some of them."""
        held = [p for p, s in stalled.items() if s.reason is StallReason.OPEN_TRANSACTION]
        asked = held[:MAX_TRANSACTION_LOOKUPS]
        found = await asyncio.gather(*map(self._source.open_transaction, asked))
        for partition, transaction in zip(asked, found, strict=True):
            if transaction is not None:
                stalled[partition] = _held_by(stalled[partition], transaction)
        return stalled

    def _report(self, stalled: dict[Partition, Stall]) -> None:
        self._reporter.stalled(stalled)
        for owned in self._membership.open_partitions():
            stall = stalled.get(owned.partition)
            paused = stall if stall is not None and stall.reason in COMMITTED_REASONS else None
            reason, since_ms = (str(paused.reason), paused.since_ms) if paused else ("", 0)
            owned.set_pause_reason(reason, since_ms)
        now = self._clock.steady()
        for reason in sorted({stall.reason for stall in stalled.values()}):
            those = sorted(p for p, stall in stalled.items() if stall.reason is reason)
            new = [p for p in those if self._reported.get(p) is not reason]
            if new or self._repeats.register(f"{reason} {those}", now):
                self._repeats.register(f"{reason} {those}", now)
                _warn(reason, those, stalled)
        for partition in sorted(self._reported.keys() - stalled.keys()):
            if partition in self._membership.supervisors:  # else it is another worker's now
                log.info("input.resumed", partition=str(partition))
        self._reported = {partition: stall.reason for partition, stall in stalled.items()}

    # ------------------------------------------------------------------ membership

    async def _watch_membership(self) -> None:
        now, failing = self._clock.steady(), self._membership.polls_fail_since
        try:
            member = await self._source.is_member()
        except ForwarderError:
            self._member_known_at = now  # Kafka is away: nothing is known
            return
        if failing is not None and now - failing > SILENT_CLIENT_SECONDS:
            seconds = f"{SILENT_CLIENT_SECONDS:.0f} s"
            what = f"every poll failed for {seconds} although Kafka answers: see poll.failed"
            raise ForwarderError(what)
        if member:
            self._member_known_at = now
        elif now - self._member_known_at > UNKNOWN_MEMBER_SECONDS:
            what = (
                f"the group has not known this worker for {UNKNOWN_MEMBER_SECONDS:.0f} s although "
                f"Kafka answers: the consumer lost its membership"
            )
            raise ForwarderError(what)


class SilentClient:
    """Looks at one worker's positions, a look every few seconds. Caller: the watchdog."""

    def __init__(self, source: Source, context: WorkerContext, membership: Membership) -> None:
        """Create; nothing is observed before :meth:`check`."""
        self._source = source
        self._clock = context.clock
        self._membership = membership
        self._since: dict[Partition, tuple[int, float]] = {}
        self._begun_anew: dict[Partition, int] = {}
        self._seen: dict[Partition, int] = {}
        self._moved = float("-inf")

    def check(
        self, partition: Partition, at: int | None, told: LogEnds | None, reason: StallReason
    ) -> None:
        """Do what there is to do about a partition that stands below the last stable offset.

        Caller: the watchdog, at every look and for every partition. Raises ForwarderError where
        the worker has to start anew.
        """
        now = self._clock.steady()
        read = self._track(partition, now)
        answered = self._membership.is_blocked or self._source.refusal(partition) is not None
        if (
            reason not in SILENT_CLIENT_REASONS
            or answered
            or read is None
            or at is None
            or told is None
        ):
            self._since.pop(partition, None)
            return
        since = self._since.get(partition)
        if since is None or since[0] != at:
            since = self._since[partition] = at, now
        if now - since[1] > SILENT_CLIENT_SECONDS:
            self._act(partition, at, told.stable, reason)

    def keep_only(self, partitions: frozenset[Partition]) -> None:
        """Forget all partitions but these: the others are not owned any more."""
        for kept in (self._since, self._begun_anew, self._seen):
            for gone in kept.keys() - partitions:
                kept.pop(gone)

    def _track(self, partition: Partition, now: float) -> int | None:
        """Return where the source reads on; note if that is further than at the look before."""
        read = self._source.position(partition)
        if read is not None:
            if read > self._seen.get(partition, read):
                self._moved = now
            self._seen[partition] = read
        return read

    def _act(self, partition: Partition, at: int, end: int, reason: StallReason) -> None:
        seconds = f"{SILENT_CLIENT_SECONDS:.0f} s"
        what = f"{partition} stands at offset {at} for {seconds}, its log ends at {end}"
        if self._clock.steady() - self._moved >= SILENT_CLIENT_SECONDS:
            text = f"{what}: the consumer went silent"
            raise ForwarderError(text)
        if reason is StallReason.REBALANCE:
            return  # of the whole group, and it is not over
        del self._since[partition]
        if self._begun_anew.pop(partition, None) == at:
            text = f"{what}, and no poll brings a record of it"
            self._membership.supervisors[partition].fail(JournalError(text))
            return
        self._begun_anew[partition] = at
        log.warning("input.refetched", partition=str(partition), position=at, end=end)
        self._source.restart_fetching()


class RebalanceAlarm:
    """Warns when the group rebalances again and again: it then neither reads nor delivers much."""

    def __init__(self, clock: Clock) -> None:
        """Create with no rebalance seen."""
        self._clock = clock
        self._seen: deque[float] = deque(maxlen=REBALANCES_TO_ALARM)
        self._repeats = retry.RepeatSuppressor(REBALANCE_ALARM_SECONDS)

    def on_rebalance(self) -> None:
        """Take note of a rebalance. Caller: the worker, with each assignment."""
        now = self._clock.steady()
        self._seen.append(now)
        unstable = (
            len(self._seen) == REBALANCES_TO_ALARM and now - self._seen[0] < REBALANCE_ALARM_SECONDS
        )
        if unstable and self._repeats.register("unstable", now):
            log.warning(
                "group.unstable",
                rebalances=REBALANCES_TO_ALARM,
                within=REBALANCE_ALARM_SECONDS,
                remedy="workers come and go, or two that live share one kafka.group_instance_id: "
                "give every worker its own",
            )


def _held_by(stall: Stall, transaction: OpenTransaction) -> Stall:
    return Stall(stall.reason, stall.since_ms, stall.position, stall.high, transaction)


def _warn(reason: StallReason, those: list[Partition], stalled: Mapping[Partition, Stall]) -> None:
    oldest = min((stalled[partition] for partition in those), key=lambda stall: stall.since_ms)
    log.warning(
        "input.stalled",
        reason=str(reason),
        partitions=[str(partition) for partition in those[:MAX_PARTITIONS_NAMED]],
        count=len(those),
        since=iso_time(oldest.since_ms),
        position=oldest.position,
        high_watermark=oldest.high,
        what=oldest.text(),
        remedy=oldest.advice(),
    )

"""Whether positions move and the group knows this worker, looked at every few seconds.

Nothing may stand still unnoticed. What holds a partition for a reason (a transaction open in its
input, the guard, a journal that is behind …) is told with that reason. What has none is a client
that went silent: its tasks may end with an error nobody expected, and it then returns nothing, or
the same error for ever, or waits for a membership that it has lost. That ends the worker, which
starts anew; never because Kafka is away.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import structlog

from forwarder import retry
from forwarder.clock import Clock
from forwarder.errors import ForwarderError
from forwarder.model import Ends, OpenTransaction, Partition
from forwarder.ops.reporter import Phase
from forwarder.ops.stall import NOTED, Stall, StallReason, moment
from forwarder.sources.contract import Source
from forwarder.worker.context import Surroundings
from forwarder.worker.partition import OwnedPartition
from forwarder.worker.silence import SILENCE, Silence

log = structlog.get_logger()

WATCH = 10.0
"""Seconds between two looks."""

STALLED = 25.0
"""Seconds a position stands still below the high watermark before that is told: with the pause
between two looks it is known within a minute."""

STRAYED = 150.0
"""Seconds the group may not know this worker before it gives up: more than two rebalances take."""

ASKED = 16
"""Partitions whose open transaction is asked for at one look; each takes three requests."""

NAMED = 20
"""Partitions that one line of the log names."""

SAID_AGAIN = 600.0
"""Seconds after which what still stands is logged once more."""

RESTLESS = 60.0
"""Seconds in which so many rebalances are worth a warning, and in which that is said once:"""

REBALANCES = 6


class Host(Protocol):
    """The worker that is watched."""

    partitions: dict[Partition, OwnedPartition]

    def phase(self, partition: Partition) -> Phase:
        """Return how far a partition has come; a refused one stays so while it is retried.

        One that failed is open again only once a tick has committed.
        """

    def paused(self, partition: Partition) -> StallReason | None:
        """Return why a partition is not read just now."""

    def rebalancing(self) -> bool:
        """Tell whether the group has taken the partitions back and not given any out again."""

    def failing_since(self) -> float | None:
        """Return since when every poll has failed, by the steady clock."""

    def is_blocked(self) -> bool:
        """Tell whether polls fail for what only an operator can mend."""


class Still(NamedTuple):
    """A position that has not moved, and since when, by the steady clock and the wall's."""

    position: int | None
    since: float
    wall_ms: int


class Watchdog:
    """Watches one worker. Caller: the worker, as one of its chores."""

    def __init__(self, source: Source, around: Surroundings, host: Host) -> None:
        """Have seen nothing."""
        self._source = source
        self._clock = around.clock
        self._reporter = around.reporter
        self._host = host
        self._still: dict[Partition, Still] = {}
        self._silence = Silence(source, around, host)
        self._told: dict[Partition, StallReason] = {}
        self._said = retry.Repeats(SAID_AGAIN)
        self._known = around.clock.steady()

    async def keep(self) -> None:
        """Look for ever; raises ForwarderError when the worker has to start anew."""
        self._known = self._clock.steady()  # waiting for Kafka before the start does not count
        while True:
            await asyncio.sleep(WATCH)
            await self._watch_positions()
            await self._watch_membership()

    # ------------------------------------------------------------------ positions

    async def _watch_positions(self) -> None:
        partitions = list(self._host.partitions)
        positions = await self._positions(partitions)
        asked, wall_ms = self._clock.steady(), self._clock.wall_ms()
        ends = await self._source.ends(partitions)
        stalled: dict[Partition, Stall] = {}
        for partition in [p for p in partitions if p in self._host.partitions]:
            at, told = positions[partition], ends.get(partition)
            reason = self._reason(partition, at, told)
            self._silence.look(partition, at, told, reason)
            # The answer may have taken long: what moved meanwhile does not stand.
            moved = self._opened_at(partition) not in {None, at}
            if moved or (told is not None and told.high <= (at or 0)):
                self._still.pop(partition, None)
                continue
            still = self._still.get(partition)
            if still is None or still.position != at:
                still = self._still[partition] = Still(at, asked, wall_ms)
            if self._clock.steady() - still.since >= STALLED:
                high = None if told is None else told.high
                stalled[partition] = self._stall(partition, reason, still, high)
        for gone in self._still.keys() - self._host.partitions.keys():
            self._still.pop(gone)
        self._silence.forget(frozenset(self._host.partitions))
        self._tell(await self._with_transactions(stalled))

    async def _positions(self, partitions: list[Partition]) -> dict[Partition, int | None]:
        """Return where each partition reads on: as committed where it is not open.

        Nor is one that failed and has committed nothing since: what it reads, it reads in vain.
        """
        closed = [p for p in partitions if self._host.phase(p) is not Phase.OPEN]
        positions: dict[Partition, int | None] = dict.fromkeys(partitions)
        if closed:
            positions |= await self._source.committed(closed)
        for partition in partitions:
            if (at := self._opened_at(partition)) is not None:
                positions[partition] = at
        return positions

    def _opened_at(self, partition: Partition) -> int | None:
        """Return where a partition that is open reads on, None if it is not."""
        owned = self._host.partitions.get(partition)
        if owned is None or self._host.phase(partition) is not Phase.OPEN:
            return None
        # While the intake is stopped the source stands behind a sample that nobody collected.
        read = None if owned.intake_stopped else self._source.position(partition)
        return owned.position if read is None else read

    def _reason(self, partition: Partition, at: int | None, told: Ends | None) -> StallReason:
        """Return what would hold a partition, if it should stand still."""
        owned, phase = self._host.partitions[partition], self._host.phase(partition)
        if phase is not Phase.OPEN:
            return StallReason.REFUSED if phase is Phase.REFUSED else StallReason.OPENING
        if owned.intake_stopped:
            return StallReason.INTAKE_STOPPED
        if (paused := self._host.paused(partition)) is not None:
            return paused
        if told is None:
            return StallReason.UNAVAILABLE
        if at is not None and at >= told.stable:
            return StallReason.OPEN_TRANSACTION
        return StallReason.REBALANCE if self._is_unassigned(partition) else StallReason.NOT_FETCHED

    def _is_unassigned(self, partition: Partition) -> bool:
        return self._host.rebalancing() or self._source.position(partition) is None

    def _stall(
        self, partition: Partition, reason: StallReason, still: Still, high: int | None
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
        asked = held[:ASKED]
        found = await asyncio.gather(*map(self._source.open_transaction, asked))
        for partition, transaction in zip(asked, found, strict=True):
            if transaction is not None:
                stalled[partition] = _held_by(stalled[partition], transaction)
        return stalled

    def _tell(self, stalled: dict[Partition, Stall]) -> None:
        self._reporter.stalled(stalled)
        for partition, owned in self._host.partitions.items():
            stall = stalled.get(partition)
            paused = stall if stall is not None and stall.reason in NOTED else None
            owned.note_pause(str(paused.reason) if paused else "", paused.since_ms if paused else 0)
        now = self._clock.steady()
        for reason in sorted({stall.reason for stall in stalled.values()}):
            those = sorted(p for p, stall in stalled.items() if stall.reason is reason)
            new = [p for p in those if self._told.get(p) is not reason]
            if new or self._said.news(f"{reason} {those}", now):
                self._said.news(f"{reason} {those}", now)
                _warn(reason, those, stalled)
        for partition in sorted(self._told.keys() - stalled.keys()):
            if partition in self._host.partitions:  # else it is another worker's now
                log.info("input.moves", partition=str(partition))
        self._told = {partition: stall.reason for partition, stall in stalled.items()}

    # ------------------------------------------------------------------ membership

    async def _watch_membership(self) -> None:
        now, failing = self._clock.steady(), self._host.failing_since()
        try:
            member = await self._source.joined()
        except ForwarderError:
            self._known = now  # Kafka is away: nothing is known
            return
        if failing is not None and now - failing > SILENCE:
            what = f"every poll failed for {SILENCE:.0f} s although Kafka answers: see poll.failed"
            raise ForwarderError(what)
        if member:
            self._known = now
        elif now - self._known > STRAYED:
            what = (
                f"the group has not known this worker for {STRAYED:.0f} s although Kafka "
                f"answers: the consumer lost its membership"
            )
            raise ForwarderError(what)


class Unrest:
    """Warns of a group that does not come to rest: it neither reads nor delivers much."""

    def __init__(self, clock: Clock) -> None:
        """Have seen no rebalance."""
        self._clock = clock
        self._seen: deque[float] = deque(maxlen=REBALANCES)
        self._said = retry.Repeats(RESTLESS)

    def note(self) -> None:
        """Take note of a rebalance. Caller: the worker, with each assignment."""
        now = self._clock.steady()
        self._seen.append(now)
        restless = len(self._seen) == REBALANCES and now - self._seen[0] < RESTLESS
        if restless and self._said.news("restless", now):
            log.warning(
                "group.restless",
                rebalances=REBALANCES,
                within=RESTLESS,
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
        partitions=[str(partition) for partition in those[:NAMED]],
        count=len(those),
        since=moment(oldest.since_ms),
        position=oldest.position,
        high_watermark=oldest.high,
        what=oldest.text(),
        remedy=oldest.advice(),
    )

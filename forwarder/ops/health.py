"""How the worker is: alive, ready, and in detail for people.

Alive means that the event loop goes round; neither Kafka nor AWS has a part in it, since a
restart mends neither. Ready means that the group was joined and that every owned partition is
open, or refused with a reason; one that failed is open again once a tick has committed. Lanes are
detail only, so that a broken destination never blocks the rollout that mends it.

The server that answers ``/livez`` runs in the very loop it judges. A loop that is blocked does
not answer, and the probe's timeout finds it; a loop that answers but has long not run its timers
shows an old heartbeat, and the stamp finds it.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from forwarder.clock import Clock
from forwarder.model import Partition
from forwarder.ops.reporter import LaneStatus, Phase
from forwarder.ops.stall import Stall

HEARTBEAT_TIMEOUT = 30.0
"""Seconds without a heartbeat after which the loop counts as stuck: thirty missed in a row."""

NOT_JOINED = "the group is not joined yet: what keeps the worker from it would stand here"

RETRIES_BY_ITSELF = "it is tried again by itself every 5 to 60 s"

RETRIED_SOON = "it is tried again by itself every few seconds"

RETRIED_EACH_MINUTE = (
    "it is opened again by itself about once a minute; the other partitions go on meanwhile"
)

REJECTED_TEXT = "more records were rejected than limits.rejected_percent"

STATE_REMEDIES = {
    "intake_stopped": "see forwarder dead-letters list; mend or roll back what was deployed, then "
    "it goes on by itself; limits.rejected_percent: 0 and a restart let all become dead letters",
    Phase.OPENING: f"nothing to do unless it lasts: {RETRIED_SOON}",
    Phase.REFUSED: f"do what the reason says; {RETRIED_EACH_MINUTE}",
    LaneStatus.BACKING_OFF: "nothing: it is tried again by itself",
    LaneStatus.PAUSED: f"mend what the reason names; {RETRIES_BY_ITSELF}",
    LaneStatus.INACTIVE: "set status: active in the connection's file to deliver again",
    LaneStatus.STOPPED: "do what the reason says; the other connections go on meanwhile",
}


RETRY_TEXTS = {
    Phase.OPENING: RETRIED_SOON,
    "waiting": RETRIED_SOON,
    Phase.REFUSED: RETRIED_EACH_MINUTE,
}
"""How each state is left where there is a remedy; a lane's otherwise."""

WORST_FIRST = (
    LaneStatus.STOPPED,
    LaneStatus.PAUSED,
    LaneStatus.BACKING_OFF,
    LaneStatus.INACTIVE,
    LaneStatus.FLOWING,
)
"""The states of a lane; what a worker shows of a connection is the worst of its partitions."""


class StatusEntry(msgspec.Struct):
    """A state, the wall-clock milliseconds since when, why, and what to do about it."""

    state: str
    since_ms: int
    reason: str = ""
    remedy: str = ""

    def described(self) -> dict[str, Any]:
        """Return it for people, with what they can do about it."""
        since = datetime.fromtimestamp(self.since_ms / 1000, UTC).isoformat(timespec="seconds")
        described = {"state": self.state, "since": since}
        if self.reason:
            described["reason"] = self.reason.removesuffix(f"; {self.remedy}")
        if self.remedy:
            described["remedy"] = f"{self.remedy}; {RETRY_TEXTS.get(self.state, RETRIES_BY_ITSELF)}"
        elif self.state in STATE_REMEDIES:
            described["remedy"] = STATE_REMEDIES[self.state]
        return described


class Health:
    """What the probes answer from. Caller: the worker's report; affects nothing else."""

    def __init__(self, clock: Clock) -> None:
        """Create: alive, not ready."""
        self.partitions: dict[str, StatusEntry] = {}
        self.lanes: dict[str, dict[str, StatusEntry]] = {}
        self._clock = clock
        self._beaten = clock.steady()
        self._joined = False
        self._stopped: Mapping[str, int] = {}
        self._stalled: Mapping[str, Stall] = {}
        self._waits: StatusEntry | None = None

    def heartbeat(self) -> None:
        """Note that the loop makes progress."""
        self._beaten = self._clock.steady()

    def heartbeat_age(self) -> float:
        """Return the seconds since the last heartbeat."""
        return self._clock.steady() - self._beaten

    def alive(self) -> bool:
        """Tell whether the last heartbeat is not older than ``HEARTBEAT_TIMEOUT``."""
        return self.heartbeat_age() <= HEARTBEAT_TIMEOUT

    def partitions_owned(self, partitions: Collection[Partition]) -> None:
        """Note which partitions are owned now; those that are new are opening."""
        self._joined = True
        owned = set(map(str, partitions))
        for gone in self.partitions.keys() - owned:
            del self.partitions[gone]
            self.lanes.pop(gone, None)
        for new in owned - self.partitions.keys():
            self._set_status(new, Phase.OPENING)

    def waiting_for(self, reason: str, remedy: str) -> None:
        """Note what the worker as a whole waits for; empty: for nothing."""
        self._waits = self._entry_since(self._waits, "waiting", reason, remedy) if reason else None

    def partition_phase(self, partition: str, phase: str, reason: str, remedy: str = "") -> None:
        """Note the phase of one partition, and since when it has been in it."""
        self._set_status(partition, phase, reason, remedy)

    def intake_stopped(self, partitions: Mapping[str, int]) -> None:
        """Note which partitions are not collected, and since which wall-clock milliseconds."""
        self._stopped = partitions

    def stalled(self, partitions: Mapping[str, Stall]) -> None:
        """Note which positions stand still although their log goes on, and why."""
        self._stalled = partitions

    def lane_status(
        self, lane: str, partition: str, status: str, reason: str, remedy: str = ""
    ) -> None:
        """Note how one lane of one partition is doing."""
        lanes = self.lanes.setdefault(partition, {})
        lanes[lane] = self._entry_since(lanes.get(lane), status, reason, remedy)

    def lanes_told_of(self) -> set[str]:
        """Return the connections of which anything was told since their partition opened."""
        return {name for lanes in self.lanes.values() for name in lanes}

    def lane(self, name: str, initial: str) -> dict[str, list[StatusEntry]]:
        """Return how a connection stands on the open partitions, by state.

        ``initial`` is its state where nothing was told of it since the partition opened.
        """
        found: dict[str, list[StatusEntry]] = {}
        for partition, there in self.partitions.items():
            if there.state == Phase.OPEN:
                unheard = StatusEntry(initial, there.since_ms)
                entry = self.lanes.get(partition, {}).get(name, unheard)
                found.setdefault(entry.state, []).append(entry)
        return found

    def ready(self) -> bool:
        """Tell whether the group was joined and no owned partition is still opening."""
        states = (entry.state for entry in self.partitions.values())
        return self._joined and all(state in (Phase.OPEN, Phase.REFUSED) for state in states)

    def described(self) -> dict[str, Any]:
        """Return everything as JSON can hold it; of the lanes only those not flowing."""
        waits: dict[str, Any] = {} if self._joined else {"reason": NOT_JOINED}
        if self._waits is not None:
            waits = {"kafka": self._waits.described()}
        return {
            "ready": self.ready(),
            "joined": self._joined,
            **waits,
            **self._stopped_intake(),
            **self._worst_of_connections(),
            "partitions": {
                name: entry.described() | self._stall_of(name) | self._unwell_lanes(name)
                for name, entry in sorted(self.partitions.items())
            },
        }

    def _set_status(self, partition: str, phase: str, reason: str = "", remedy: str = "") -> None:
        # A partition that is owned and closed is about to be opened again, with lanes anew.
        state = phase if phase in (Phase.OPEN, Phase.REFUSED) else Phase.OPENING
        before = self.partitions.get(partition)
        if state == Phase.OPENING and (reason or before is None or before.state != Phase.OPENING):
            self.lanes.pop(partition, None)  # else its lanes may be begun, and it not yet proved
        if before is not None and before.state == state and not reason:
            reason, remedy = before.reason, before.remedy
        self.partitions[partition] = self._entry_since(before, state, reason, remedy)

    def _entry_since(
        self, before: StatusEntry | None, state: str, reason: str, remedy: str = ""
    ) -> StatusEntry:
        same = before is not None and before.state == state
        since = before.since_ms if before is not None and same else self._clock.wall_ms()
        return StatusEntry(str(state), since, reason, remedy)

    def _stopped_intake(self) -> dict[str, Any]:
        """Return that collecting has stopped; ready it is, or the rollout that mends it waits."""
        if not self._stopped:
            return {}
        entry = StatusEntry("intake_stopped", min(self._stopped.values()), REJECTED_TEXT)
        return {"intake": entry.described() | {"partitions": sorted(self._stopped)}}

    def _worst_of_connections(self) -> dict[str, Any]:
        """Return the connections that are not well: the worst of their lanes, and how many."""
        names = sorted(self.lanes_told_of())
        return {"connections": found} if (found := dict(self._unwell_connections(names))) else {}

    def _unwell_connections(self, names: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        for name in names:
            states = self.lane(name, LaneStatus.FLOWING)
            state = next((state for state in WORST_FIRST if state in states), LaneStatus.FLOWING)
            if state != LaneStatus.FLOWING:
                oldest = min(states[state], key=lambda entry: entry.since_ms)
                yield name, oldest.described() | {"partitions": len(states[state])}

    def _stall_of(self, partition: str) -> dict[str, Any]:
        """Return why a partition is not read any further; ready it is all the same."""
        stall = self._stalled.get(partition)
        return {"stalled": stall.described()} if stall is not None else {}

    def _unwell_lanes(self, partition: str) -> dict[str, Any]:
        lanes = {
            lane: entry.described()
            for lane, entry in sorted(self.lanes.get(partition, {}).items())
            if entry.state != LaneStatus.FLOWING
        }
        return {"lanes": lanes} if lanes else {}

"""What the worker counts and measures, on a registry of its own.

Names, labels and help texts are in catalogue.py. Values are reported per poll, put or tick,
never per event; the gauges are set once a second by whoever knows them all.
"""

from collections import Counter as Tally
from collections.abc import Callable, Mapping, Sequence

import msgspec
from prometheus_client import CollectorRegistry

from forwarder.model import (
    Batch,
    Collected,
    DeadLetter,
    Outcome,
    OutcomeKind,
    Released,
)
from forwarder.ops import catalogue
from forwarder.ops.account import AtomicCounters
from forwarder.ops.definition import ConfiguredLabels, Holder
from forwarder.ops.metric_set import MetricSet
from forwarder.ops.reporter import Chore, PartitionFailure
from forwarder.ops.series import Labels

_NO_CONNECTIONS = ConfiguredLabels()

CONNECTION_GAUGES = (
    catalogue.OPEN_WINDOWS,
    catalogue.WINDOW_BYTES,
    catalogue.OLDEST_WINDOW,
    catalogue.OUTBOX_LAG_BATCHES,
    catalogue.OUTBOX_LAG_BYTES,
    catalogue.OUTBOX_LAG_SECONDS,
    catalogue.LANE_LATE,
)
"""What is known of every connection that a worker delivers."""


class ConnectionGauges(msgspec.Struct):
    """How one connection stands now, over all partitions of this worker."""

    open_windows: int = 0
    window_bytes: int = 0
    oldest_window_seconds: float = 0.0
    lag_batches: int = 0
    lag_bytes: int = 0
    lag_seconds: float = 0.0
    late: bool = False
    rate: float | None = None


class PartitionGauges(msgspec.Struct):
    """How far one partition is behind its end, in records, and how many identities it remembers."""

    read_lag: int = 0
    commit_lag: int = 0
    identities: int = 0


class _ConnectionLabels(dict[str, Labels]):
    """The labels of a connection's series by its name; of a name that no connection has, others."""

    def __missing__(self, lane: str) -> Labels:
        """Return those of any other name; it is not remembered."""
        return (lane and catalogue.UNKNOWN_CONNECTION,)


class Metrics(MetricSet):
    """The metrics of one worker on a registry of their own. Caller: app, worker, partitions."""

    def __init__(
        self,
        version: str,
        registry: CollectorRegistry | None = None,
        known: ConfiguredLabels = _NO_CONNECTIONS,
    ) -> None:
        """Register every metric of the catalogue on ``registry``; each takes one of these.

        ``known``: label values that exist from the start. ``version``: shown as a label.
        """
        super().__init__(catalogue.DEFINITIONS, version, registry, known)
        atomic = [it for it in catalogue.DEFINITIONS if it.holder is Holder.ATOMIC]
        self.account = AtomicCounters(atomic, known, self.registry)
        self._scraped.append(self.account.scraped)
        self._connection_labels = _ConnectionLabels((name, (name,)) for name in known.connections)
        self._lane_states: dict[str, set[str]] = {}
        for lane in known.retired:
            self.lane_unknown(lane)

    # ------------------------------------------------------------------ collecting

    def collected(self, topic: str, collected: Collected) -> None:
        """Report one poll, or one slice of expired windows."""
        account = self.account
        account.add(catalogue.RECORDS, (topic,), collected.records)
        account.add(catalogue.RECORD_BYTES, (topic,), collected.bytes)
        for outcome, count in collected.outcome_records.items():
            account.add(catalogue.ACCOUNTED_RECORDS, (topic, outcome.value), count)
        for outcome, count in collected.outcome_bytes.items():
            account.add(catalogue.ACCOUNTED_RECORD_BYTES, (topic, outcome.value), count)
        for it, counts in (
            (catalogue.EVENTS_ROUTED, collected.routed),
            (catalogue.EVENTS_ACCEPTED, collected.accepted),
            (catalogue.EVENTS_TAKEN_OVER, collected.taken_over),
        ):
            account.add_each(it, counts, self._connection_labels)
        for filtered, count in collected.filtered.items():
            account.add(catalogue.EVENTS_FILTERED, filtered, count)
        self._counter(catalogue.REPLAYED_RECORDS, topic).inc(collected.replayed)
        self._counter(catalogue.UPLOADS, topic).inc(collected.uploads)
        self._counter(catalogue.EVENTS, topic).inc(collected.events)
        self._counter(catalogue.DUPLICATE_EVENTS, topic).inc(collected.duplicates)
        self._counter(catalogue.TOMBSTONES, topic).inc(collected.tombstones)
        self._counter(catalogue.UNMATCHED_UPLOADS, topic).inc(collected.unmatched)
        for reason, count in collected.unused.items():
            self._counter(catalogue.UNUSED_UPLOADS, topic, reason.value).inc(count)
        for (lane, why), count in collected.closed.items():
            self._counter(catalogue.WINDOWS_CLOSED, lane, why.value).inc(count)
        made = Tally((batch.lane, batch.reason.value) for batch in collected.batches)
        for closed, count in made.items():
            self._counter(catalogue.BATCHES_CLOSED, *closed).inc(count)

    def dead_letters(self, letters: Sequence[tuple[str, DeadLetter]]) -> None:
        """Report dead letters that are committed, each under its connection's label."""
        tally = Tally((letter.reason.value, label) for label, letter in letters)
        for values, count in tally.items():
            self._counter(catalogue.DEAD_LETTERS, *values).inc(count)
        for label, letter in letters:
            if label:
                self.account.add(catalogue.EVENTS_DEAD_LETTERED, (label,), letter.events)

    def taken_over(self, lane: str, events: int) -> None:
        """Report events that another opening accepted, and that wait here from now on."""
        self.account.add(catalogue.EVENTS_TAKEN_OVER, (self.connection_label(lane),), events)

    def passed_over(self, lane: str, events: int) -> None:
        """Report events that are dropped undelivered."""
        self.account.add(catalogue.EVENTS_PASSED_OVER, (lane,), events)

    def released(self, topic: str, what: Released) -> None:
        """Report what an opening that has ended left behind."""
        self.account.add(catalogue.UNCOMMITTED_RECORD_BYTES, (topic,), what.bytes)
        for lane, events in what.events.items():
            self.account.add(
                catalogue.EVENTS_RELEASED, (self.connection_label(lane), what.cause.value), events
            )

    def watch_waiting_events(self, measure: Callable[[], Mapping[str, int]]) -> None:
        """Have measured at every scrape how many events wait, by connection."""

        def named() -> dict[str, int]:
            found = dict.fromkeys([*self._known.connections, catalogue.UNKNOWN_CONNECTION], 0)
            for lane, count in measure().items():
                found[self.connection_label(lane)] += count
            return found

        self.account.watch(named)

    def freeze(self) -> None:
        """Note how everything stands that has to add up; called on the loop, before a scrape."""
        self.account.freeze()

    def connection_label(self, lane: str) -> str:
        """Return the label of a connection; a header may name any, and none is made of those."""
        return self._connection_labels[lane][0]

    def tick(self, seconds: float, result: str) -> None:
        """Report one tick: ``committed``, or the name of the error that ended it."""
        self._counter(catalogue.TICKS, result).inc()
        self._histogram(catalogue.TICK_SECONDS).observe(seconds)

    def reopened(self, cause: str) -> None:
        """Report that a partition is opened again after a failure of the class ``cause``."""
        self._counter(catalogue.PARTITION_REOPENS, cause).inc()

    def partition_failed(self, reason: PartitionFailure) -> None:
        """Report that a partition failed, or could not be opened."""
        self._counter(catalogue.PARTITION_FAILURES, reason.value).inc()

    def chore_failed(self, chore: Chore) -> None:
        """Report that a chore failed, and is begun anew."""
        self._counter(catalogue.CHORES_FAILED, chore.value).inc()

    def lane_unknown(self, lane: str) -> None:
        """Have a counter of partitions on which this lane is going to be forgotten."""
        self._counter(catalogue.LANES_FORGOTTEN, lane)  # it is made when it is asked for

    def lane_forgotten(self, lane: str) -> None:
        """Report that a lane was left out of a partition's snapshot."""
        self._counter(catalogue.LANES_FORGOTTEN, lane).inc()

    def recovered(self, seconds: float) -> None:
        """Report the first committed tick after a failure ``seconds`` ago."""
        self._histogram(catalogue.RECOVERY_SECONDS).observe(seconds)

    def intake_stopped(self, *, stopped: bool) -> None:
        """Set whether any partition is kept from being collected."""
        self._gauge(catalogue.INTAKE_STOPPED).set(stopped)

    def rebalanced(self) -> None:
        """Report a rebalance of the group."""
        self._counter(catalogue.REBALANCES).inc()

    # ------------------------------------------------------------------ delivering

    def put(self, lane: str, seconds: float, outcomes: Sequence[Outcome]) -> None:
        """Report one call of the sink and its answers."""
        self._histogram(catalogue.PUT_SECONDS, lane).observe(seconds)
        failed = [o for o in outcomes if o.kind is not OutcomeKind.DELIVERED]
        if not failed:  # as mostly
            return
        for (kind, code), count in Tally((o.kind.value, o.code) for o in failed).items():
            self._counter(catalogue.PUT_ERRORS, lane, kind, code).inc(count)

    def delivered(self, lane: str, batches: Sequence[Batch], now_ms: int) -> None:
        """Report acknowledged batches; ``now_ms`` is the wall clock."""
        self._counter(catalogue.BATCHES_DELIVERED, lane).inc(len(batches))
        events = sum([batch.count for batch in batches])
        self.account.add(catalogue.EVENTS_DELIVERED, (lane,), events)
        self._counter(catalogue.DELIVERED_BYTES, lane).inc(
            sum([len(batch.payload) for batch in batches])
        )
        # A producer's clock may be ahead of ours: no freshness is below zero.
        ages = [
            (now_ms - batch.record_ms) / 1000 if now_ms > batch.record_ms else 0.0
            for batch in batches
        ]
        self._distributions[catalogue.FRESHNESS.name].observe(lane, ages)

    # ------------------------------------------------------------------ how things stand

    def set_connections(self, gauges: Mapping[str, ConnectionGauges]) -> None:
        """Set the gauges of every connection; those not named are exported no more."""
        for lane, now in gauges.items():
            self._gauge(catalogue.OPEN_WINDOWS, lane).set(now.open_windows)
            self._gauge(catalogue.WINDOW_BYTES, lane).set(now.window_bytes)
            self._gauge(catalogue.OLDEST_WINDOW, lane).set(now.oldest_window_seconds)
            self._gauge(catalogue.OUTBOX_LAG_BATCHES, lane).set(now.lag_batches)
            self._gauge(catalogue.OUTBOX_LAG_BYTES, lane).set(now.lag_bytes)
            self._gauge(catalogue.LANE_LATE, lane).set(now.late)
            self._gauge(catalogue.OUTBOX_LAG_SECONDS, lane).set(now.lag_seconds)
            if now.rate is not None:
                self._gauge(catalogue.PUT_RATE, lane).set(now.rate)
        self._keep_only({(lane,) for lane in gauges}, *CONNECTION_GAUGES)
        limited = {(lane,) for lane, now in gauges.items() if now.rate is not None}
        self._keep_only(limited, catalogue.PUT_RATE)

    def set_partitions(self, gauges: Mapping[tuple[str, str], PartitionGauges]) -> None:
        """Set all by (topic, number); those of partitions not named are exported no more."""
        for partition, now in gauges.items():
            self._gauge(catalogue.READ_LAG, *partition).set(now.read_lag)
            self._gauge(catalogue.COMMIT_LAG, *partition).set(now.commit_lag)
            self._gauge(catalogue.DUPLICATE_IDENTITIES, *partition).set(now.identities)
        self._keep_only(
            gauges, catalogue.READ_LAG, catalogue.COMMIT_LAG, catalogue.DUPLICATE_IDENTITIES
        )

    def set_read_stalled(self, seconds: Mapping[tuple[str, str, str], float]) -> None:
        """Set by (topic, number, reason) for how long a position stands; others go."""
        for partition, now in seconds.items():
            self._gauge(catalogue.READ_STALLED, *partition).set(now)
        self._keep_only(seconds, catalogue.READ_STALLED)

    def set_partition_states(self, counts: Mapping[str, int]) -> None:
        """Set how many partitions are in each state."""
        for (state,) in list(self._numbers[catalogue.PARTITIONS.name]):
            if state not in counts:  # an alert needs to see a state end
                self._gauge(catalogue.PARTITIONS, state).set(0)
        for state, count in counts.items():
            self._gauge(catalogue.PARTITIONS, state).set(count)

    def set_lane_states(self, lane: str, states: Mapping[str, tuple[int, float]]) -> None:
        """Set on how many partitions a lane is in each state, and since when (Unix seconds).

        A state that ended counts zero, for an alert needs to see that.
        """
        known = self._lane_states.setdefault(lane, set())
        for state in known - states.keys():
            self._gauge(catalogue.LANES, lane, state).set(0)
            self._numbers[catalogue.LANE_SINCE.name].pop((lane, state), None)
        for state, (count, since) in states.items():
            self._gauge(catalogue.LANES, lane, state).set(count)
            self._gauge(catalogue.LANE_SINCE, lane, state).set(since)
        known.update(states)

    def set_orphan_lanes(self, left: Mapping[str, float]) -> None:
        """Set for how many seconds unknown lanes that hold the commit are kept; others go."""
        for lane, seconds in left.items():
            self._gauge(catalogue.UNKNOWN_LANE_SECONDS, lane).set(seconds)
            self.lane_unknown(lane)
        self._keep_only({(lane,) for lane in left}, catalogue.UNKNOWN_LANE_SECONDS)

    def set_window_memory(self, size: int) -> None:
        """Set about how many bytes all windows take."""
        self._gauge(catalogue.WINDOW_MEMORY).set(size)

"""What the worker counts and measures, on a registry of its own.

Names, labels and help texts are in catalogue.py. Values are reported per poll, put or tick,
never per event; the gauges are set once a second by whoever knows them all.
"""

from collections import Counter as Tally
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

import msgspec
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.openmetrics import exposition as openmetrics_exposition
from prometheus_client.registry import Collector

from forwarder.model import (
    Batch,
    Collected,
    DeadLetter,
    Outcome,
    OutcomeKind,
    Released,
)
from forwarder.ops import catalogue, log_writer
from forwarder.ops.account import Account
from forwarder.ops.catalogue import Definition, Known
from forwarder.ops.distribution import Distribution
from forwarder.ops.reporter import Chore, PartitionFailure

FRESHNESS_BOUNDS = (0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600, 14400, 86400)
PUT_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
RECOVERY_BOUNDS = (0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 900, 3600)
TICK_BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
LAG_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30)

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
CONTENT_TYPE_OPENMETRICS = openmetrics_exposition.CONTENT_TYPE_LATEST

# They would add a series to every counter, and say when the process began over and over.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no types there

M = TypeVar("M", bound=MetricWrapperBase)

_NOBODY = Known()

_ACCOUNTED = (
    catalogue.RECORDS,
    catalogue.RECORD_BYTES,
    catalogue.OUTCOME_RECORDS,
    catalogue.OUTCOME_BYTES,
    catalogue.UNCOMMITTED_BYTES,
    catalogue.ROUTED,
    catalogue.FILTERED,
    catalogue.ACCEPTED,
    catalogue.TAKEN_OVER,
    catalogue.EVENTS_DELIVERED,
    catalogue.DEAD_LETTER_EVENTS,
    catalogue.PASSED_OVER,
    catalogue.RELEASED,
)
"""What the equations of docs/reliability.md are about, beside what waits."""


class _Children(dict[tuple[str, ...], M], Generic[M]):
    """A metric by label values; each child is resolved once, for labels() costs 1.9 µs."""

    def __init__(self, metric: M) -> None:
        super().__init__()
        self._metric = metric

    def __missing__(self, values: tuple[str, ...]) -> M:
        child = self[values] = self._metric.labels(*values)
        return child

    def begin(self, wanted: Iterable[tuple[str, ...]]) -> None:
        """Have these series from now on: whoever watches for growth has to see the 0 before it."""
        for values in wanted:
            self[values]  # it is made when it is asked for

    def keep(self, wanted: Collection[tuple[str, ...]]) -> None:
        """Remove the series of everything not ``wanted``, so that no old value is exported."""
        for values in [known for known in self if known not in wanted]:
            self._metric.remove(*values)
            del self[values]


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
    """How far one partition is behind its end, in records."""

    read_lag: int = 0
    commit_lag: int = 0


class Metrics:
    """The metrics of one worker on a registry of their own. Caller: app, worker, partitions."""

    def __init__(
        self,
        version: str,
        registry: CollectorRegistry | None = None,
        known: Known = _NOBODY,
    ) -> None:
        """Register everything; each registry takes one of these. ``known``: what is configured."""
        self.registry = registry or CollectorRegistry()
        self._known = known
        ProcessCollector(registry=self.registry)
        self.registry.register(_DroppedLines())
        self.account = Account(_ACCOUNTED, catalogue.EVENTS_WAITING, known, self.registry)
        self._replayed = self._counters(catalogue.REPLAYED)
        self._uploads = self._counters(catalogue.UPLOADS)
        self._events = self._counters(catalogue.EVENTS)
        self._tombstones = self._counters(catalogue.TOMBSTONES)
        self._unmatched = self._counters(catalogue.UNMATCHED)
        self._unused = self._counters(catalogue.UNUSED)
        self._windows_closed = self._counters(catalogue.WINDOWS_CLOSED)
        self._batches_closed = self._counters(catalogue.BATCHES_CLOSED)
        self._dead_letters = self._counters(catalogue.DEAD_LETTERS)
        self._ticks = self._counters(catalogue.TICKS)
        self._reopens = self._counters(catalogue.REOPENS)
        self._partition_failures = self._counters(catalogue.PARTITION_FAILURES)
        self._chore_failures = self._counters(catalogue.CHORE_FAILURES)
        self._rebalances = Counter(
            catalogue.REBALANCES.name, catalogue.REBALANCES.advice, registry=self.registry
        )
        self._lanes_forgotten = self._counters(catalogue.LANES_FORGOTTEN)
        for lane in known.retired:
            self.lane_unknown(lane)
        self._batches_delivered = self._counters(catalogue.BATCHES_DELIVERED)
        self._bytes_delivered = self._counters(catalogue.BYTES_DELIVERED)
        self._put_errors = self._counters(catalogue.PUT_ERRORS)
        self._partitions = self._gauges(catalogue.PARTITIONS)
        self._read_lag = self._gauges(catalogue.READ_LAG)
        self._commit_lag = self._gauges(catalogue.COMMIT_LAG)
        self._read_stalled = self._gauges(catalogue.READ_STALLED)
        self._lanes = self._gauges(catalogue.LANES)
        self._lane_since = self._gauges(catalogue.LANE_SINCE)
        self._lane_late = self._gauges(catalogue.LANE_LATE)
        self._put_rate = self._gauges(catalogue.PUT_RATE)
        self._lag_bytes = self._gauges(catalogue.OUTBOX_LAG_BYTES)
        self._lag_batches = self._gauges(catalogue.OUTBOX_LAG_BATCHES)
        self._lag_seconds = self._gauges(catalogue.OUTBOX_LAG_SECONDS)
        self._open_windows = self._gauges(catalogue.OPEN_WINDOWS)
        self._window_bytes = self._gauges(catalogue.WINDOW_BYTES)
        self._oldest_window = self._gauges(catalogue.OLDEST_WINDOW)
        self._unknown_lanes = self._gauges(catalogue.UNKNOWN_LANE_SECONDS)
        self._window_memory = Gauge(
            catalogue.WINDOW_MEMORY.name, catalogue.WINDOW_MEMORY.advice, registry=self.registry
        )
        self._intake = Gauge(
            catalogue.INTAKE_STOPPED.name, catalogue.INTAKE_STOPPED.advice, registry=self.registry
        )
        self._tick_seconds = self._histogram(catalogue.TICK_SECONDS, TICK_BOUNDS)
        self._recovery = self._histogram(catalogue.RECOVERY_SECONDS, RECOVERY_BOUNDS)
        self._loop_lag = self._histogram(catalogue.LOOP_LAG, LAG_BOUNDS)
        self._put_seconds = _Children(self._histogram(catalogue.PUT_SECONDS, PUT_BOUNDS))
        self._put_seconds.begin(catalogue.series(catalogue.PUT_SECONDS, known))
        self._freshness = Distribution(
            catalogue.FRESHNESS.name,
            catalogue.FRESHNESS.advice,
            catalogue.FRESHNESS.labels[0],
            FRESHNESS_BOUNDS,
            self.registry,
        )
        for (lane,) in catalogue.series(catalogue.FRESHNESS, known):
            self._freshness.observe(lane, ())
        self._gauges(catalogue.INFO)[version,].set(1)

    def render(self, *, openmetrics: bool = False) -> bytes:
        """Return everything in the text format that Prometheus scrapes, or as OpenMetrics 1.0."""
        if openmetrics:
            text: bytes = openmetrics_exposition.generate_latest(self.registry)  # type: ignore[no-untyped-call]  # the library has no types there
            return text
        return generate_latest(self.registry)

    # ------------------------------------------------------------------ collecting

    def collected(self, topic: str, collected: Collected) -> None:
        """Report one poll, or one slice of expired windows."""
        account = self.account
        account.add(catalogue.RECORDS, (topic,), collected.records)
        account.add(catalogue.RECORD_BYTES, (topic,), collected.bytes)
        for outcome, count in collected.outcome_records.items():
            account.add(catalogue.OUTCOME_RECORDS, (topic, outcome.value), count)
        for outcome, count in collected.outcome_bytes.items():
            account.add(catalogue.OUTCOME_BYTES, (topic, outcome.value), count)
        for it, counts in (
            (catalogue.ROUTED, collected.routed),
            (catalogue.ACCEPTED, collected.accepted),
            (catalogue.TAKEN_OVER, collected.taken_over),
        ):
            for lane, count in counts.items():
                account.add(it, (self.connection_label(lane),), count)
        for filtered, count in collected.filtered.items():
            account.add(catalogue.FILTERED, filtered, count)
        self._replayed[topic,].inc(collected.replayed)
        self._uploads[topic,].inc(collected.uploads)
        self._events[topic,].inc(collected.events)
        self._tombstones[topic,].inc(collected.tombstones)
        self._unmatched[topic,].inc(collected.unmatched)
        for reason, count in collected.unused.items():
            self._unused[topic, reason.value].inc(count)
        for (lane, why), count in collected.closed.items():
            self._windows_closed[lane, why.value].inc(count)
        made = Tally((batch.lane, batch.reason.value) for batch in collected.batches)
        for closed, count in made.items():
            self._batches_closed[closed].inc(count)

    def dead_letters(self, letters: Sequence[tuple[str, DeadLetter]]) -> None:
        """Report dead letters that are committed, each under its connection's label."""
        tally = Tally((letter.reason.value, label) for label, letter in letters)
        for values, count in tally.items():
            self._dead_letters[values].inc(count)
        for label, letter in letters:
            if label:
                self.account.add(catalogue.DEAD_LETTER_EVENTS, (label,), letter.events)

    def taken_over(self, lane: str, events: int) -> None:
        """Report events that another opening accepted, and that wait here from now on."""
        self.account.add(catalogue.TAKEN_OVER, (self.connection_label(lane),), events)

    def passed_over(self, lane: str, events: int) -> None:
        """Report events that are dropped undelivered."""
        self.account.add(catalogue.PASSED_OVER, (lane,), events)

    def released(self, topic: str, what: Released) -> None:
        """Report what an opening that has ended left behind."""
        self.account.add(catalogue.UNCOMMITTED_BYTES, (topic,), what.bytes)
        for lane, events in what.events.items():
            self.account.add(
                catalogue.RELEASED, (self.connection_label(lane), what.cause.value), events
            )

    def watch_waiting_events(self, measure: Callable[[], Mapping[str, int]]) -> None:
        """Have measured at every scrape how many events wait, by connection."""

        def named() -> dict[str, int]:
            found = dict.fromkeys([*self._known.connections, catalogue.UNKNOWN], 0)
            for lane, count in measure().items():
                found[self.connection_label(lane)] += count
            return found

        self.account.watch(named)

    def freeze(self) -> None:
        """Note how everything stands that has to add up; called on the loop, before a scrape."""
        self.account.freeze()

    def connection_label(self, lane: str) -> str:
        """Return the label of a connection; a header may name any, and none is made of those."""
        return lane if not lane or lane in self._known.connections else catalogue.UNKNOWN

    def tick(self, seconds: float, result: str) -> None:
        """Report one tick: ``committed``, or the name of the error that ended it."""
        self._ticks[result,].inc()
        self._tick_seconds.observe(seconds)

    def reopened(self, cause: str) -> None:
        """Report that a partition is opened again after a failure of the class ``cause``."""
        self._reopens[cause,].inc()

    def partition_failed(self, reason: PartitionFailure) -> None:
        """Report that a partition failed, or could not be opened."""
        self._partition_failures[reason.value,].inc()

    def chore_failed(self, chore: Chore) -> None:
        """Report that a chore failed, and is begun anew."""
        self._chore_failures[chore.value,].inc()

    def lane_unknown(self, lane: str) -> None:
        """Have a counter of partitions on which this lane is going to be forgotten."""
        self._lanes_forgotten.begin([(lane,)])

    def lane_forgotten(self, lane: str) -> None:
        """Report that a lane was left out of a partition's base."""
        self._lanes_forgotten[lane,].inc()

    def recovered(self, seconds: float) -> None:
        """Report the first committed tick after a failure ``seconds`` ago."""
        self._recovery.observe(seconds)

    def intake_stopped(self, *, stopped: bool) -> None:
        """Set whether any partition is kept from being collected."""
        self._intake.set(stopped)

    def rebalanced(self) -> None:
        """Report a rebalance of the group."""
        self._rebalances.inc()

    # ------------------------------------------------------------------ delivering

    def put(self, lane: str, seconds: float, outcomes: Sequence[Outcome]) -> None:
        """Report one call of the sink and its answers."""
        self._put_seconds[lane,].observe(seconds)
        failed = Tally(
            (o.kind.value, o.code) for o in outcomes if o.kind is not OutcomeKind.DELIVERED
        )
        for (kind, code), count in failed.items():
            self._put_errors[lane, kind, code].inc(count)

    def delivered(self, lane: str, batches: Sequence[Batch], now_ms: int) -> None:
        """Report acknowledged batches; ``now_ms`` is the wall clock."""
        self._batches_delivered[lane,].inc(len(batches))
        events = sum(batch.count for batch in batches)
        self.account.add(catalogue.EVENTS_DELIVERED, (lane,), events)
        self._bytes_delivered[lane,].inc(sum(len(batch.payload) for batch in batches))
        # A producer's clock may be ahead of ours: no freshness is below zero.
        ages = (max(0, now_ms - batch.record_ms) / 1000 for batch in batches)
        self._freshness.observe(lane, ages)

    # ------------------------------------------------------------------ how things stand

    def set_connections(self, gauges: Mapping[str, ConnectionGauges]) -> None:
        """Set the gauges of every connection; those not named are exported no more."""
        for lane, now in gauges.items():
            self._open_windows[lane,].set(now.open_windows)
            self._window_bytes[lane,].set(now.window_bytes)
            self._oldest_window[lane,].set(now.oldest_window_seconds)
            self._lag_batches[lane,].set(now.lag_batches)
            self._lag_bytes[lane,].set(now.lag_bytes)
            self._lane_late[lane,].set(now.late)
            self._lag_seconds[lane,].set(now.lag_seconds)
            if now.rate is not None:
                self._put_rate[lane,].set(now.rate)
        self._put_rate.keep({(lane,) for lane, now in gauges.items() if now.rate is not None})
        wanted: set[tuple[str, ...]] = {(lane,) for lane in gauges}
        for children in (self._open_windows, self._window_bytes, self._oldest_window):
            children.keep(wanted)
        for children in (self._lag_batches, self._lag_bytes, self._lag_seconds, self._lane_late):
            children.keep(wanted)

    def set_partitions(self, gauges: Mapping[tuple[str, str], PartitionGauges]) -> None:
        """Set the lags by (topic, number); those of partitions not named are exported no more."""
        for partition, now in gauges.items():
            self._read_lag[partition].set(now.read_lag)
            self._commit_lag[partition].set(now.commit_lag)
        for children in (self._read_lag, self._commit_lag):
            children.keep(set(gauges))

    def set_read_stalled(self, seconds: Mapping[tuple[str, str, str], float]) -> None:
        """Set by (topic, number, reason) for how long a position stands; others go."""
        for partition, now in seconds.items():
            self._read_stalled[partition].set(now)
        self._read_stalled.keep(set(seconds))

    def set_partition_states(self, counts: Mapping[str, int]) -> None:
        """Set how many partitions are in each state."""
        _set_all(self._partitions, {(state,): count for state, count in counts.items()})

    def set_lane_states(self, lane: str, states: Mapping[str, tuple[int, float]]) -> None:
        """Set on how many partitions a lane is in each state, and since when (Unix seconds).

        A state that ended counts zero, for an alert needs to see that.
        """
        for values in [known for known in self._lanes if known[0] == lane]:
            if values[1] not in states:
                self._lanes[values].set(0)
        for state, (count, since) in states.items():
            self._lanes[lane, state].set(count)
            self._lane_since[lane, state].set(since)
        gone = {known for known in self._lane_since if known[0] == lane and known[1] not in states}
        self._lane_since.keep(self._lane_since.keys() - gone)

    def set_orphan_lanes(self, left: Mapping[str, float]) -> None:
        """Set for how many seconds unknown lanes that hold the commit are kept; others go."""
        for lane, seconds in left.items():
            self._unknown_lanes[lane,].set(seconds)
            self.lane_unknown(lane)
        self._unknown_lanes.keep({(lane,) for lane in left})

    def set_window_memory(self, size: int) -> None:
        """Set about how many bytes all windows take."""
        self._window_memory.set(size)

    def loop_lag(self, seconds: float) -> None:
        """Report how late a heartbeat of the event loop came."""
        self._loop_lag.observe(seconds)

    # ------------------------------------------------------------------ making them

    def _counters(self, it: Definition) -> _Children[Counter]:
        children = _Children(Counter(it.name, it.advice, it.labels, registry=self.registry))
        children.begin(catalogue.series(it, self._known))
        return children

    def _gauges(self, it: Definition) -> _Children[Gauge]:
        return _Children(Gauge(it.name, it.advice, it.labels, registry=self.registry))

    def _histogram(self, it: Definition, bounds: Sequence[float]) -> Histogram:
        return Histogram(it.name, it.advice, it.labels, registry=self.registry, buckets=bounds)


class _DroppedLines(Collector):
    """What the log's writer counts itself: it may be told of by any thread, at any moment."""

    def collect(self) -> Iterator[Metric]:
        """Yield the family as it stands."""
        it = catalogue.LOG_LINES_DROPPED
        yield CounterMetricFamily(it.name, it.advice, value=log_writer.dropped())


def _set_all(children: _Children[Gauge], counts: Mapping[tuple[str, ...], int]) -> None:
    """Set what is counted and zero the rest: an alert needs to see a state end."""
    for values in children.keys() - counts.keys():
        children[values].set(0)
    for values, count in counts.items():
        children[values].set(count)

"""Every metric of the worker; those of the gateway are in gateway_catalogue.py.

docs/metrics.md is made from both by ``make docs``.
"""

from msgspec.structs import replace

from forwarder.errors import FencedError, JournalError
from forwarder.model import (
    CloseReason,
    Reason,
    RecordOutcome,
    ReleaseCause,
    Unused,
)
from forwarder.ops.definition import Definition, Holder, atomic, counter, gauge, histogram
from forwarder.ops.reporter import COMMITTED, Chore, PartitionFailure

UNKNOWN_CONNECTION = "(unknown)"
"""Label of what came back for a connection that is not configured: a header may say any name."""

TICK_ERRORS = (JournalError.__name__, FencedError.__name__)
"""Names of the errors that end a tick."""

RECORDS = atomic(
    "records",
    "topic",
    "Records in, each offset once: from where a partition's last owner had committed on. Flat "
    "while forwarder_read_lag_records grows: look at forwarder_partitions.",
)
RECORD_BYTES = atomic("record_bytes", "topic", "Bytes of the values of these records.")
ACCOUNTED_RECORDS = atomic(
    "accounted_records",
    "topic outcome",
    "Where these records went; together they are forwarder_records_total. routed: to a connection "
    "at least, whose settings decide about each event. unmatched: to none. context_only: an "
    "upload without events. rejected: a dead letter. tombstone: there is no value. A record of "
    "several uploads counts where its first one went.",
    outcome=tuple(RecordOutcome),
)
ACCOUNTED_RECORD_BYTES = atomic(
    "accounted_record_bytes",
    "topic outcome",
    "The bytes of these records by where they went; together they are "
    "forwarder_record_bytes_total. Of a record with several uploads, each further one has the "
    "bytes of its events and its context, the first one all the rest. A tombstone has none.",
    outcome=tuple(RecordOutcome),
)
UNCOMMITTED_RECORD_BYTES = atomic(
    "uncommitted_record_bytes",
    "topic",
    "Bytes of records that were counted and not committed, because a tick failed or the partition "
    "was lost: they are read once more, here or by another worker, and count again. "
    "forwarder_record_bytes_total less these is what was committed.",
)
REPLAYED_RECORDS = counter(
    "replayed_records",
    "topic",
    "Records below where the last owner had committed, read once more to build open windows again. "
    "Nothing else counts them. Many after every restart: see journal.base_interval.",
)
UPLOADS = counter("uploads", "topic", "Uploads decoded; a record may hold several.")
EVENTS = counter("events", "topic", "Events in, before routing and filters.")
DUPLICATE_EVENTS = counter(
    "duplicate_events",
    "topic",
    "Events dropped because the same had come before, within kafka.topics[].duplicates: what "
    "clients sent again. They are among forwarder_events_total, and under setting=duplicates in "
    "what each connection has filtered. Many at once: clients did not get their answers.",
)
TOMBSTONES = counter("tombstones", "topic", "Records without a value, stepped over.")
UNMATCHED_UPLOADS = counter(
    "unmatched_uploads",
    "topic",
    "Uploads that no connection matches. Unexpectedly many: compare the match of the connections "
    "with environment, package, platform and API key of what is sent.",
)
UNUSED_UPLOADS = counter(
    "unused_uploads",
    "topic reason",
    "Uploads without events that touched no open window of any connection and became no document: "
    "nothing came of them. events_empty: a heartbeat of an SDK. events_missing: there is no key "
    "events; many of them are perhaps not uploads at all, and a record of nothing else counts "
    "for limits.rejected_percent.",
    reason=tuple(Unused),
)
EVENTS_ROUTED = atomic(
    "events_routed",
    "connection",
    "Events of uploads that a connection's match wants; they are accepted or filtered.",
    more=(UNKNOWN_CONNECTION,),
)
EVENTS_ACCEPTED = atomic(
    "events_accepted",
    "connection",
    "Events that wait in a window or left it, and those that became dead letters instead.",
    more=(UNKNOWN_CONNECTION,),
)
EVENTS_FILTERED = atomic(
    "events_filtered",
    "connection setting",
    "Events left out, by the setting that said so; status: the connection is inactive; "
    "test_events: Pinpoint's _test.event_stream, which is never forwarded.",
)
EVENTS_TAKEN_OVER = atomic(
    "events_taken_over",
    "connection",
    "Events that another opening of the partition accepted, here or on another worker, and that "
    "wait here now: windows that were restored or built again, batches read from the outbox.",
    more=(UNKNOWN_CONNECTION,),
)
EVENTS_RELEASED = atomic(
    "events_released",
    "connection cause",
    "Events that waited here when an opening of a partition ended: whoever opens it next takes "
    "them over. moved: a rebalance or a stop. failed: a tick failed, or its outcome is unknown.",
    more=(UNKNOWN_CONNECTION,),
    cause=tuple(ReleaseCause),
)
EVENTS_PASSED_OVER = atomic(
    "events_passed_over",
    "connection",
    "Events dropped undelivered because their batches were closed before deliver_from.",
)
EVENTS_DEAD_LETTERED = atomic(
    "events_dead_lettered",
    "connection",
    "Events in dead letters of the connection: forwarder_dead_letters_total counts the letters.",
    more=(UNKNOWN_CONNECTION,),
)
EVENTS_WAITING = gauge(
    "events_waiting",
    "connection",
    "Events that wait here: in open windows, for the next tick, for delivery. Of what another "
    "owner had in the outbox, what was read from there by now.",
)
EVENTS_WAITING = replace(EVENTS_WAITING, holder=Holder.ATOMIC)
WINDOWS_CLOSED = counter(
    "windows_closed",
    "connection reason",
    "Windows closed, by close reason. Many with reason memory: raise limits.window_memory or add "
    "workers.",
    reason=tuple(CloseReason),
)
BATCHES_CLOSED = counter(
    "batches_closed",
    "connection reason",
    "Batches made, by close reason. More than windows closed: windows were split to fit "
    "sink.max_record_bytes.",
    reason=tuple(CloseReason),
)
DEAD_LETTERS = counter(
    "dead_letters",
    "reason connection",
    "Dead letters committed. Any growth: read the dead letter topic, whose header error says what "
    "was wrong; connection is empty for what no connection could have used.",
    more=("", UNKNOWN_CONNECTION),
    reason=tuple(Reason),
)
TICKS = counter(
    "ticks",
    "result",
    "Journal transactions, by result. Growth of anything but committed: see the log for "
    "partition.reopens; FencedError alone is a partition that moved to another worker.",
    result=(COMMITTED, *TICK_ERRORS),
)
TICK_SECONDS = histogram(
    "tick_seconds",
    "",
    (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    "How long a tick took, commit included. Above a second for long: the brokers are slow, "
    "acknowledgements are stored late and more is repeated after a crash.",
)
PARTITION_REOPENS = counter(
    "partition_reopens",
    "cause",
    "Partitions opened again after a failure. Growing steadily: the brokers fail ticks; see the "
    "log for the cause.",
    cause=(*TICK_ERRORS, "other"),
)
PARTITION_FAILURES = counter(
    "partition_failures",
    "reason",
    "Openings of a partition that ended or did not succeed: fenced (another worker took over), "
    "running (a tick failed, or its outcome is unknown), opening (Kafka did not answer), setup "
    "(topics or certificates are missing), refused, fault (nobody expected it: see "
    "partition.unexpected_error in the log, and report it). It is opened again by itself; growing "
    "without forwarder_recovery_seconds_count: Kafka is away.",
    reason=tuple(PartitionFailure),
)
CHORES_FAILED = counter(
    "chores_failed",
    "chore",
    "Failures of what runs beside the main loop: clock, watchdog, gauges, heartbeat, and "
    "left_topics (left_topic.unknown in the log). It is begun anew after seconds; any growth: see "
    "chore.failed in the log, and report it.",
    chore=tuple(Chore),
)
RECOVERY_SECONDS = histogram(
    "recovery_seconds",
    "",
    (0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 900, 3600),
    "From the failure of a partition to its next committed tick, an outage of Kafka included. "
    "More than 10 s beyond the outage: the brokers are overloaded, or the state to read is large.",
)
REBALANCES = counter(
    "rebalances",
    "",
    "Assignments this worker was given. Growing without a deploy or a scaling: workers are killed "
    "or too busy to answer the group, or two share one kafka.group_instance_id.",
)
PARTITIONS = gauge(
    "partitions",
    "state",
    "Partitions of this worker by state. Any refused: /readyz and the log say what contradicts "
    "itself and what to do. Opening for minutes: Kafka does not answer, or commits nothing; "
    "/readyz has the reason.",
)
INTAKE_STOPPED = gauge(
    "intake_stopped",
    "",
    "1 while the circuit breaker keeps partitions of this worker from being collected, because "
    "more records were rejected than limits.rejected_percent: nothing is lost, everything waits. "
    "The log (intake.stopped) and /readyz say what to do.",
)
READ_LAG = gauge(
    "read_lag_records",
    "topic partition",
    "Records not read yet, up to the high watermark: what waits behind a producer's open "
    "transaction is among them. Scale workers on this one. Growing on some partitions only: see "
    "forwarder_read_stalled_seconds.",
)
READ_STALLED = gauge(
    "read_stalled_seconds",
    "topic partition reason",
    "For how long a partition has not been read any further although its log goes on, by what "
    "holds it; absent where it moves. Alert on it. /readyz and the log (input.stalled) say which "
    "transaction is open, or what else to mend.",
)
COMMIT_LAG = gauge(
    "commit_lag_records",
    "topic partition",
    "Records not settled yet, up to the high watermark: open windows are among them, so it is "
    "never zero while devices are active. Do not scale on it. Older than a few windows: see "
    "forwarder_oldest_window_seconds.",
)
DUPLICATE_IDENTITIES = gauge(
    "duplicate_identities",
    "topic partition",
    "Identities within the window of kafka.topics[].duplicates, which what comes may repeat: some "
    "155 bytes each, part of forwarder_window_memory_bytes. At 2,000,000 the oldest are forgotten "
    "before their time: add partitions, or shorten the window.",
)
BATCHES_DELIVERED = counter("batches_delivered", "connection", "Batches acknowledged.")
EVENTS_DELIVERED = atomic("events_delivered", "connection", "Events out: acknowledged.")
DELIVERED_BYTES = counter("delivered_bytes", "connection", "Payload bytes acknowledged.")
FRESHNESS = histogram(
    "freshness_seconds",
    "connection",
    (0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600, 14400, 86400),
    "Record time of a batch's newest upload to its acknowledgement. About batching.max_age when "
    "all is well; far above it: see the outbox and read lags.",
)
FRESHNESS = replace(FRESHNESS, holder=Holder.DISTRIBUTION)
PUT_SECONDS = histogram(
    "put_seconds",
    "connection",
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    "How long a call of the sink took, failed ones included. Seconds: the destination or the way "
    "to it is slow.",
)
PUT_ERRORS = counter(
    "put_errors",
    "connection kind code",
    "Batches that a put did not deliver. Kind throttled: add shards; transient: retried by itself; "
    "configuration: the lane is paused until somebody mends what the log names; refused: a dead "
    "letter.",
)
LANES = gauge(
    "lanes",
    "connection state",
    "Lanes (one per connection and partition) by state. Paused or stopped above zero: /readyz and "
    "the log give the reason and the remedy.",
)
LANE_SINCE = gauge(
    "lane_since_timestamp_seconds",
    "connection state",
    "Unix time since when a lane of the connection is in this state, the earliest of this worker's "
    "partitions; no value where none is. Paused for long: somebody has to mend what /readyz names.",
)
OUTBOX_LAG_BATCHES = gauge(
    "outbox_lag_batches",
    "connection",
    "Batches committed and not acknowledged. Growing: the destination takes less than comes in.",
)
OUTBOX_LAG_BYTES = gauge(
    "outbox_lag_bytes",
    "connection",
    "Payload bytes committed and not acknowledged: what the destination has still to take.",
)
OUTBOX_LAG_SECONDS = gauge(
    "outbox_lag_seconds",
    "connection",
    "Age of the oldest batch not acknowledged. Alert well before journal.outbox_retention: after "
    "that, batches expire unsent.",
)
LANE_LATE = gauge(
    "lane_late",
    "connection",
    "1 while the oldest batch not acknowledged is older than half of what the outbox keeps "
    "(retention.ms of its topic). Mend the destination, raise the retention before it is over, or "
    "give the backlog up with deliver_from.",
)
PUT_RATE = gauge(
    "put_rate_shards",
    "connection",
    "What a throttled destination was found to take, in shards of 1,000 records and 1 MB a second: "
    "all of it, or the slowest of its shards. There only while puts are held back; if it stays, "
    "the stream needs more shards, or the account a higher quota.",
)
OPEN_WINDOWS = gauge("open_windows", "connection", "Windows open, about one per active device.")
WINDOW_BYTES = gauge(
    "window_bytes",
    "connection",
    "Bytes of events waiting in windows. Near limits.window_memory: raise it or add workers.",
)
OLDEST_WINDOW = gauge(
    "oldest_window_seconds",
    "connection",
    "Age of the oldest open window. Above max_age (session_max with whole sessions): windows do "
    "not close, and the commit waits for them.",
)
WINDOW_MEMORY = gauge(
    "window_memory_bytes",
    "",
    "Estimate of the memory that open windows take, compressed as they are, with what is kept of "
    "closed ones, and identities that events may repeat. At limits.window_memory windows close "
    "early: raise it or add workers.",
)
UNKNOWN_LANE_SECONDS = gauge(
    "unknown_lane_seconds",
    "connection",
    "A connection that is not configured here any more holds the commit back; so many seconds "
    "until it is dropped with what it has not delivered. Removed for good: name it in "
    "journal.retired. By mistake: bring it back.",
)
LANES_FORGOTTEN = counter(
    "lanes_forgotten",
    "connection",
    "Partitions on which a connection that is not configured any more was dropped "
    "(journal.lane_ttl, journal.retired); the log says what it had not delivered.",
    connection=(),
)
LOG_LINES_DROPPED = counter(
    "log_lines_dropped",
    "",
    "Lines of the log that could not be written: nobody reads its pipe, its reader has gone, or "
    "its disk is full. Nothing else suffers from it; mend what reads the log, in which "
    "log.dropped says how many lines are missing where.",
)
LOG_LINES_DROPPED = replace(LOG_LINES_DROPPED, holder=Holder.LOG)
LOOP_LAG = histogram(
    "loop_lag_seconds",
    "",
    (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30),
    "How late the event loop's one-second heartbeat came. Often above 0.25: the process is short "
    "of CPU; give it a whole core.",
)
BUILD_INFO = gauge(
    "build_info",
    "version core",
    "Always 1; the labels tell the version that runs, and whether with the native core "
    "(`native 0.1.0`) or in pure Python (`python`), which takes more CPU for the same.",
)

DEFINITIONS = tuple(it for it in list(globals().values()) if isinstance(it, Definition))

"""Every metric of the gateway; those of the worker are in catalogue.py."""

from enum import StrEnum

from msgspec.structs import replace

from forwarder.ops import catalogue
from forwarder.ops.definition import Definition, Holder, counter, gauge, histogram
from forwarder.ops.gateway_reporter import EventOutcome, StoreCall

NO_OPERATION = "none"
"""Label of requests that mean no operation: unknown paths, preflights, what is not HTTP."""

OPERATIONS = (
    "PutEvents",
    "UpdateEndpoint",
    "UpdateEndpointsBatch",
    "GetEndpoint",
    "DeleteEndpoint",
    "GetUserEndpoints",
    "DeleteUserEndpoints",
    "GetApps",
    "GetApp",
    "GetEventStream",
    "PutEventStream",
    "DeleteEventStream",
    "UploadEvents",
    "BulkUploadEvents",
    NO_OPERATION,
)
"""Operations of both APIs by their names in the APIs' models."""

STATUSES = tuple(map(str, (200, 202, 204, 400, 401, 403, 404, 405, 408, 413, 429, 431, 500, 503)))
"""What is answered at all."""


class Refusal(StrEnum):
    """Why a request or a connection was refused before any operation saw it."""

    MALFORMED = "malformed"
    HEAD_SIZE = "head_size"
    HEAD_TIME = "head_time"
    BODY_SIZE = "body_size"
    BODY_TIME = "body_time"
    CONTENT = "content"
    """Its type or its encoding is none that is read here, or it is not what its encoding says."""
    CREDENTIALS = "credentials"
    ROUTE = "route"
    """No such path, or no such method there."""
    BUSY = "busy"
    MEMORY = "memory"
    CONNECTIONS = "connections"


REQUESTS = counter(
    "gateway_requests",
    "operation status",
    "Requests answered, by HTTP's status; what became of each event of a PutEvents is in its "
    "answer's body. 500 or 503 growing: /readyz says what is down. 429: see "
    "forwarder_gateway_refusals_total.",
    operation=OPERATIONS,
    status=STATUSES,
)
REQUEST_BYTES = counter(
    "gateway_request_bytes",
    "operation",
    "Bytes of the bodies of these requests as they came, compressed ones compressed.",
    operation=OPERATIONS,
)
ANSWER_SECONDS = replace(
    histogram(
        "gateway_answer_seconds",
        "operation",
        (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
        "From a request's last byte to its answer. Mostly Kafka's acknowledgement, and the "
        "endpoint store. Seconds: one of them is slow, or the process short of CPU (see "
        "forwarder_loop_lag_seconds).",
    ),
    holder=Holder.DISTRIBUTION,
    values={"operation": OPERATIONS},
)
REFUSALS = counter(
    "gateway_refusals",
    "reason",
    "Requests and connections refused before any operation saw them. busy: more than "
    "limits.concurrent_requests; memory: limits.buffered_bytes is reached: add gateways, or see "
    "what is slow. connections: the oldest idle ones made room for new ones. credentials: wrong "
    "or missing ones; head_time, body_time, malformed, head_size: broken or hostile clients.",
    reason=tuple(Refusal),
)
OPEN_CONNECTIONS = gauge("gateway_open_connections", "", "Connections of clients, idle ones too.")
REQUESTS_UNDER_WAY = gauge(
    "gateway_under_way",
    "",
    "Requests that are being carried out. At limits.concurrent_requests the next are refused: "
    "Kafka or the endpoint store is slow, or there are too few gateways.",
)
BUFFERED_BYTES = gauge(
    "gateway_buffered_bytes",
    "",
    "Bytes of requests held in memory, read or being read. Near limits.buffered_bytes: as with "
    "forwarder_gateway_under_way.",
)

EVENTS = counter(
    "gateway_events",
    "app outcome",
    "Events of requests that were carried out, by app (of mParticle's API by input's environment), "
    "and by what became of each: accepted ones are in Kafka. invalid, too_large: the client's "
    "fault, which its answer names. full, unavailable, store: it will send them again; /readyz "
    "says what is down.",
    outcome=tuple(EventOutcome),
)
ENDPOINT_UPDATES = counter(
    "gateway_endpoint_updates",
    "app outcome",
    "Updates of endpoints, those within PutEvents too. refused: they break a rule or a limit, or "
    "the store did not answer.",
    outcome=("accepted", "refused"),
)
APPENDED_RECORDS = counter(
    "gateway_appended_records", "topic", "Records that Kafka has acknowledged (acks=all)."
)
APPENDED_BYTES = counter("gateway_appended_bytes", "topic", "Bytes of these records.")
APPEND_SECONDS = replace(
    histogram(
        "gateway_append_seconds",
        "topic",
        (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
        "How long Kafka took to acknowledge a batch. Seconds: the brokers are slow, or out of "
        "replicas; clients wait as long.",
    ),
    holder=Holder.DISTRIBUTION,
)
PRODUCER_FAILURES = counter(
    "gateway_producer_failures",
    "",
    "Times that Kafka took nothing, or one of its partitions did not. It is tried again by itself; "
    "/readyz and the log (producer.failed) say what to mend.",
)

STORE_SECONDS = replace(
    histogram(
        "gateway_store_seconds",
        "call",
        (
            0.0001,
            0.00025,
            0.0005,
            0.001,
            0.0025,
            0.005,
            0.01,
            0.025,
            0.05,
            0.1,
            0.25,
            0.5,
            1,
            2.5,
            5,
        ),
        "How long the endpoint store took to answer. A merge that changes nothing costs no disk; "
        "one that does waits for an fsync, in PostgreSQL for a round trip too. Above 0.1: the disk "
        "or the database is slow (docs/endpoints.md has figures).",
    ),
    holder=Holder.DISTRIBUTION,
    values={"call": tuple(StoreCall)},
)
STORE_FAILURES = counter(
    "gateway_store_failures",
    "call",
    "Calls that the endpoint store did not answer; clients got 500 and will send again. /readyz "
    "and the log (store.failed) say why, and what to do.",
    call=tuple(StoreCall),
)

SHARED = (catalogue.LOG_LINES_DROPPED, catalogue.LOOP_LAG, catalogue.BUILD_INFO)
"""Metrics of every process."""

DEFINITIONS = (*(it for it in list(globals().values()) if isinstance(it, Definition)), *SHARED)

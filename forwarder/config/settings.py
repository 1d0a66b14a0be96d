"""The typed content of config/forwarder.yaml: durations in milliseconds, sizes in bytes."""

from dataclasses import dataclass, field
from enum import StrEnum

from forwarder.config.connection import Connection


class Start(StrEnum):
    """Where a group that has never committed begins."""

    EARLIEST = "earliest"
    LATEST = "latest"


class SecurityProtocol(StrEnum):
    """How brokers are talked to."""

    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"
    SASL_SSL = "SASL_SSL"


class Mechanism(StrEnum):
    """How the worker proves who it is."""

    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"
    AWS_MSK_IAM = "AWS_MSK_IAM"


@dataclass(frozen=True, slots=True)
class Security:
    """Transport and authentication towards Kafka; files are absolute paths.

    ``region`` and ``role_arn`` are those of AWS_MSK_IAM.
    """

    protocol: SecurityProtocol = SecurityProtocol.PLAINTEXT
    mechanism: Mechanism | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    key_password: str | None = field(default=None, repr=False)
    region: str | None = None
    role_arn: str | None = None


INPUT_FORMATS = ("mparticle", "pinpoint")
"""What ``topics[].format`` may be: the input formats of ``formats.registry``."""

DUPLICATES_MS = {"mparticle": 0, "pinpoint": 600_000}
"""How far apart two records with one identity are duplicates, by input format; 0: never."""


@dataclass(frozen=True, slots=True)
class InputTopic:
    """One input topic; ``format`` names what its records hold, and so which decoder reads them.

    ``duplicates_ms``: an event is dropped whose identity stands in an older record, at most so much
    older; 0: none is.
    """

    name: str
    format: str = INPUT_FORMATS[0]
    duplicates_ms: int = 0


@dataclass(frozen=True, slots=True)
class Kafka:
    """Broker, group and topics."""

    bootstrap_servers: tuple[str, ...]
    topics: tuple[InputTopic, ...]
    group_id: str = "forwarder"
    group_instance_id: str | None = None
    session_timeout_ms: int = 30_000
    start: Start = Start.EARLIEST
    dead_letter_topic: str = "forwarder-dead-letters"
    max_unpacked_batch: int = 67_108_864
    security: Security = Security()


def outbox_topic(group: str, topic: str) -> str:
    """Name the topic of an input topic's closed batches."""
    return f"{group}.outbox.{topic}"


def state_topic(group: str, topic: str) -> str:
    """Name the topic of an input topic's state."""
    return f"{group}.state.{topic}"


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """How outbox and state are kept."""

    tick_ms: int = 1_000
    base_interval_ms: int = 600_000
    outbox_retention_ms: int = 604_800_000
    lane_ttl_ms: int = 86_400_000
    retired: tuple[str, ...] = ()
    retired_topics: tuple[str, ...] = ()
    create_topics: bool = True
    replication_factor: int = -1


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Where /metrics, /livez and /readyz listen."""

    host: str = "0.0.0.0"  # noqa: S104  # probes and scrapers come from outside the pod
    port: int = 9464


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """Memory bounds in bytes; the share of rejected records that stops the intake, in percent."""

    window_memory: int = 536_870_912
    in_flight: int = 67_108_864
    rejected_percent: int = 50


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Level and form of the log."""

    level: str = "info"
    format: str = "json"


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything a worker is told."""

    kafka: Kafka
    connections: tuple[Connection, ...]
    journal: JournalSettings = JournalSettings()
    server: ServerSettings = ServerSettings()
    limits: LimitSettings = LimitSettings()
    drain_timeout_ms: int = 25_000
    log: LogSettings = LogSettings()

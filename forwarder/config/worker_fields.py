"""The description of forwarder.yaml: every key once, for reading and showing."""

from forwarder.config import checks
from forwarder.config.gateway_fields import GATEWAY, check_beside_worker
from forwarder.config.kafka_fields import KAFKA
from forwarder.config.settings import (
    Configuration,
    JournalSettings,
    LimitSettings,
    LogSettings,
    ServerSettings,
)
from forwarder.config.yaml.sections import Field, ListValue, Section, SectionValues
from forwarder.config.yaml.units import DurationValue, IntegerValue, SizeValue
from forwarder.config.yaml.values import EnumValue, FlagValue, NullableValue, TextValue

_SECOND, _MINUTE, _HOUR, _DAY = 1_000, 60_000, 3_600_000, 86_400_000
_MIB = 1 << 20


def _base_after_tick(section: SectionValues) -> None:
    tick, base = section.get("tick"), section.get("base_interval")
    if tick and base and base < tick:
        section.fault("base_interval", "is shorter than journal.tick; give it at least one tick")


def _kept_long(section: SectionValues) -> None:
    if (section.get("outbox_retention") or _DAY) < _DAY:
        what = "is less than a day: batches a destination has not taken by then are lost to it"
        section.note("outbox_retention", what)


def _no_replication(section: SectionValues) -> None:
    if section.get("replication_factor") == 0:
        section.fault(
            "replication_factor", "must be -1 or at least 1, is 0; -1 is the broker's default"
        )


def _no_topic_twice(section: SectionValues) -> None:
    """Judge that no topic is read and given up at once."""
    kafka, journal = section.get("kafka"), section.get("journal")
    read = {topic.get("name") for topic in (kafka.get("topics") or ())} if kafka else set()
    retired = (journal.get("retired_topics") or ()) if journal else ()
    nodes = journal.nodes["retired_topics"].elements("topics") if journal and retired else []
    for name, element in zip(retired, nodes, strict=True):
        if name in read:
            element.fault(f"{name} is in kafka.topics, too; delete one of them")


JOURNAL = Section(
    JournalSettings,
    (
        Field(
            "tick",
            DurationValue(100, 5 * _SECOND),
            "How often closed batches and acknowledgements are committed.",
        ),
        Field(
            "base_interval",
            DurationValue(_SECOND, _DAY),
            "How often the whole state is written; a restart reads again up to two of them.",
        ),
        Field(
            "outbox_retention",
            DurationValue(_MINUTE, 3_650 * _DAY),
            "How long closed batches are kept, delivered or not.",
        ),
        Field(
            "lane_ttl",
            DurationValue(_MINUTE, 365 * _DAY),
            "How long a connection that no worker knows any more holds its place.",
        ),
        Field(
            "retired",
            ListValue(
                TextValue(
                    "a connection's name",
                    check=checks.connection_name_complaint,
                    form=checks.CONNECTION_NAME,
                )
            ),
            "Connections gone for good: their place is given up at once.",
        ),
        Field(
            "retired_topics",
            ListValue(
                TextValue("a topic", check=checks.kafka_name_complaint, form=checks.KAFKA_NAME)
            ),
            "Input topics gone for good: what is left of them is neither read nor delivered.",
        ),
        Field(
            "create_topics",
            FlagValue(),
            "Create missing topics; false: verify them, and print what is missing.",
        ),
        Field(
            "replication_factor",
            IntegerValue(-1, 32_767),
            "Of the topics the worker creates; -1: the broker's default.",
        ),
    ),
    checks=(_base_after_tick, _kept_long, _no_replication),
    schema_rules={
        "not": {
            "type": "object",
            "properties": {"replication_factor": {"const": 0}},
            "required": ["replication_factor"],
        }
    },
)

SERVER = Section(
    ServerSettings,
    (
        Field(
            "host",
            TextValue("an address to listen on"),
            "The address /metrics, /livez and /readyz listen on.",
        ),
        Field("port", IntegerValue(0, 65_535), "Their port; 0: any free one."),
    ),
)

LIMITS = Section(
    LimitSettings,
    (
        Field("window_memory", SizeValue(_MIB, 1 << 40), "Memory for open windows."),
        Field("in_flight", SizeValue(_MIB, 1 << 40), "Memory for batches being put."),
        Field(
            "rejected_percent",
            IntegerValue(0, 100),
            "More rejected records than this, of the last minute's or the last 1,000, stop the "
            "intake; 0: never.",
        ),
    ),
)

LOG = Section(
    LogSettings,
    (
        Field(
            "level",
            EnumValue(("debug", "info", "warning", "error")),
            "The least level that is logged.",
        ),
        Field("format", EnumValue(("json", "console")), "json for machines, console for people."),
    ),
)


WORKER = Section(
    Configuration,
    (
        Field("kafka", KAFKA, "Broker, group and topics."),
        Field(
            "connections",
            TextValue("a folder"),
            "The folder of connection files, relative to this file; every *.yaml in it is one.",
            default="connections",
        ),
        Field("journal", JOURNAL, "How closed batches and state are kept in Kafka."),
        Field("server", SERVER, "Where metrics and probes are served."),
        Field("limits", LIMITS, "Memory bounds, and what stops the intake."),
        Field(
            "drain_timeout",
            DurationValue(_SECOND, _HOUR),
            "How long a stop may take; keep it below the pod's termination grace period.",
        ),
        Field("log", LOG, "Level and form of the log."),
        Field(
            "gateway",
            NullableValue(GATEWAY),
            "What `forwarder gateway` serves; null: nothing.",
            default=None,
            stored=False,
        ),
    ),
    checks=(_no_topic_twice, check_beside_worker),
)

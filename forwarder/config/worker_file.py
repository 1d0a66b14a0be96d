"""The description of forwarder.yaml: every key once, for reading and showing."""

from forwarder.config import checks
from forwarder.config.amounts import Duration, Size, Whole
from forwarder.config.kinds import Choice, Flag, Location, Nullable, Text
from forwarder.config.settings import (
    Configuration,
    InputTopic,
    JournalSettings,
    Kafka,
    Limits,
    Log,
    Mechanism,
    Security,
    SecurityProtocol,
    Server,
    Start,
)
from forwarder.config.shapes import Field, ListOf, Named, Section, Sheet

_SECOND, _MINUTE, _HOUR, _DAY = 1_000, 60_000, 3_600_000, 86_400_000
_MIB = 1 << 20

_SASL = ("mechanism", "username", "password")
_FILES = ("ca_file", "cert_file", "key_file")


def _security(sheet: Sheet) -> None:
    protocol = sheet.get("protocol")
    if protocol is None:
        return
    if protocol.startswith("SASL"):
        for name in _SASL:
            if not sheet.has(name):
                sheet.fault(name, f"is missing; protocol {protocol} needs {', '.join(_SASL)}")
    else:
        _not_used(sheet, _SASL, f"{protocol} does not log in; set protocol SASL_SSL, or delete it")
    if not protocol.endswith("SSL"):
        _not_used(sheet, _FILES, f"{protocol} is not encrypted; set an SSL protocol, or delete it")
    elif sheet.has("cert_file") != sheet.has("key_file"):
        name, other = _FILES[1:] if sheet.has("key_file") else reversed(_FILES[1:])
        sheet.fault(name, f"is missing; it belongs to {other}, give both or neither")
    if protocol is SecurityProtocol.SASL_PLAINTEXT:
        sheet.note("protocol", "sends the password in clear with PLAIN; SASL_SSL does not")


def _not_used(sheet: Sheet, names: tuple[str, ...], why: str) -> None:
    for name in names:
        if sheet.has(name):
            sheet.fault(name, f"is not used: protocol {why}")


SECURITY = Section(
    Security,
    (
        Field("protocol", Choice(SecurityProtocol), "How brokers are talked to."),
        Field("mechanism", Nullable(Choice(Mechanism)), "How the worker logs in; only with SASL."),
        Field("username", Nullable(Text("a user name")), "Who logs in; only with SASL."),
        Field(
            "password",
            Nullable(Text("a password", secret=True)),
            "Best as ${NAME} or ${file:PATH}; only with SASL.",
        ),
        Field(
            "ca_file",
            Nullable(Location("a PEM file", file=True)),
            "Authorities that sign brokers' certificates; null: the system's. Only with SSL.",
        ),
        Field(
            "cert_file",
            Nullable(Location("a PEM file", file=True)),
            "The worker's certificate; only with SSL.",
        ),
        Field("key_file", Nullable(Location("a PEM file", file=True)), "Its private key."),
    ),
    checks=(_security,),
)

TOPIC = Section(
    InputTopic,
    (
        Field("name", Text("a topic", check=checks.kafka_name), "The name of the topic."),
        Field("format", Choice(("mparticle",)), "What its records hold."),
    ),
)


def outbox_topic(group: str, topic: str) -> str:
    """Name the topic of an input topic's closed batches."""
    return f"{group}.outbox.{topic}"


def state_topic(group: str, topic: str) -> str:
    """Name the topic of an input topic's state."""
    return f"{group}.state.{topic}"


def _topics(sheet: Sheet) -> None:
    """Judge the names together: Kafka keeps no two apart that differ in ``.`` and ``_`` alone."""
    taken: dict[str, str] = {}
    group = sheet.get("group_id")
    listed = [topic for topic in sheet.get("topics") or () if topic.get("name")]
    for topic in listed:
        _claim(topic, "name", topic.get("name"), taken)
    dead = sheet.get("dead_letter_topic")
    if dead:
        _claim(sheet, "dead_letter_topic", dead, taken)
    for topic in listed if group else ():
        for derived in (
            outbox_topic(group, topic.get("name")),
            state_topic(group, topic.get("name")),
        ):
            _fit(topic, derived, taken)


def _claim(sheet: Sheet, key: str, name: str, taken: dict[str, str]) -> None:
    folded = name.replace(".", "_")
    other = taken.get(folded)
    if other is None:
        taken[folded] = name
    elif other == name:
        sheet.fault(key, f"{name} is a topic that is read already; choose another, or delete it")
    else:
        what = f"{name} differs from {other} in . and _ alone, which Kafka does not keep apart"
        sheet.fault(key, f"{what}; rename one of them")


def _fit(topic: Sheet, derived: str, taken: dict[str, str]) -> None:
    if len(derived) > checks.LONGEST_TOPIC:
        what = f"makes the topic …{derived[-40:]} longer than {checks.LONGEST_TOPIC} characters"
        topic.fault("name", f"{what} ({len(derived)}); shorten it, or kafka.group_id")
    other = taken.get(derived.replace(".", "_"))
    if other:
        what = f"needs the topic {derived} for the journal, which {other} stands in the way of"
        topic.fault("name", f"{what}; rename one of them, or kafka.group_id")


KAFKA = Section(
    Kafka,
    (
        Field(
            "bootstrap_servers",
            ListOf(Text("HOST:PORT", check=checks.broker), 1),
            "Brokers to begin with, each HOST:PORT.",
        ),
        Field(
            "group_id",
            Text("a group", check=checks.kafka_name),
            "The consumer group; the journal's topics and transactions begin with it.",
        ),
        Field(
            "group_instance_id",
            Nullable(Text("an instance id", check=checks.kafka_name)),
            'Static membership, where pods have stable names: "${HOSTNAME}" of a StatefulSet.',
        ),
        Field(
            "session_timeout",
            Duration(6 * _SECOND, 30 * _MINUTE),
            "How long a silent worker stays in the group.",
        ),
        Field(
            "topics",
            ListOf(Named(TOPIC, "a topic's name, or {name: …, format: mparticle}"), 1),
            "The input topics: names, or mappings of name and format.",
        ),
        Field(
            "start",
            Choice(Start),
            "Where a group that has never committed begins: earliest or latest.",
        ),
        Field(
            "dead_letter_topic",
            Text("a topic", check=checks.kafka_name),
            "Where records go that cannot be processed.",
        ),
        Field("security", SECURITY, "Transport and login."),
    ),
    checks=(_topics,),
)


def _base_after_tick(sheet: Sheet) -> None:
    tick, base = sheet.get("tick"), sheet.get("base_interval")
    if tick and base and base < tick:
        sheet.fault("base_interval", "is shorter than journal.tick; give it at least one tick")


def _kept_long(sheet: Sheet) -> None:
    if (sheet.get("outbox_retention") or _DAY) < _DAY:
        what = "is less than a day: batches a destination has not taken by then are lost to it"
        sheet.note("outbox_retention", what)


def _no_replication(sheet: Sheet) -> None:
    if sheet.get("replication_factor") == 0:
        sheet.fault(
            "replication_factor", "must be -1 or at least 1, is 0; -1 is the broker's default"
        )


JOURNAL = Section(
    JournalSettings,
    (
        Field(
            "tick",
            Duration(100, 5 * _SECOND),
            "How often closed batches and acknowledgements are committed.",
        ),
        Field(
            "base_interval",
            Duration(_SECOND, _DAY),
            "How often the whole state is written; a restart reads again up to two of them.",
        ),
        Field(
            "outbox_retention",
            Duration(_MINUTE, 3_650 * _DAY),
            "How long closed batches are kept, delivered or not.",
        ),
        Field(
            "lane_ttl",
            Duration(_MINUTE, 365 * _DAY),
            "How long a connection that no worker knows any more holds its place.",
        ),
        Field(
            "retired",
            ListOf(Text("a connection's name", check=checks.label)),
            "Connections gone for good: their place is given up at once.",
        ),
        Field(
            "create_topics",
            Flag(),
            "Create missing topics; false: verify them, and print what is missing.",
        ),
        Field(
            "replication_factor",
            Whole(-1, 32_767),
            "Of the topics the worker creates; -1: the broker's default.",
        ),
    ),
    checks=(_base_after_tick, _kept_long, _no_replication),
)

SERVER = Section(
    Server,
    (
        Field(
            "host",
            Text("an address to listen on"),
            "The address /metrics, /livez and /readyz listen on.",
        ),
        Field("port", Whole(0, 65_535), "Their port; 0: any free one."),
    ),
)

LIMITS = Section(
    Limits,
    (
        Field("window_memory", Size(_MIB, 1 << 40), "Memory for open windows."),
        Field("in_flight", Size(_MIB, 1 << 40), "Memory for batches being put."),
    ),
)

LOG = Section(
    Log,
    (
        Field(
            "level",
            Choice(("debug", "info", "warning", "error")),
            "The least level that is logged.",
        ),
        Field("format", Choice(("json", "console")), "json for machines, console for people."),
    ),
)


WORKER = Section(
    Configuration,
    (
        Field("kafka", KAFKA, "Broker, group and topics."),
        Field(
            "connections",
            Text("a folder"),
            "The folder of connection files, relative to this file; every *.yaml in it is one.",
            default="connections",
        ),
        Field("journal", JOURNAL, "How closed batches and state are kept in Kafka."),
        Field("server", SERVER, "Where metrics and probes are served."),
        Field("limits", LIMITS, "Memory bounds."),
        Field(
            "drain_timeout",
            Duration(_SECOND, _HOUR),
            "How long a stop may take; keep it below the pod's termination grace period.",
        ),
        Field("log", LOG, "Level and form of the log."),
    ),
)

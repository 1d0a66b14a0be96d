"""The topics and rights the worker needs: what they must be like, and what is missing."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from forwarder.config.settings import Configuration, outbox_topic, state_topic
from forwarder.kafka.producer import MESSAGE_BYTES

BROKER_MESSAGE_BYTES = 1_048_588
"""Kafka's own default of ``max.message.bytes``."""

LIMIT = "max.message.bytes"
_READ = ("Read", "Describe", "DescribeConfigs")
_WRITE = ("Read", "Write", "Describe", "DescribeConfigs")


@dataclass(frozen=True, slots=True)
class Need:
    """One topic: how many partitions at least, with which settings, for which operations."""

    topic: str
    partitions: int
    operations: tuple[str, ...]
    settings: Mapping[str, str] = field(default_factory=dict)
    own: bool = True


class Mark(StrEnum):
    """What became of one need."""

    OK = "ok"
    MISSING = "MISSING"
    WRONG = "WRONG"
    DENIED = "DENIED"
    UNKNOWN = "needed"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the list that is printed."""

    mark: Mark
    text: str


def needs(
    settings: Configuration, counts: Mapping[str, int], inputs: Collection[str] | None = None
) -> list[Need]:
    """Return every topic needed where the input topics have ``counts`` partitions.

    With ``inputs``, only what these input topics need.
    """
    kafka, found = settings.kafka, []
    may_create = ("Create", "Alter") if settings.journal.create_topics else ()
    kept = {"cleanup.policy": "delete", "retention.bytes": "-1", LIMIT: str(MESSAGE_BYTES)}
    for name in (topic.name for topic in kafka.topics):
        if inputs is not None and name not in inputs:
            continue
        count = max(counts.get(name, 0), 1)
        retention = str(settings.journal.outbox_retention_ms)
        found += [
            Need(name, count, _READ, own=False),
            Need(
                outbox_topic(kafka.group_id, name),
                count,
                _WRITE + may_create,
                kept | {"retention.ms": retention},
            ),
            Need(
                state_topic(kafka.group_id, name),
                count,
                (*_WRITE, "Delete", *may_create),
                kept | {"retention.ms": "-1"},
            ),
        ]
    letters = ("Write", "Describe", "DescribeConfigs", *may_create)
    return [*found, Need(kafka.dead_letter_topic, 1, letters, {LIMIT: str(MESSAGE_BYTES)})]


def faults(need: Need, found: Mapping[str, str]) -> list[str]:
    """Return what about an existing topic of the worker's own would lose or refuse its records."""
    wrong = []
    for key, wanted in need.settings.items():
        value = found.get(key, wanted)
        if value != wanted and not _harmless(key, value, wanted):
            wrong.append(f"{key} is {value}, must be {wanted}")
    return wrong


def _harmless(key: str, value: str, wanted: str) -> bool:
    """Tell whether a topic that keeps longer, or takes larger messages, is as good."""
    if key == "cleanup.policy":
        return False
    keeps_for_ever = key.startswith("retention.") and value == "-1"
    return keeps_for_ever or (wanted != "-1" and int(value) >= int(wanted))


def rows(
    wanted: Sequence[Need],
    counts: Mapping[str, int],
    found: Mapping[str, Mapping[str, str] | str],
    letters: str,
) -> list[Row]:
    """Compare every need with what is there; ``letters`` is the users' own dead-letter topic."""
    return [row for need in wanted for row in _compare(need, counts, found, letters)]


def _compare(
    need: Need,
    counts: Mapping[str, int],
    found: Mapping[str, Mapping[str, str] | str],
    letters: str,
) -> list[Row]:
    name = f"topic {need.topic}"
    asked = found.get(need.topic, {})
    if isinstance(asked, str) and "Authorization" in asked:
        return [Row(Mark.DENIED, f"{name}: DescribeConfigs is refused")]
    if need.topic not in counts:
        return [Row(Mark.MISSING, f"{name}: {_wanted(need)}")]
    if counts[need.topic] < need.partitions:
        count = f"it has {counts[need.topic]} partitions, needs {need.partitions}"
        return [Row(Mark.WRONG, f"{name}: {count}")]
    if isinstance(asked, str) or need.topic == letters:
        return [Row(Mark.OK, name)]
    wrong = faults(need, asked)
    return [Row(Mark.WRONG, f"{name}: {text}") for text in wrong] or [Row(Mark.OK, name)]


def fault(
    need: Need,
    least: int,
    counts: Mapping[str, int],
    found: Mapping[str, Mapping[str, str] | str],
    letters: str,
) -> tuple[str, str] | None:
    """Return what is wrong with a topic that must have ``least`` partitions, and what to do."""
    for row in _compare(replace(need, partitions=least), counts, found, letters):
        if row.mark is Mark.MISSING:
            what = f"topic {need.topic} does not exist, or Describe on it is refused"
            return what, f"create it: {_wanted(need)}" if need.own else "create it or grant that"
        if row.mark is not Mark.OK:
            return row.text, _remedy(need, counts)
    return None


def _remedy(need: Need, counts: Mapping[str, int]) -> str:
    if counts[need.topic] < need.partitions:
        return f"give it {need.partitions} partitions"
    return "set that right with kafka-configs, or grant DescribeConfigs on it"


def _wanted(need: Need) -> str:
    if not need.own:
        return "it does not exist, or Describe is refused"
    settings = ", ".join(f"{key}={value}" for key, value in sorted(need.settings.items()))
    return f"{need.partitions} partitions, {settings}"


def rights(settings: Configuration, wanted: Sequence[Need], denied: set[str]) -> list[Row]:
    """Return the ACLs the worker's principal needs; those that were refused are marked."""
    group = settings.kafka.group_id
    listed = [(f"topic {need.topic}", ", ".join(need.operations), "") for need in wanted]
    listed += [
        (f"group {group}", "Read", "group"),
        (f"transactional-id {group}/ (prefixed)", "Write, Describe", "transactional-id"),
        ("cluster", "IdempotentWrite", ""),
    ]
    return [
        Row(Mark.DENIED if kind in denied else Mark.UNKNOWN, f"{name}: {operations}")
        for name, operations, kind in listed
    ]


def printed(settings: Configuration, topics: Sequence[Row], acls: Sequence[Row]) -> str:
    """Return the list for people: topics with their settings, then ACLs, one to a line."""
    lines = [f"What group {settings.kafka.group_id} needs on Kafka:"]
    lines += [f"  {row.mark.value:<8} {row.text}" for row in topics]
    lines += ["and the rights of its principal (ACLs):"]
    lines += [f"  {row.mark.value:<8} {row.text}" for row in acls]
    return "\n".join(lines)


def limit(found: Mapping[str, str] | str | None) -> int:
    """Return ``max.message.bytes`` from a topic's settings, Kafka's default where unknown."""
    if found is None or isinstance(found, str):
        return BROKER_MESSAGE_BYTES
    return int(found.get(LIMIT, BROKER_MESSAGE_BYTES))

"""The description of ``kafka`` in forwarder.yaml."""

from collections.abc import Mapping

from forwarder.config import aws_regions, certificates, checks
from forwarder.config.settings import (
    DUPLICATES_MS,
    INPUT_FORMATS,
    InputTopic,
    Kafka,
    Mechanism,
    Security,
    SecurityProtocol,
    Start,
    outbox_topic,
    state_topic,
)
from forwarder.config.yaml.sections import Field, ListValue, NameOrSection, Section, SectionValues
from forwarder.config.yaml.units import DurationValue, SizeValue
from forwarder.config.yaml.values import EnumValue, NullableValue, PathValue, Schema, TextValue

_SECOND, _MINUTE, _DAY = 1_000, 60_000, 86_400_000
_MIB = 1024 * 1024

_SASL = ("mechanism", "username", "password")
_IAM = ("region", "role_arn")
_FILES = ("ca_file", "cert_file", "key_file", "key_password")


def _check_security(section: SectionValues) -> None:
    protocol = section.get("protocol")
    if protocol is None:
        return
    if not protocol.startswith("SASL"):
        why = f"protocol {protocol} does not log in; set protocol SASL_SSL, or delete it"
        _not_used(section, (*_SASL, *_IAM), why)
    elif section.get("mechanism") is Mechanism.AWS_MSK_IAM:
        _check_iam(section)
    else:
        _check_password(section)
    if not protocol.endswith("SSL"):
        why = f"protocol {protocol} is not encrypted; set an SSL protocol, or delete it"
        _not_used(section, _FILES, why)
    elif section.has("cert_file") != section.has("key_file"):
        pair = _FILES[1:3]
        name, other = pair if section.has("key_file") else reversed(pair)
        section.fault(name, f"is missing; it belongs to {other}, give both or neither")
    elif not section.node.file.offline:
        _check_certificates(section)


def _check_certificates(section: SectionValues) -> None:
    """Open the files as the client will, unless one of them or the passphrase is not known."""
    files = {name: section.get(name) for name in _FILES}
    if any(section.has(name) and value is None for name, value in files.items()):
        return
    if section.has("key_password") and not section.has("key_file"):
        _not_used(section, ("key_password",), "there is no key_file; give it, or delete this")
        return
    for name, text in certificates.certificate_faults(**files):
        section.fault(name, text)


def _check_password(section: SectionValues) -> None:
    protocol = section.get("protocol")
    for name in _SASL:
        if not section.has(name):
            section.fault(name, f"is missing; protocol {protocol} needs {', '.join(_SASL)}")
    _not_used(section, _IAM, "it belongs to mechanism AWS_MSK_IAM; set that, or delete it")
    if protocol is SecurityProtocol.SASL_PLAINTEXT:
        section.note("protocol", "sends the password in clear with PLAIN; SASL_SSL does not")


def _check_iam(section: SectionValues) -> None:
    if not section.has("region"):
        section.fault("region", "is missing; AWS_MSK_IAM needs the AWS region of the cluster")
    if section.get("protocol") is not SecurityProtocol.SASL_SSL:
        section.fault("protocol", "would send tokens in clear; AWS_MSK_IAM needs SASL_SSL")
    _not_used(section, _SASL[1:], "AWS_MSK_IAM signs with AWS credentials; delete it")
    arn, region = section.get("role_arn"), section.get("region")
    if arn and region and arn.split(":")[1] != aws_regions.partition_name(region):
        own = aws_regions.partition_name(region)
        section.fault("role_arn", f"is of another partition than {region}; give one of arn:{own}:…")


def _not_used(section: SectionValues, names: tuple[str, ...], why: str) -> None:
    for name in names:
        if section.has(name):
            section.fault(name, f"is not used: {why}")


_ABSENT: Schema = {"type": "null"}
_GIVEN: Schema = {"type": "string"}
_PASSWORDS = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


def _rule(if_: Mapping[str, Schema], then: Mapping[str, Schema], *names: str) -> Schema:
    """Say in JSON Schema what holds for other keys where some have certain values.

    Of ``names`` those in ``if_`` must be given for it to hold, and the others are then required.
    """
    given = [name for name in names if name in if_]
    required = [name for name in names if name not in if_]
    return {
        "if": {"properties": if_, "required": given},
        "then": {"properties": then, "required": required},
    }


_RULES = {
    "allOf": [
        _rule(
            {"protocol": {"enum": ["PLAINTEXT", "SSL"]}},
            dict.fromkeys((*_SASL, *_IAM), _ABSENT),
        ),
        _rule(
            {"protocol": {"enum": ["PLAINTEXT", "SASL_PLAINTEXT"]}},
            dict.fromkeys(_FILES, _ABSENT),
        ),
        _rule(
            {"protocol": {"enum": ["SASL_PLAINTEXT", "SASL_SSL"]}},
            {"mechanism": _GIVEN},
            *("protocol", "mechanism"),
        ),
        _rule(
            {"mechanism": {"enum": _PASSWORDS}},
            {"username": _GIVEN, "password": _GIVEN, **dict.fromkeys(_IAM, _ABSENT)},
            *_SASL,
        ),
        _rule(
            {"mechanism": {"const": "AWS_MSK_IAM"}},
            {
                "protocol": {"not": {"const": "SASL_PLAINTEXT"}},
                "region": _GIVEN,
                **dict.fromkeys(_SASL[1:], _ABSENT),
            },
            *("mechanism", "region"),
        ),
        _rule({"cert_file": _GIVEN}, {"key_file": _GIVEN}, *_FILES[1:3]),
        _rule({"key_file": _GIVEN}, {"cert_file": _GIVEN}, *_FILES[1:3]),
    ]
}

SECURITY = Section(
    Security,
    (
        Field("protocol", EnumValue(SecurityProtocol), "How brokers are talked to."),
        Field(
            "mechanism",
            NullableValue(EnumValue(Mechanism)),
            "How the worker logs in; only with SASL.",
        ),
        Field("username", NullableValue(TextValue("a user name")), "Who logs in; only with SASL."),
        Field(
            "password",
            NullableValue(TextValue("a password", secret=True)),
            "Best as ${NAME} or ${file:PATH}; only with SASL.",
        ),
        Field(
            "ca_file",
            NullableValue(PathValue("a PEM file", file=True)),
            "Authorities that sign brokers' certificates; null: the system's. Only with SSL.",
        ),
        Field(
            "cert_file",
            NullableValue(PathValue("a PEM file", file=True)),
            "The worker's certificate; only with SSL.",
        ),
        Field("key_file", NullableValue(PathValue("a PEM file", file=True)), "Its private key."),
        Field(
            "key_password",
            NullableValue(TextValue("a passphrase", secret=True)),
            "Of a key that is encrypted; best as ${NAME} or ${file:PATH}.",
        ),
        Field(
            "region",
            NullableValue(TextValue("an AWS region", check=checks.region_complaint)),
            "The AWS region of the MSK cluster; only with AWS_MSK_IAM.",
        ),
        Field(
            "role_arn",
            NullableValue(
                TextValue(
                    "a role's ARN such as arn:aws:iam::111122223333:role/NAME",
                    checks.ROLE_ARN,
                    check=checks.role_arn_complaint,
                    generated=True,
                )
            ),
            "A role to assume for Kafka; null: the default AWS chain. Only with AWS_MSK_IAM.",
        ),
    ),
    checks=(_check_security,),
    schema_rules=_RULES,
)


def _topic(section: SectionValues) -> InputTopic:
    """Return the topic; how far it looks for duplicates follows from its format."""
    attributes = section.attributes()
    if attributes["duplicates_ms"] is None:
        attributes["duplicates_ms"] = DUPLICATES_MS.get(attributes["format"], 0)
    return InputTopic(**attributes)


TOPIC = Section(
    InputTopic,
    (
        Field(
            "name",
            TextValue("a topic", check=checks.kafka_name_complaint, form=checks.KAFKA_NAME),
            "The name of the topic.",
        ),
        Field(
            "format",
            EnumValue(INPUT_FORMATS),
            "What its records hold: mParticle's uploads, or Pinpoint's events as a gateway writes "
            "them.",
        ),
        Field(
            "duplicates",
            NullableValue(DurationValue(0, 7 * _DAY)),
            "An event is dropped if one with the same identity stands in an older record of its "
            "partition, at most so far apart in record time; 0s: none is. null: 10m for pinpoint, "
            "0s for mparticle.",
            default=None,
        ),
    ),
    build=_topic,
)


def _check_topic_names(section: SectionValues) -> None:
    """Judge the names together: Kafka keeps no two apart that differ in ``.`` and ``_`` alone."""
    taken: dict[str, str] = {}
    group = section.get("group_id")
    listed = [topic for topic in section.get("topics") or () if topic.get("name")]
    for topic in listed:
        _claim(topic, "name", topic.get("name"), taken)
    dead = section.get("dead_letter_topic")
    if dead:
        _claim(section, "dead_letter_topic", dead, taken)
    for topic in listed if group else ():
        outbox, state = (named(group, topic.get("name")) for named in (outbox_topic, state_topic))
        if len(outbox) > checks.MAX_TOPIC_CHARS:
            what = f"makes the outbox topic longer than {checks.MAX_TOPIC_CHARS} characters"
            topic.fault("name", f"{what} ({len(outbox)}); shorten it, or kafka.group_id")
        for derived in (outbox, state):
            _check_derived_names(topic, derived, taken)


def _claim(section: SectionValues, key: str, name: str, taken: dict[str, str]) -> None:
    folded = name.replace(".", "_")
    other = taken.get(folded)
    if other is None:
        taken[folded] = name
    elif other == name:
        section.fault(key, f"{name} is a topic that is read already; choose another, or delete it")
    else:
        what = f"{name} differs from {other} in . and _ alone, which Kafka does not keep apart"
        section.fault(key, f"{what}; rename one of them")


def _check_derived_names(topic: SectionValues, derived: str, taken: dict[str, str]) -> None:
    other = taken.get(derived.replace(".", "_"))
    if other:
        what = f"needs the topic {derived} for the journal, which {other} stands in the way of"
        topic.fault("name", f"{what}; rename one of them, or kafka.group_id")


KAFKA = Section(
    Kafka,
    (
        Field(
            "bootstrap_servers",
            ListValue(TextValue("HOST:PORT", check=checks.broker_complaint, form=checks.BROKER), 1),
            "Brokers to begin with, each HOST:PORT.",
        ),
        Field(
            "group_id",
            TextValue("a group", check=checks.kafka_name_complaint, form=checks.KAFKA_NAME),
            "The consumer group; the journal's topics and transactions begin with it.",
        ),
        Field(
            "group_instance_id",
            NullableValue(
                TextValue(
                    "an instance id", check=checks.kafka_name_complaint, form=checks.KAFKA_NAME
                )
            ),
            'Static membership, where pods have stable names: "${HOSTNAME}" of a StatefulSet.',
        ),
        Field(
            "session_timeout",
            DurationValue(6 * _SECOND, 30 * _MINUTE),
            "How long a silent worker stays in the group.",
        ),
        Field(
            "topics",
            ListValue(NameOrSection(TOPIC, "a topic's name, or {name: …, format: mparticle}"), 1),
            "The input topics: names, or mappings of name and format.",
        ),
        Field(
            "start",
            EnumValue(Start),
            "Where a group that has never committed begins: earliest or latest.",
        ),
        Field(
            "dead_letter_topic",
            TextValue("a topic", check=checks.kafka_name_complaint, form=checks.KAFKA_NAME),
            "Where records go that cannot be processed.",
        ),
        Field(
            "max_unpacked_batch",
            SizeValue(32 * _MIB, 1024 * _MIB),
            "What one compressed batch of records may become in memory; a larger one is a dead "
            "letter.",
        ),
        Field("security", SECURITY, "Transport and login."),
    ),
    checks=(_check_topic_names,),
)

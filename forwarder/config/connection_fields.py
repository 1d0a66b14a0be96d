"""The description of a connection file: every key once, for reading, showing and editors."""

from dataclasses import MISSING

from forwarder.config import aws_regions, checks
from forwarder.config.connection import Batching, BatchMode, Connection, Match, Settings, Status
from forwarder.config.credential_fields import CREDENTIALS, credentials_of, origin_of
from forwarder.config.mparticle_settings import SETTINGS
from forwarder.config.targets import (
    ONE_EVENT_FORMATS,
    PINPOINT,
    PINPOINT_EVENT_FIELDS,
    SINK_FORMATS,
    FileTarget,
    FirehoseTarget,
    KinesisTarget,
    PartitionKey,
    PutMode,
)
from forwarder.config.yaml.sections import Field, ListValue, Section, SectionValues, TaggedSections
from forwarder.config.yaml.units import DurationValue, IntegerValue, SizeValue, TimestampValue
from forwarder.config.yaml.values import (
    EnumValue,
    FlagValue,
    NullableValue,
    PathValue,
    TagValue,
    TextValue,
)

_SECOND, _MINUTE, _HOUR, _DAY = 1_000, 60_000, 3_600_000, 86_400_000

MATCH = Section(
    Match,
    (
        Field(
            "environment",
            ListValue(EnumValue(("production", "development")), 1, frozenset),
            "The environments wanted; an upload that names none is of production, as all events of "
            "Pinpoint are.",
        ),
        Field(
            "application",
            ListValue(TextValue("an application's package", identifier=True), 1, frozenset),
            "The applications wanted, by application_info.package; of Pinpoint's events by app id "
            "or AppPackageName.",
        ),
        Field(
            "platform",
            ListValue(TextValue("a platform such as ios"), 1, frozenset, str.lower),
            "The platforms wanted, by device_info.platform (of Pinpoint's events "
            "Demographic.Platform); upper and lower case are one.",
        ),
        Field(
            "api_key",
            ListValue(TextValue("an API key", masked=True), 1, frozenset),
            "The mParticle API keys wanted, never forwarded; no event of Pinpoint has one.",
        ),
        Field(
            "topic",
            ListValue(
                TextValue("a topic", check=checks.kafka_name_complaint, form=checks.KAFKA_NAME),
                1,
                frozenset,
            ),
            "The input topics wanted, by name; of the others nothing is.",
        ),
    ),
)


def _sink_notes(section: SectionValues) -> None:
    _document_notes(section)
    region, url = section.get("region"), section.get("endpoint_url")
    if region and region not in aws_regions.known_regions():
        section.note("region", "is not known to this release; right if AWS has opened it since")
    if url and checks.is_unencrypted(url):
        section.note("endpoint_url", "is not encrypted; use https:// outside a test")


def _document_notes(section: SectionValues) -> None:
    """Note keys of Pinpoint's records where documents are something else, and a missing account."""
    written = section.get("format")
    if written is None:
        return
    for name in ("app_id", "aws_account_id"):
        if written not in ONE_EVENT_FORMATS and section.has(name):
            section.note(name, f"has no effect: sink.format is {written}, not {PINPOINT}")
    if written == PINPOINT and not section.has("aws_account_id"):
        section.note("aws_account_id", "is not given: records will have no awsAccountId")


def _partition_by_endpoint(section: SectionValues) -> None:
    """Have records of Pinpoint partitioned by the endpoint, unless the file says otherwise."""
    if section.get("format") == PINPOINT and "partition_key" not in section.nodes:
        section.values["partition_key"] = PartitionKey.MPID


def _region_of_arn(section: SectionValues) -> None:
    name, region = section.get("stream_name"), section.get("region")
    if name and region and name.startswith("arn:") and name.split(":")[3] != region:
        own = name.split(":")[3]
        section.fault("region", f"is {region}, stream_name is of {own}; correct one of them")


def _account_of_arn(section: SectionValues) -> None:
    """Note a stream of another account than the role's: that needs a policy of the stream's own."""
    credentials, sink = section.get("credentials"), section.get("sink")
    name = sink.get("stream_name") if sink is not None and sink.section is KINESIS else None
    if credentials is None or not name or not name.startswith("arn:"):
        return
    arn = credentials.get("role_arn")
    account = arn.split(":")[4] if arn else credentials.get("aws_account_id")
    own = name.split(":")[4]
    if account and account != own:
        what = f"is of account {own}, the role of {account}"
        sink.note("stream_name", f"{what}; right if the stream's resource policy allows the role")


def _type(own: str) -> Field:
    about = (
        "kinesis (a Kinesis data stream), firehose (a Firehose delivery stream) or file (a folder "
        "of NDJSON files)."
    )
    return Field(
        "type", TagValue(("kinesis", "firehose", "file"), own), about, MISSING, stored=False
    )


def _document_fields() -> tuple[Field, ...]:
    return (
        Field(
            "format",
            EnumValue(SINK_FORMATS),
            "What documents are written in: mparticle, or pinpoint (records of Pinpoint's event "
            "stream, one event each).",
        ),
        Field(
            "app_id",
            NullableValue(
                TextValue(
                    "an app id: 1 to 128 of a-z A-Z 0-9 . _ -", checks.APP_ID, identifier=True
                )
            ),
            "application.app_id of pinpoint records made of mParticle's uploads; null: "
            "application_info.package.",
        ),
        Field(
            "aws_account_id",
            NullableValue(TextValue(checks.ACCOUNT_ID_ADVICE, checks.ACCOUNT_ID)),
            "awsAccountId of pinpoint records: twelve digits, in quotes; null: none is written.",
        ),
    )


def _region(of: str) -> Field:
    return Field(
        "region",
        TextValue("an AWS region", check=checks.region_complaint),
        f"The AWS region of {of}.",
    )


def _endpoint(service: str) -> Field:
    return Field(
        "endpoint_url",
        NullableValue(TextValue("a URL", check=checks.endpoint_complaint)),
        f"A VPC or FIPS endpoint; null: AWS_ENDPOINT_URL(_{service}), else AWS's own.",
    )


KINESIS = Section(
    KinesisTarget,
    (
        _type("kinesis"),
        Field(
            "stream_name",
            TextValue("a stream's name or ARN", check=checks.stream_complaint, generated=True),
            "The name of the stream, or its whole ARN: requests then name it by that.",
        ),
        _region("the stream"),
        Field(
            "partition_key",
            EnumValue(PartitionKey),
            "What spreads records over shards: device (hash of the device key), mpid (device where "
            "there is none; of Pinpoint's events the endpoint id, which is the default for format "
            "pinpoint) or batch (the message id).",
        ),
        Field(
            "max_record_bytes",
            SizeValue(1 << 10, 10 << 20),
            "The stream's record limit, data plus partition key: windows close before they "
            "outgrow it, larger batches are split.",
        ),
        Field(
            "put",
            EnumValue(PutMode),
            "The action used: record (PutRecord), records (PutRecords), or auto: PutRecords where "
            "the policy grants it, else PutRecord.",
        ),
        Field(
            "newline",
            FlagValue(),
            "Ends each document with a line end, one document a line: for a Firehose that reads "
            "the stream, and writes records one after the other without a break.",
        ),
        _endpoint("KINESIS"),
        *_document_fields(),
    ),
    checks=(_partition_by_endpoint, _sink_notes, _region_of_arn),
)

FIREHOSE = Section(
    FirehoseTarget,
    (
        _type("firehose"),
        Field(
            "delivery_stream_name",
            TextValue(
                "a delivery stream's name", check=checks.delivery_stream_complaint, generated=True
            ),
            "The name of the delivery stream.",
        ),
        _region("the delivery stream"),
        Field(
            "max_record_bytes",
            SizeValue(1 << 10, 1000 << 10),
            "The largest record, data plus the end of its line: windows close before they outgrow "
            "it, larger batches are split.",
        ),
        _endpoint("FIREHOSE"),
        *_document_fields(),
    ),
    checks=(_sink_notes,),
)

FILE = Section(
    FileTarget,
    (
        _type("file"),
        Field(
            "path",
            PathValue("a folder"),
            "The folder; the connection writes NAME.ndjson in it. Relative to this file.",
        ),
        *_document_fields(),
    ),
    checks=(_document_notes,),
)


BATCHING = Section(
    Batching,
    (
        Field(
            "max_age",
            DurationValue(100, _DAY),
            "How long after the first event of a device its batch is closed; not in session mode.",
        ),
        Field("max_events", IntegerValue(1, 1_000_000), "How many events close a batch."),
        Field(
            "session_timeout",
            DurationValue(_SECOND, _DAY),
            "How long without events ends a session.",
        ),
        Field(
            "session_grace",
            DurationValue(0, _HOUR),
            "How long after session_end late events may still join.",
        ),
        Field(
            "session_max",
            DurationValue(_SECOND, 7 * _DAY),
            "How long a session may last before it is cut.",
        ),
    ),
)


def _mode_notes(section: SectionValues) -> None:
    settings, batching, sink = section.get("settings"), section.get("batching"), section.get("sink")
    if sink is not None and sink.section is FILE and section.has("credentials"):
        section.note("credentials", "is not used: the sink is a file")
    if settings is None or batching is None:
        return
    mode = Settings(
        send_as_batch=settings.value_or_placeholder("send_as_batch"),
        wait_for_complete_batch=settings.value_or_placeholder("wait_for_complete_batch"),
    ).mode
    if sink is not None and sink.get("format") in ONE_EVENT_FORMATS:
        mode = BatchMode.SINGLE
        _one_event_notes(settings)
    for field in BATCHING.fields:
        of_session = field.name.startswith("session_")
        used = mode is BatchMode.SESSION if of_session else _counts(field.name, mode)
        if not used and batching.value_or_placeholder(field.name) != BATCHING.default(field):
            left = mode is BatchMode.SESSION and field.name == "max_age"
            rest = "; windows left from a time without that still close by it" if left else ""
            batching.note(field.name, f"has no effect: {mode_in_words(mode)}{rest}")
    longest, quiet = batching.get("session_max"), batching.get("session_timeout")
    if mode is BatchMode.SESSION and longest and quiet and longest < quiet:
        batching.note("session_max", "is shorter than session_timeout, so it cuts quiet sessions")


_BATCHED = {"send_as_batch": True, "wait_for_complete_batch": True}
_WITHOUT_PLACE = ("unique_id", "send_batches_without_events", "int64_as_string")
"""Settings of what the records of Pinpoint have no place for."""


def _one_event_notes(settings: SectionValues) -> None:
    """Note what settings ask for in vain where every document is a record of Pinpoint's stream."""
    for name, asked in _BATCHED.items():
        if settings.has(name) and settings.get(name) is asked:
            what = "is ignored: of sink.format pinpoint every event is a record of its own"
            settings.note(name, what)
    for path in settings.get("metadata_field_exclusion") or ():
        if path.partition(".")[0] in PINPOINT_EVENT_FIELDS:
            what = f"has no effect on {path}: it reaches into the event; delete it"
            settings.note("metadata_field_exclusion", what)
    for name in _WITHOUT_PLACE:
        if settings.get(name):
            settings.note(name, "has no effect: records of sink.format pinpoint hold no such thing")


def _counts(name: str, mode: BatchMode) -> bool:
    return mode is BatchMode.BATCH or (name == "max_events" and mode is BatchMode.SESSION)


def _same_partition(section: SectionValues) -> None:
    credentials, sink = section.get("credentials"), section.get("sink")
    arn = credentials.get("role_arn") if credentials is not None else None
    region = sink.get("region") if sink is not None else None
    if arn and region and arn.split(":")[1] != aws_regions.partition_name(region):
        own = aws_regions.partition_name(region)
        what = f"is of partition {arn.split(':')[1]}, region {region} is in {own}"
        credentials.fault("role_arn", f"{what}; give a role of arn:{own}:…, or correct sink.region")


def mode_in_words(mode: BatchMode) -> str:
    """Say how events become documents."""
    return {
        BatchMode.BATCH: "events are sent in batches per device",
        BatchMode.SESSION: "one document is sent per user session",
        BatchMode.SINGLE: "every event is sent at once, as its own document",
    }[mode]


SINKS = {"kinesis": KINESIS, "firehose": FIREHOSE, "file": FILE}


def _connection(section: SectionValues) -> Connection:
    attributes = section.attributes()
    region = attributes["sink"].region
    origin = origin_of(section.get("credentials"), attributes["sink"])
    attributes["credentials"] = credentials_of(attributes["credentials"], region, origin)
    return Connection(**attributes)


CONNECTION = Section(
    Connection,
    (
        Field(
            "name",
            TextValue(
                "a name", check=checks.connection_name_complaint, form=checks.CONNECTION_NAME
            ),
            "Unique; the label in logs and metrics. Renaming makes a new connection.",
        ),
        Field(
            "status",
            EnumValue(Status),
            "inactive: accepts no new event, sends nothing, keeps its place.",
        ),
        Field(
            "deliver_from",
            NullableValue(TimestampValue()),
            "A time with its zone; batches closed earlier are skipped.",
        ),
        Field(
            "match", MATCH, "The uploads wanted: every key given must match, any value of its list."
        ),
        Field(
            "credentials",
            CREDENTIALS,
            "A role to assume, or access keys; absent: the default AWS chain.",
        ),
        Field("sink", TaggedSections(SINKS), "Where batches go."),
        Field("settings", SETTINGS, "mParticle's connection settings."),
        Field("batching", BATCHING, "When batches are closed."),
    ),
    checks=(_mode_notes, _same_partition, _account_of_arn),
    build=_connection,
)

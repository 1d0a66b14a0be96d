"""The description of a connection file: every key once, for reading, showing and editors."""

from dataclasses import MISSING, dataclass

from forwarder.config import checks
from forwarder.config.amounts import Duration, Moment, Size, Whole
from forwarder.config.kinds import Choice, Flag, Location, Nullable, Text
from forwarder.config.shapes import Field, ListOf, Section, Sheet, Tagged
from forwarder.connection import (
    AccessKeys,
    AssumedRole,
    Batching,
    BatchMode,
    Connection,
    Credentials,
    FileTarget,
    KinesisTarget,
    Match,
    PartitionKey,
    PutMode,
    Settings,
    Status,
)

_SECOND, _MINUTE, _HOUR, _DAY = 1_000, 60_000, 3_600_000, 86_400_000
_DEFAULT_ROLE = "mparticle-kinesis-role"

MATCH = Section(
    Match,
    (
        Field(
            "environment",
            ListOf(Choice(("production", "development")), 1, frozenset),
            "The environments wanted; an upload that names none is of production.",
        ),
        Field(
            "application",
            ListOf(Text("an application's package"), 1, frozenset),
            "The applications wanted, by application_info.package.",
        ),
        Field(
            "platform",
            ListOf(
                Text("a platform such as ios"), 1, lambda names: frozenset(map(str.lower, names))
            ),
            "The platforms wanted, by device_info.platform; upper and lower case are one.",
        ),
        Field(
            "api_key",
            ListOf(Text("an API key", masked=True), 1, frozenset),
            "The mParticle API keys wanted; they are never forwarded.",
        ),
    ),
)


@dataclass(frozen=True)
class Given:
    """The keys of ``credentials`` as they were written."""

    aws_account_id: str | None = None
    org_id: str | None = None
    external_id: str | None = None
    role_name: str | None = None
    role_arn: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None


_KEYS = ("access_key_id", "secret_access_key")
_ROLE = ("aws_account_id", "org_id", "external_id", "role_name", "role_arn")


def _one_way_in(sheet: Sheet) -> None:
    if sheet.has(*_KEYS) and sheet.has(*_ROLE):
        place = sheet.spot
        place.fault("has both a role and access keys; keep one of them")
    elif sheet.has(*_KEYS):
        _both(sheet, *_KEYS)
    elif sheet.has(*_ROLE):
        _whole_role(sheet)


def _both(sheet: Sheet, first: str, second: str) -> None:
    for name, other in ((first, second), (second, first)):
        if not sheet.has(name):
            sheet.fault(name, f"is missing; it belongs to {other}, give both or neither")


def _whole_role(sheet: Sheet) -> None:
    if sheet.has("role_arn"):
        for name in ("aws_account_id", "role_name"):
            if sheet.has(name):
                sheet.fault(name, "says what role_arn already holds; keep one of them")
        if not sheet.has("org_id", "external_id"):
            what = "no ExternalId will be sent; add org_id or external_id if the trust asks for one"
            sheet.note("role_arn", what)
        return
    if not sheet.has("aws_account_id"):
        sheet.fault("aws_account_id", "is missing; add the account of the role, or role_arn")
    if not sheet.has("org_id", "external_id"):
        sheet.fault("org_id", "is missing; add it (or external_id), the role's trust asks for it")


CREDENTIALS = Section(
    Given,
    (
        Field(
            "aws_account_id",
            Nullable(
                Text('an AWS account id, twelve digits in quotes: "111122223333"', r"[0-9]{12}")
            ),
            "The AWS account of the role to assume: twelve digits, in quotes.",
        ),
        Field(
            "org_id",
            Nullable(Text("an mParticle organisation id, in quotes", checks.ORG_ID)),
            "The mParticle organisation; the ExternalId sent is orgid:ORG_ID.",
        ),
        Field(
            "external_id",
            Nullable(
                Text(
                    "an ExternalId: 2 to 1224 of a-z A-Z 0-9 _ + = , . @ : / -", checks.EXTERNAL_ID
                )
            ),
            "The whole ExternalId, instead of the one made from org_id.",
        ),
        Field(
            "role_name",
            Nullable(Text("a role's name: 1 to 64 of a-z A-Z 0-9 _ + = , . @ -", checks.ROLE_NAME)),
            f"The role's name, where it is not {_DEFAULT_ROLE}.",
        ),
        Field(
            "role_arn",
            Nullable(
                Text("a role's ARN such as arn:aws:iam::111122223333:role/NAME", checks.ROLE_ARN)
            ),
            "The whole ARN of the role, instead of aws_account_id and role_name.",
        ),
        Field(
            "access_key_id",
            Nullable(Text("an access key id", r"\w{1,128}", secret=True)),
            "A static access key, best as ${NAME} or ${file:PATH}; not together with a role.",
        ),
        Field(
            "secret_access_key",
            Nullable(Text("a secret access key", check=checks.secret, secret=True)),
            "Its secret, best as ${NAME} or ${file:PATH}.",
        ),
    ),
    checks=(_one_way_in,),
    rules={
        "dependentRequired": {
            "access_key_id": ["secret_access_key"],
            "secret_access_key": ["access_key_id"],
            "role_name": ["aws_account_id"],
        },
        "not": {
            "anyOf": [
                *({"required": ["access_key_id", name]} for name in _ROLE),
                *({"required": ["role_arn", name]} for name in ("aws_account_id", "role_name")),
            ]
        },
    },
)


def _sink_notes(sheet: Sheet) -> None:
    region, url = sheet.get("region"), sheet.get("endpoint_url")
    if region and region not in checks.REGIONS:
        sheet.note("region", "is not known to this release; right if AWS has opened it since")
    if url and checks.unencrypted(url):
        sheet.note("endpoint_url", "is not encrypted; use https:// outside a test")


KINESIS = Section(
    KinesisTarget,
    (
        Field("type", Choice(("kinesis",)), "A Kinesis data stream.", MISSING, stored=False),
        Field(
            "stream_name", Text("a stream's name", check=checks.stream), "The name of the stream."
        ),
        Field(
            "region", Text("an AWS region", check=checks.region), "The AWS region of the stream."
        ),
        Field(
            "partition_key",
            Choice(PartitionKey),
            "What spreads records over shards: device (hash of the device key), mpid (device where "
            "there is none) or batch (the message id).",
        ),
        Field(
            "max_record_bytes",
            Size(1 << 10, 10 << 20),
            "The stream's record limit, data plus partition key; larger batches are split.",
        ),
        Field(
            "put",
            Choice(PutMode),
            "The action used: record (PutRecord), records (PutRecords), or auto: PutRecords where "
            "the policy grants it, else PutRecord.",
        ),
        Field(
            "endpoint_url",
            Nullable(Text("a URL", check=checks.endpoint)),
            "A VPC or FIPS endpoint; null: AWS_ENDPOINT_URL(_KINESIS), else AWS's own.",
        ),
    ),
    checks=(_sink_notes,),
)

FILE = Section(
    FileTarget,
    (
        Field("type", Choice(("file",)), "A folder of NDJSON files.", MISSING, stored=False),
        Field(
            "path",
            Location("a folder"),
            "The folder; the connection writes NAME.ndjson in it. Relative to this file.",
        ),
    ),
)


def _flag(name: str, about: str) -> Field:
    return Field(name, Flag(), about)


def _setting_notes(sheet: Sheet) -> None:
    if sheet.get("wait_for_complete_batch") and sheet.get("send_as_batch") is False:
        what = "is ignored: wait_for_complete_batch is on, so every session is sent as one document"
        sheet.note("send_as_batch", what)
    if (
        sheet.get("include_event_batch_location")
        and sheet.get("include_location_information") is False
    ):
        what = "has no effect: include_location_information is off, which removes every location"
        sheet.note("include_event_batch_location", what)


SETTINGS = Section(
    Settings,
    (
        Field("unique_id", Nullable(Text()), "Constant text put into every batch as unique_id."),
        _flag(
            "send_lifecycle_events",
            "Send session_start, session_end, application_state_transition and first_run events.",
        ),
        _flag("send_screen_views", "Send screen_view events."),
        _flag("send_crash_events", "Send crash_report and breadcrumb events."),
        _flag("send_network_performance_events", "Send network_performance events."),
        _flag("send_custom_events", "Send custom_event events."),
        _flag(
            "send_push_registrations_and_receipts",
            "Send push_registration, push_message and push_reaction events.",
        ),
        _flag(
            "send_as_batch",
            "Batch the events of a device; off: every event at once, as a document of its own.",
        ),
        _flag(
            "wait_for_complete_batch",
            "One document per user session, after it ended; send_as_batch is then ignored.",
        ),
        _flag(
            "include_location_information",
            "Keep data.location of events, of the breadcrumbs in them, and context.location.",
        ),
        _flag("include_mp_deviceid", "Keep mp_deviceid."),
        _flag("send_profile_change_events", "Send profile events."),
        _flag("send_commerce_events", "Send commerce_event events."),
        _flag(
            "include_metadata",
            "Keep device_info, application_info and source_info; off: application_info.package.",
        ),
        _flag("include_user_attribute_change_events", "Send user_attribute_change events."),
        _flag("include_user_identity_change_events", "Send user_identity_change events."),
        _flag("include_user_identities", "Keep user_identities."),
        _flag("include_consent_state", "Keep consent_state."),
        _flag("include_event_batch_location", "Keep context.location."),
        _flag("include_system_notifications", "Keep system_notifications."),
        _flag(
            "send_batches_without_events",
            "Send uploads that hold no event, or none that passes, for the context they carry.",
        ),
        _flag("send_validation_results", "Send validation_result events."),
        _flag("send_unknown_events", "Send events of types this release does not know."),
        Field(
            "metadata_field_exclusion",
            ListOf(Text("a path such as device_info.device_name", check=checks.excluded_path)),
            "Paths removed from every batch, from its top, without wildcards, never inside events.",
        ),
        _flag(
            "int64_as_string",
            "Quote event_id, session_id, mpid and batch_id, for readers that keep 53 bits only.",
        ),
    ),
    checks=(_setting_notes,),
)

BATCHING = Section(
    Batching,
    (
        Field(
            "max_age",
            Duration(100, _DAY),
            "How long after the first event of a device its batch is closed; not in session mode.",
        ),
        Field("max_events", Whole(1, 1_000_000), "How many events close a batch."),
        Field(
            "session_timeout",
            Duration(_SECOND, _DAY),
            "How long without events ends a session.",
        ),
        Field(
            "session_grace",
            Duration(0, _HOUR),
            "How long after session_end late events may still join.",
        ),
        Field(
            "session_max",
            Duration(_SECOND, 7 * _DAY),
            "How long a session may last before it is cut.",
        ),
    ),
)


def _mode_notes(sheet: Sheet) -> None:
    settings, batching, sink = sheet.get("settings"), sheet.get("batching"), sheet.get("sink")
    if sink is not None and sink.section is FILE and sheet.has("credentials"):
        sheet.note("credentials", "is not used: the sink is a file")
    if settings is None or batching is None:
        return
    mode = Settings(
        send_as_batch=settings.get("send_as_batch"),
        wait_for_complete_batch=settings.get("wait_for_complete_batch"),
    ).mode
    for field in BATCHING.fields:
        of_session = field.name.startswith("session_")
        used = mode is BatchMode.SESSION if of_session else _counts(field.name, mode)
        if not used and batching.get(field.name) != BATCHING.default(field):
            batching.note(field.name, f"has no effect: {mode_in_words(mode)}")
    longest, quiet = batching.get("session_max"), batching.get("session_timeout")
    if mode is BatchMode.SESSION and longest and quiet and longest < quiet:
        batching.note("session_max", "is shorter than session_timeout, so it cuts quiet sessions")


def _counts(name: str, mode: BatchMode) -> bool:
    return mode is BatchMode.BATCH or (name == "max_events" and mode is BatchMode.SESSION)


def _same_partition(sheet: Sheet) -> None:
    credentials, sink = sheet.get("credentials"), sheet.get("sink")
    arn = credentials.get("role_arn") if credentials is not None else None
    region = sink.get("region") if sink is not None else None
    if arn and region and arn.split(":")[1] != checks.partition_of(region):
        own = checks.partition_of(region)
        what = f"is of partition {arn.split(':')[1]}, region {region} is in {own}"
        credentials.fault("role_arn", f"{what}; give a role of arn:{own}:…, or correct sink.region")


def mode_in_words(mode: BatchMode) -> str:
    """Say how events become documents."""
    return {
        BatchMode.BATCH: "events are sent in batches per device",
        BatchMode.SESSION: "one document is sent per user session",
        BatchMode.SINGLE: "every event is sent at once, as its own document",
    }[mode]


def credentials_of(given: Given, region: str) -> Credentials:
    """Return what a sink in this region authenticates with; None: the default AWS chain."""
    if given.access_key_id and given.secret_access_key:
        return AccessKeys(given.access_key_id, given.secret_access_key)
    if not (given.role_arn or given.aws_account_id):
        return None
    external = given.external_id or (f"orgid:{given.org_id}" if given.org_id else None)
    name = given.role_name or _DEFAULT_ROLE
    made = f"arn:{checks.partition_of(region)}:iam::{given.aws_account_id}:role/{name}"
    return AssumedRole(given.role_arn or made, external)


def _connection(sheet: Sheet) -> Connection:
    attributes = sheet.attributes()
    region = getattr(attributes["sink"], "region", "")
    attributes["credentials"] = credentials_of(attributes["credentials"], region)
    return Connection(**attributes)


CONNECTION = Section(
    Connection,
    (
        Field(
            "name",
            Text("a name", check=checks.label),
            "Unique; the label in logs and metrics. Renaming makes a new connection.",
        ),
        Field(
            "status",
            Choice(Status),
            "inactive: accepts no new event, sends nothing, keeps its place.",
        ),
        Field(
            "deliver_from",
            Nullable(Moment()),
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
        Field("sink", Tagged({"kinesis": KINESIS, "file": FILE}), "Where batches go."),
        Field("settings", SETTINGS, "mParticle's connection settings."),
        Field("batching", BATCHING, "When batches are closed."),
    ),
    checks=(_mode_notes, _same_partition),
    build=_connection,
)

"""The typed content of a connection file: plain values, compiled into a lane elsewhere."""

from dataclasses import dataclass, field, fields
from enum import StrEnum
from hashlib import blake2b
from typing import ClassVar


class Status(StrEnum):
    """Whether a connection takes part."""

    ACTIVE = "active"
    INACTIVE = "inactive"


class PartitionKey(StrEnum):
    """What a Kinesis record is partitioned by."""

    DEVICE = "device"
    MPID = "mpid"
    BATCH = "batch"


class PutMode(StrEnum):
    """Which Kinesis action writes batches."""

    AUTO = "auto"
    RECORD = "record"
    RECORDS = "records"


class BatchMode(StrEnum):
    """How events become documents."""

    BATCH = "batch"
    SESSION = "session"
    SINGLE = "single"


@dataclass(frozen=True, slots=True)
class Match:
    """Which uploads a connection wants; None: any value. Platforms are lower case here."""

    environment: frozenset[str] | None = None
    application: frozenset[str] | None = None
    platform: frozenset[str] | None = None
    api_key: frozenset[str] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Settings:
    """mParticle's connection settings under their documented names, with their defaults."""

    unique_id: str | None = None
    send_lifecycle_events: bool = True
    send_screen_views: bool = True
    send_crash_events: bool = True
    send_network_performance_events: bool = True
    send_custom_events: bool = True
    send_push_registrations_and_receipts: bool = True
    send_as_batch: bool = True
    wait_for_complete_batch: bool = False
    include_location_information: bool = True
    include_mp_deviceid: bool = False
    send_profile_change_events: bool = True
    send_commerce_events: bool = True
    include_metadata: bool = True
    include_user_attribute_change_events: bool = False
    include_user_identity_change_events: bool = False
    include_user_identities: bool = True
    include_consent_state: bool = False
    include_event_batch_location: bool = False
    include_system_notifications: bool = True
    send_batches_without_events: bool = False
    send_validation_results: bool = False
    send_unknown_events: bool = True
    metadata_field_exclusion: tuple[str, ...] = ()
    int64_as_string: bool = False

    @property
    def mode(self) -> BatchMode:
        """Return the batch mode; Wait for Complete Batch overrides Send as Batch."""
        if self.wait_for_complete_batch:
            return BatchMode.SESSION
        return BatchMode.BATCH if self.send_as_batch else BatchMode.SINGLE


@dataclass(frozen=True, slots=True)
class Batching:
    """When windows close; milliseconds."""

    max_age_ms: int = 600_000
    max_events: int = 10_000
    session_timeout_ms: int = 1_800_000
    session_grace_ms: int = 60_000
    session_max_ms: int = 14_400_000


@dataclass(frozen=True, slots=True)
class KeyOrigin:
    """Where access keys were written: the connection file, then the files it takes them from.

    ``sink`` is the connection's own: keys that are found there later count while it is the same.
    """

    files: tuple[str, ...]
    sink: object


@dataclass(frozen=True, slots=True)
class AccessKeys:
    """Static keys, already resolved from the environment or a file."""

    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    origin: KeyOrigin | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class AssumedRole:
    """A role in the customer's account, and the ExternalId its trust policy asks for."""

    role_arn: str
    external_id: str | None


Credentials = AccessKeys | AssumedRole | None
"""None: the default AWS chain."""


LONGEST_PARTITION_KEY = 256
"""Characters of a partition key that Kinesis takes (AWS quota); a longer mpid gives way to the
device."""

MOST_PAYLOAD_BYTES = 10 * 1024 * 1024
"""The largest document for any sink: the largest record a Kinesis stream can be set to take."""

_DEVICE_KEY_BYTES = 32
"""A device key as a partition key: 16 bytes in hexadecimal."""
_BATCH_ID_BYTES = 36
"""The ``message_id`` of a batch as a partition key: a UUID as text."""
_LINE_END_BYTES = 1


@dataclass(frozen=True, slots=True)
class RecordLimit:
    """How large a document may be to fit into one record of a sink. A target states its own.

    ``record_bytes``: what the document and its partition key may have together, before base64;
    a line end that the sink adds is taken off already. ``key_bytes``: the partition key's part of
    it. ``mpid_is_key``: the key is the batch's mpid, where it has one.
    """

    record_bytes: int = MOST_PAYLOAD_BYTES
    key_bytes: int = 0
    mpid_is_key: bool = False

    def payload_bytes(self, mpid: str) -> int:
        """Return how many bytes a document may have whose batch has this mpid ("": none).

        Negative where not even the key fits.
        """
        key = len(mpid.encode()) if self.mpid_is_key and mpid else self.key_bytes
        return min(self.record_bytes - key, MOST_PAYLOAD_BYTES)

    def least_payload_bytes(self) -> int:
        """Return how many bytes any document may have, whatever the mpid of its batch."""
        key = 4 * LONGEST_PARTITION_KEY if self.mpid_is_key else self.key_bytes
        return min(self.record_bytes - key, MOST_PAYLOAD_BYTES)


@dataclass(frozen=True, slots=True)
class KinesisTarget:
    """A Kinesis data stream; ``max_record_bytes`` counts data plus partition key.

    ``stream_name`` may be the stream's whole ARN. ``newline``: documents end with a line end,
    which counts as data.
    """

    stream_name: str
    region: str
    partition_key: PartitionKey = PartitionKey.DEVICE
    max_record_bytes: int = 1_048_576
    put: PutMode = PutMode.AUTO
    endpoint_url: str | None = None
    newline: bool = False

    @property
    def arn(self) -> str | None:
        """Return the stream's ARN, if it is addressed by it."""
        return self.stream_name if self.stream_name.startswith("arn:") else None

    @property
    def name(self) -> str:
        """Return the stream's name alone."""
        return self.stream_name.rpartition("/")[2]

    @property
    def record_limit(self) -> RecordLimit:
        """Return what a document may have so that its record, partition key included, is taken."""
        by_batch = self.partition_key is PartitionKey.BATCH
        return RecordLimit(
            self.max_record_bytes - (_LINE_END_BYTES if self.newline else 0),
            _BATCH_ID_BYTES if by_batch else _DEVICE_KEY_BYTES,
            mpid_is_key=self.partition_key is PartitionKey.MPID,
        )

    @property
    def one_shard_per_device(self) -> bool:
        """Tell whether the shard of a device's last batch is that of its next."""
        return self.partition_key is not PartitionKey.BATCH


@dataclass(frozen=True, slots=True)
class FirehoseTarget:
    """A Firehose delivery stream; ``max_record_bytes`` counts data plus the end of its line.

    The default is AWS's limit of a record, 1,000 KiB before base64.
    """

    delivery_stream_name: str
    region: str
    max_record_bytes: int = 1_024_000
    endpoint_url: str | None = None

    @property
    def record_limit(self) -> RecordLimit:
        """Return what a document may have; every record ends with a line end."""
        return RecordLimit(self.max_record_bytes - _LINE_END_BYTES)

    one_shard_per_device: ClassVar[bool] = True  # its answers name no shards


@dataclass(frozen=True, slots=True)
class FileTarget:
    """A folder that gets one NDJSON file per connection."""

    path: str

    @property
    def record_limit(self) -> RecordLimit:
        """Return what a document may have; a file itself has no limit."""
        return RecordLimit()

    one_shard_per_device: ClassVar[bool] = True  # its answers name no shards


Target = KinesisTarget | FirehoseTarget | FileTarget


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection file. ``deliver_from_ms`` is wall-clock milliseconds, None: everything."""

    name: str
    sink: Target
    status: Status = Status.ACTIVE
    deliver_from_ms: int | None = None
    match: Match = Match()
    credentials: Credentials = None
    settings: Settings = Settings()
    batching: Batching = Batching()

    @property
    def fingerprint(self) -> bytes:
        """Return 8 bytes that change with whatever changes a document's content."""
        text = "\x1f".join(
            f"{f.name}={getattr(self.settings, f.name)!r}" for f in fields(self.settings)
        )
        return blake2b(text.encode(), digest_size=8).digest()

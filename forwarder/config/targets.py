"""Where a connection's batches go: a Kinesis or Firehose stream, or a folder; and their limits."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import ClassVar

from forwarder.config import masking


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


SINK_FORMATS = ("mparticle", "pinpoint")
"""What ``sink.format`` may be: the document formats of ``formats.registry``."""

_MPARTICLE, PINPOINT = SINK_FORMATS

ONE_EVENT_FORMATS = frozenset({PINPOINT})
"""Those whose documents hold one event each."""

PINPOINT_EVENT_FIELDS = frozenset({
    "event_type", "event_timestamp", "arrival_timestamp", "event_version", "session", "attributes",
    "metrics",
})  # fmt: skip
"""Fields of a record of Pinpoint's stream that are its event: no exclusion reaches into them."""

MAX_PARTITION_KEY_CHARS = 256
"""Characters of a partition key that Kinesis takes (AWS quota); a longer mpid gives way to the
device."""

MAX_PAYLOAD_BYTES = 10 * 1024 * 1024
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

    record_bytes: int = MAX_PAYLOAD_BYTES
    key_bytes: int = 0
    mpid_is_key: bool = False

    def payload_bytes(self, mpid: str) -> int:
        """Return how many bytes a document may have whose batch has this mpid ("": none).

        Negative where not even the key fits.
        """
        key = len(mpid.encode()) if self.mpid_is_key and mpid else self.key_bytes
        return min(self.record_bytes - key, MAX_PAYLOAD_BYTES)

    def least_payload_bytes(self) -> int:
        """Return how many bytes any document may have, whatever the mpid of its batch."""
        key = 4 * MAX_PARTITION_KEY_CHARS if self.mpid_is_key else self.key_bytes
        return min(self.record_bytes - key, MAX_PAYLOAD_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentTarget:
    """What documents are written in, whatever the sink.

    ``app_id`` and ``aws_account_id`` are what Pinpoint's record says of the app and the account;
    None: what is known of them otherwise.
    """

    format: str = _MPARTICLE
    app_id: str | None = None
    aws_account_id: str | None = None

    @property
    def content_settings(self) -> list[tuple[str, str]]:
        """Return by name what of it changes a document's content, and is not at its default."""
        if self.format == _MPARTICLE:
            return []
        named = (("app_id", self.app_id), ("aws_account_id", self.aws_account_id))
        given = [(f"sink.{name}", value) for name, value in named if value is not None]
        return [("sink.format", self.format), *given]


@dataclass(frozen=True, slots=True)
class KinesisTarget(DocumentTarget):
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
    def account(self) -> str | None:
        """Return the AWS account that the stream is known to be of."""
        return self.stream_name.split(":")[4] if self.arn else None

    @property
    def folder(self) -> None:
        """Return no folder: batches leave this machine."""

    @property
    def actions(self) -> tuple[str, ...]:
        """Return the actions that have to be allowed, as policies spell them."""
        both = ("kinesis:PutRecord", "kinesis:PutRecords")
        if self.put is PutMode.AUTO and self.format == PINPOINT:
            return both[1:]  # what roles of Pinpoint are allowed; that is enough
        return {PutMode.AUTO: both, PutMode.RECORD: both[:1], PutMode.RECORDS: both[1:]}[self.put]

    @property
    def alternatives(self) -> Mapping[str, "KinesisTarget"]:
        """Return by action the targets of which one has to work, where there is a choice."""
        if self.put is not PutMode.AUTO:
            return {}
        return {
            "PutRecords": replace(self, put=PutMode.RECORDS),
            "PutRecord": replace(self, put=PutMode.RECORD),
        }

    def resource(self, partition: str, account: str) -> str:
        """Return the ARN that a policy names; ``account`` is used where none is known."""
        return self.arn or f"arn:{partition}:kinesis:{self.region}:{account}:stream/{self.name}"

    def policy_notes(self) -> tuple[str, ...]:
        """Say what a policy for it does not hold."""
        what = "if the stream is encrypted with a KMS key of the customer's, allow"
        key = "kms:GenerateDataKey on that key, too, here and in the key's own policy"
        return (f"{what} {key}",)

    def summary(self, _: str) -> str:
        """Say where batches go."""
        return f"the Kinesis stream {masking.mask_keys(self.stream_name)} in {self.region}"

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
class FirehoseTarget(DocumentTarget):
    """A Firehose delivery stream; ``max_record_bytes`` counts data plus the end of its line.

    The default is AWS's limit of a record, 1,000 KiB before base64.
    """

    delivery_stream_name: str
    region: str
    max_record_bytes: int = 1_024_000
    endpoint_url: str | None = None

    @property
    def account(self) -> None:
        """Return no account: it is that of the signing identity."""

    @property
    def folder(self) -> None:
        """Return no folder: batches leave this machine."""

    @property
    def actions(self) -> tuple[str, ...]:
        """Return the actions that have to be allowed, as policies spell them."""
        return ("firehose:PutRecordBatch",)

    @property
    def alternatives(self) -> Mapping[str, "FirehoseTarget"]:
        """Return no choice: Firehose has one action that batches use."""
        return {}

    def resource(self, partition: str, account: str) -> str:
        """Return the ARN that a policy names."""
        name = self.delivery_stream_name
        return f"arn:{partition}:firehose:{self.region}:{account}:deliverystream/{name}"

    def policy_notes(self) -> tuple[str, ...]:
        """Say what a policy for it does not hold: nothing."""
        return ()

    def summary(self, _: str) -> str:
        """Say where batches go."""
        name = masking.mask_keys(self.delivery_stream_name)
        return f"the Firehose delivery stream {name} in {self.region}"

    @property
    def record_limit(self) -> RecordLimit:
        """Return what a document may have; every record ends with a line end."""
        return RecordLimit(self.max_record_bytes - _LINE_END_BYTES)

    one_shard_per_device: ClassVar[bool] = True  # its answers name no shards


@dataclass(frozen=True, slots=True)
class FileTarget(DocumentTarget):
    """A folder that gets one NDJSON file per connection."""

    path: str

    @property
    def region(self) -> str:
        """Return no region: nothing of AWS has a part in it."""
        return ""

    @property
    def account(self) -> None:
        """Return no account, for the same reason."""

    @property
    def folder(self) -> str:
        """Return the folder, as the section's key ``path`` names it."""
        return self.path

    @property
    def actions(self) -> tuple[str, ...]:
        """Return the actions that have to be allowed: none."""
        return ()

    @property
    def alternatives(self) -> Mapping[str, "FileTarget"]:
        """Return no choice."""
        return {}

    def resource(self, partition: str, account: str) -> str:  # noqa: ARG002  # as of the others
        """Return nothing: policies know no folder."""
        return ""

    def policy_notes(self) -> tuple[str, ...]:
        """Say what a policy for it does not hold: there is none."""
        return ()

    def summary(self, connection: str) -> str:
        """Say where batches of a connection go."""
        return masking.mask_line(f"{self.path}/{connection}.ndjson")

    @property
    def record_limit(self) -> RecordLimit:
        """Return what a document may have; a file itself has no limit."""
        return RecordLimit()

    one_shard_per_device: ClassVar[bool] = True  # its answers name no shards


Target = KinesisTarget | FirehoseTarget | FileTarget
"""Where a connection's batches go; ``folder`` is None where AWS is called.

Another sink is a class with the same members, the section it is read from (``connection_fields``)
and its row in ``app``.
"""

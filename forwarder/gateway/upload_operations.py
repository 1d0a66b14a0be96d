"""What mParticle's Events API does with uploads, once it is known whose input they came to.

https://docs.mparticle.com/developers/apis/http/: 202 without a body once everything is stored;
nothing of a bulk is stored unless all of it can be.
"""

from collections.abc import Mapping, Sequence

from msgspec import Raw

from forwarder.config.gateway import EventsApiInput
from forwarder.formats import rawjson
from forwarder.formats.contract import Reject
from forwarder.formats.mparticle.record import UploadRecord, UploadRecords
from forwarder.formats.rawjson import JsonError, ShapeError
from forwarder.gateway.contract import Action, ApiCall, ApiError, ApiReply, Operation
from forwarder.gateway.producer import EventProducer, ProduceFault
from forwarder.ops.gateway_reporter import EventOutcome, GatewayReporter

MAX_BULK = 100
"""Uploads of one bulk request (mParticle's documentation of the Events API)."""

RETRY_AFTER = {"Retry-After": "5"}
"""Seconds; who gets it while Kafka is away comes back once it may have come back."""

REPORTED_AS = "mparticle"
"""The ``app`` of what is reported: keys of inputs are shown nowhere."""


class UploadOperations:
    """Uploads of all inputs; ``topic`` takes their records."""

    def __init__(self, topic: str, producer: EventProducer, reporter: GatewayReporter) -> None:
        """Create; the producer is run by its owner."""
        self._topic = topic
        self._producer = producer
        self._reporter = reporter
        self._records = UploadRecords()

    def by_action(self) -> Mapping[Action, Operation]:
        """Return the operations there are."""
        return {Action.UPLOAD: self.upload, Action.BULK_UPLOAD: self.upload_bulk}

    async def upload(self, call: ApiCall) -> ApiReply:
        """Take one upload: 202 once it is stored."""
        return await self._store([self._record(call, call.body, "")])

    async def upload_bulk(self, call: ApiCall) -> ApiReply:
        """Take an array of uploads: 202 once all are stored, 400 and none where one is bad."""
        try:
            if not call.body.isascii():
                call.body.decode()
            uploads = rawjson.elements(call.body.strip(b" \t\r\n"))
        except (ShapeError, JsonError, UnicodeDecodeError, RecursionError):
            self._refused(1)
            raise ApiError(400, "", "the body is not an array of uploads") from None
        if len(uploads) > MAX_BULK:
            self._refused(len(uploads))
            raise ApiError(400, "", f"there are more than {MAX_BULK} uploads in the array")
        return await self._store(self._bulk(call, uploads))

    def _bulk(self, call: ApiCall, uploads: Sequence[Raw]) -> list[UploadRecord]:
        return [
            self._record(call, bytes(raw), f"upload {place} of the array (from 0): ")
            for place, raw in enumerate(uploads)
        ]

    def _record(self, call: ApiCall, upload: bytes, where: str) -> UploadRecord:
        """Return the record of an upload; raises ApiError."""
        caller = call.caller
        if not isinstance(caller, EventsApiInput):
            raise ApiError(403, "", "these credentials are not those of an input")
        made = self._records.make(upload, caller.api_key, caller.environment)
        if isinstance(made, Reject):
            self._refused(1)
            raise ApiError(400, "", f"{where}{made.error}")
        if len(made.value) > self._producer.room(self._topic, made.key):
            self._reporter.events(REPORTED_AS, EventOutcome.TOO_LARGE, made.events)
            raise ApiError(413, "", f"{where}larger than a record may be")
        return made

    async def _store(self, records: Sequence[UploadRecord]) -> ApiReply:
        """Answer once all records are stored; raises ApiError where they are not.

        Who sends them again sends those again, too, that were stored: those with a
        ``source_request_id`` are known again by it.
        """
        events = sum([one.events for one in records])
        fault: ProduceFault | None = ProduceFault.UNAVAILABLE
        if await self._producer.available():
            pairs = [(one.key, one.value) for one in records]
            faults = await self._producer.submit(self._topic, pairs).settled()
            fault = next(filter(None, faults), None)
        if fault is None:
            self._reporter.events(REPORTED_AS, EventOutcome.ACCEPTED, events)
            return ApiReply(202)
        if fault is ProduceFault.FULL:
            self._reporter.events(REPORTED_AS, EventOutcome.FULL, events)
            raise ApiError(429, "", "too much waits to be stored, come again", RETRY_AFTER)
        self._reporter.events(REPORTED_AS, EventOutcome.UNAVAILABLE, events)
        raise ApiError(503, "", "the events cannot be stored just now, come again", RETRY_AFTER)

    def _refused(self, count: int) -> None:
        """Count uploads that are none; of events nothing is known."""
        self._reporter.events(REPORTED_AS, EventOutcome.INVALID, count)

"""What mParticle's Events API does with uploads, once it is known whose input they came to.

https://docs.mparticle.com/developers/apis/http/: 202 without a body once everything is stored;
nothing of a bulk is stored unless all of it can be.
"""

from collections.abc import Mapping, Sequence

from forwarder.config.gateway import EventsApiInput
from forwarder.formats import rawjson
from forwarder.formats.contract import Reject
from forwarder.formats.mparticle.record import UploadRecord, UploadRecords
from forwarder.formats.rawjson import JsonError, ShapeError
from forwarder.gateway.contract import Action, ApiCall, ApiError, ApiReply, Operation
from forwarder.gateway.producer import EventProducer
from forwarder.gateway.routes import UPLOAD_BYTES
from forwarder.gateway.waiting import ProduceFault
from forwarder.ops.gateway_reporter import EventOutcome, GatewayReporter

MAX_BULK = 100
"""Uploads of one bulk request (mParticle's documentation of the Events API)."""

RETRY_AFTER = {"Retry-After": "5"}
"""Seconds; who gets it while Kafka is away comes back once it may have come back."""


class UploadOperations:
    """Uploads of all inputs; ``topic`` takes their records.

    Inputs are reported by their environment: their keys are shown nowhere.
    """

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
        caller = _input_of(call)
        return await self._store(caller, [self._record(caller, call.body, "")])

    async def upload_bulk(self, call: ApiCall) -> ApiReply:
        """Take an array of uploads: 202 once all are stored, 400 and none where one is bad."""
        caller = _input_of(call)
        try:
            if not call.body.isascii():
                call.body.decode()
            uploads = rawjson.elements(call.body.strip(b" \t\r\n"))
        except (ShapeError, JsonError, UnicodeDecodeError, RecursionError):
            raise self._refused(caller, 1, "the body is not an array of uploads") from None
        if len(uploads) > MAX_BULK:
            what = f"there are more than {MAX_BULK} uploads in the array"
            raise self._refused(caller, len(uploads), what)
        records = [
            self._record(caller, bytes(raw), f"upload {place} of the array (from 0): ")
            for place, raw in enumerate(uploads)
        ]
        return await self._store(caller, records)

    def _record(self, caller: EventsApiInput, upload: bytes, where: str) -> UploadRecord:
        """Return the record of an upload; raises ApiError."""
        if len(upload) > UPLOAD_BYTES:
            self._reporter.events(caller.environment, EventOutcome.TOO_LARGE, 1)
            raise ApiError(413, "", f"{where}larger than {UPLOAD_BYTES} bytes")
        made = self._records.make(upload, caller.api_key, caller.environment)
        if isinstance(made, Reject):
            raise self._refused(caller, 1, f"{where}{made.error}")
        if len(made.value) > self._producer.room(self._topic, made.key):
            self._reporter.events(caller.environment, EventOutcome.TOO_LARGE, made.events)
            raise ApiError(413, "", f"{where}larger than a record may be")
        return made

    async def _store(self, caller: EventsApiInput, records: Sequence[UploadRecord]) -> ApiReply:
        """Answer once all records are stored; raises ApiError where they are not.

        Who sends them again sends those again, too, that were stored: those with a
        ``source_request_id`` are known again by it.
        """
        fault: ProduceFault | None = ProduceFault.UNAVAILABLE
        if await self._producer.available():
            pairs = [(one.key, one.value) for one in records]
            faults = await self._producer.submit(self._topic, pairs).settled()
            fault = next(filter(None, faults), None)
        outcome, refusal = _REFUSALS[fault]
        self._reporter.events(caller.environment, outcome, sum([one.events for one in records]))
        if refusal is None:
            return ApiReply(202)
        status, text = refusal
        raise ApiError(status, "", text, RETRY_AFTER)

    def _refused(self, caller: EventsApiInput, count: int, what: str) -> ApiError:
        """Count uploads that are none, of whose events nothing is known; return the error."""
        self._reporter.events(caller.environment, EventOutcome.INVALID, count)
        return ApiError(400, "", what)


_REFUSALS: Mapping[ProduceFault | None, tuple[EventOutcome, tuple[int, str] | None]] = {
    None: (EventOutcome.ACCEPTED, None),
    ProduceFault.FULL: (EventOutcome.FULL, (429, "too much waits to be stored, come again")),
    ProduceFault.UNAVAILABLE: (
        EventOutcome.UNAVAILABLE,
        (503, "the events cannot be stored just now, come again"),
    ),
}


def _input_of(call: ApiCall) -> EventsApiInput:
    """Return the input whose credentials the call came with."""
    if not isinstance(call.caller, EventsApiInput):
        raise ApiError(403, "", "these credentials are not those of an input")
    return call.caller

"""Put batches into a Firehose delivery stream, one line each, by PutRecordBatch."""

from collections.abc import Callable, Sequence

from forwarder.aws import replies
from forwarder.aws.client import NO_OUTCOME, AwsClient, CallFailure, CallTarget
from forwarder.aws.session import AwsSession
from forwarder.config.connection import Connection
from forwarder.config.targets import FirehoseTarget
from forwarder.model import Batch, Outcome
from forwarder.sinks import bisect, requests
from forwarder.sinks.requests import RequestLimits, RequestRecord, WholeLines

PUT_RECORD_BATCH = "PutRecordBatch"
LIMITS = RequestLimits(records=500, size=4 * 1024 * 1024)
"""AWS limits of PutRecordBatch, bytes before base64."""


class FirehoseSink:
    """One connection's delivery stream; see ``sinks.contract.Sink`` for the contract.

    Firehose promises no order; the caller's one batch in flight per key is all there is.
    """

    in_order = False
    throughput = requests.SHARD
    max_batches = LIMITS.records
    max_bytes = LIMITS.size - LIMITS.records
    """Leaves room for the ends of the lines, so that a put is one request."""

    def __init__(self, connection: Connection, target: FirehoseTarget, aws: AwsSession) -> None:
        """Prepare; the first put connects, so that this cannot fail."""
        self._stream = target.delivery_stream_name
        where = f"delivery stream {target.delivery_stream_name} in {target.region}"
        goal = CallTarget(
            "firehose", "Firehose_20150804", target.region, target.endpoint_url, where
        )
        self._caller = AwsClient(aws, connection, goal)
        self._whole = WholeLines(self._stream, LIMITS)

    async def put(self, batches: list[Batch]) -> Sequence[Outcome]:
        """Send batches, as few requests as hold them."""
        late = self._caller.deadline_check()
        found: list[Outcome] = []

        async def send(records: Sequence[RequestRecord]) -> list[Outcome] | CallFailure:
            return await self._send(records, late)

        body = self._whole.body(batches)
        if body is not None:
            reply = await self._call(body, len(batches), late)
            if not isinstance(reply, CallFailure):
                return reply
            records = [requests.firehose_record(batch) for batch in batches]
            return await bisect.resolve_reply(records, reply, send, late)
        for request in requests.split_requests(
            [requests.firehose_record(batch) for batch in batches], LIMITS
        ):
            if late():
                found += [NO_OUTCOME] * len(request)
            else:
                found += await bisect.resolve_reply(request, await send(request), send, late)
        return found

    async def close(self) -> None:
        """Close connections and credentials."""
        await self._caller.close()

    async def _send(
        self, records: Sequence[RequestRecord], late: Callable[[], bool]
    ) -> list[Outcome] | CallFailure:
        body = requests.put_record_batch(self._stream, records)
        return await self._call(body, len(records), late)

    async def _call(
        self, body: bytes, count: int, late: Callable[[], bool]
    ) -> list[Outcome] | CallFailure:
        form = replies.PUT_RECORD_BATCH
        answer = await self._caller.call(PUT_RECORD_BATCH, body, form, late, count)
        return answer if isinstance(answer, CallFailure) else answer.outcomes

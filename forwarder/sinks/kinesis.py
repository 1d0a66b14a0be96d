"""Put batches into a Kinesis data stream, by PutRecords or PutRecord, whichever is allowed."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence

from forwarder.aws import errors, replies
from forwarder.aws.client import NO_OUTCOME, AwsClient, CallFailure, CallResult, CallTarget
from forwarder.aws.errors import AwsErrorClass, AwsFailure
from forwarder.aws.replies import PutRecordReply
from forwarder.aws.session import AwsSession
from forwarder.config.connection import Connection
from forwarder.config.targets import MAX_PARTITION_KEY_CHARS, KinesisTarget, PutMode
from forwarder.model import Batch, Outcome, OutcomeKind
from forwarder.sinks import bisect, requests
from forwarder.sinks.requests import RequestLimits, RequestRecord, WholePut

PUT_RECORD = "PutRecord"
PUT_RECORDS = "PutRecords"
LIMITS = RequestLimits(records=500, size=5 * 1024 * 1024)
"""Of PutRecords, data plus keys. AWS takes 10 MiB since 2025; 5 MiB is what emulators and old
limits take."""
MAX_SINGLE_PUTS = 64
"""PutRecord calls at a time, each on a connection of its own: AWS takes 10 to 30 ms for one, a
core a quarter of a millisecond."""
RECORD_BATCHES = 32
"""Batches to a put while each may be a call of its own: what was stored is acknowledged only with
the whole put, and is sent again if the worker dies before that."""
PROBE_SECONDS = 3600.0
"""How long a refusal of PutRecords is believed."""
MAX_SEQUENCE_NUMBERS = 20_000
"""Device keys whose last sequence number is remembered, some 250 bytes each."""


class PutActionSelector:
    """Which action to use next: the ``put`` setting, and what the policy was seen to allow."""

    def __init__(self, put: PutMode) -> None:
        """Start with PutRecords unless the setting names PutRecord."""
        self._put = put
        self._probe_at = 0.0

    def use_put_records(self, now: float) -> bool:
        """Tell whether to use PutRecords; ``now`` in steady seconds."""
        if self._put is PutMode.AUTO:
            return now >= self._probe_at
        return self._put is PutMode.RECORDS

    def note_put_records_denied(self, now: float) -> bool:
        """Note that PutRecords is not allowed; return whether PutRecord is used instead."""
        if self._put is not PutMode.AUTO:
            return False
        self._probe_at = now + PROBE_SECONDS
        return True

    def note_put_record_denied(self) -> None:
        """Note that PutRecord is not allowed either: PutRecords is tried first again."""
        self._probe_at = 0.0


class SequenceNumbers:
    """The last sequence number per device key, of the keys put most recently."""

    def __init__(self, size: int = MAX_SEQUENCE_NUMBERS) -> None:
        """Remember ``size`` keys."""
        self._size = size
        self._last: OrderedDict[bytes, str] = OrderedDict()

    def get(self, key: bytes) -> str | None:
        """Return the last sequence number of a key, if it is remembered."""
        return self._last.get(key)

    def put(self, key: bytes, number: str) -> None:
        """Remember a number, forgetting the key put longest ago when there are too many."""
        self._last[key] = number
        self._last.move_to_end(key)
        if len(self._last) > self._size:
            self._last.popitem(last=False)

    def forget(self, key: bytes) -> None:
        """Forget a key whose number the stream refuses, as one does that was created again."""
        self._last.pop(key, None)


class KinesisSink:
    """One connection's stream; see ``sinks.contract.Sink`` for the contract.

    Order per device rests on the caller's one batch in flight per key; PutRecord adds
    ``SequenceNumberForOrdering``, which PutRecords does not have.
    """

    in_order = False
    throughput = requests.SHARD

    def __init__(self, connection: Connection, target: KinesisTarget, aws: AwsSession) -> None:
        """Prepare; the first put connects, so that this cannot fail."""
        self._target = target
        self._clock = aws.clock
        where = f"stream {target.name} in {target.region}"
        self._stream = requests.stream_parameter(target)
        self._whole = WholePut(target, LIMITS)
        goal = CallTarget(
            "kinesis", "Kinesis_20131202", target.region, target.endpoint_url, where, target.arn
        )
        self._caller = AwsClient(aws, connection, goal, self._remedy)
        self._choice = PutActionSelector(target.put)
        self._sequences = SequenceNumbers()
        self._slots = asyncio.Semaphore(MAX_SINGLE_PUTS)
        # ``auto`` does not know yet: its first put may turn into single calls.
        many = target.put is PutMode.RECORDS
        self.max_batches = LIMITS.records if many else RECORD_BATCHES
        # Leaves room for the keys, so that a put is one request.
        self.max_bytes = LIMITS.size - LIMITS.records * MAX_PARTITION_KEY_CHARS

    async def put(self, batches: list[Batch]) -> Sequence[Outcome]:
        """Send batches; PutRecords while that is allowed, else PutRecord."""
        late = self._caller.deadline_check()
        answered = None
        if self._choice.use_put_records(self._clock.steady()):
            body = self._whole.body(batches)
            if body is not None:
                answered = await self._call(body, len(batches), late)
                if not isinstance(answered, CallFailure):
                    self._learn(single=False)
                    return answered
        records = [requests.kinesis_record(batch, self._target) for batch in batches]
        if answered is not None:
            return await self._resolve(records, answered, late)
        answers: list[Outcome] = []
        for request in requests.split_requests(records, LIMITS):
            answers += await self._put_request(request, late)
        return answers

    async def close(self) -> None:
        """Close connections and credentials."""
        await self._caller.close()

    async def _put_request(
        self, records: Sequence[RequestRecord], late: Callable[[], bool]
    ) -> list[Outcome]:
        if late():
            return [NO_OUTCOME] * len(records)
        if not self._choice.use_put_records(self._clock.steady()):
            return await self._put_singly(records, late)
        return await self._resolve(records, await self._send(records, late), late)

    async def _resolve(
        self,
        records: Sequence[RequestRecord],
        reply: list[Outcome] | CallFailure,
        late: Callable[[], bool],
    ) -> list[Outcome]:
        """Return the answers of a PutRecords; one that was refused is put otherwise."""
        if not isinstance(reply, CallFailure):
            self._learn(single=False)
        elif self._falls_back(reply):
            self._learn(single=True)
            return await self._put_singly(records, late)

        async def send(records: Sequence[RequestRecord]) -> list[Outcome] | CallFailure:
            return await self._send(records, late)

        return await bisect.resolve_reply(records, reply, send, late)

    def _falls_back(self, refusal: CallFailure) -> bool:
        denied = refusal.code == "AccessDenied"
        return denied and self._choice.note_put_records_denied(self._clock.steady())

    def _learn(self, *, single: bool) -> None:
        if self._target.put is PutMode.AUTO:
            self.max_batches = RECORD_BATCHES if single else LIMITS.records

    async def _send(
        self, records: Sequence[RequestRecord], late: Callable[[], bool]
    ) -> list[Outcome] | CallFailure:
        return await self._call(requests.put_records(self._stream, records), len(records), late)

    async def _call(
        self, body: bytes, count: int, late: Callable[[], bool]
    ) -> list[Outcome] | CallFailure:
        answer = await self._caller.call(PUT_RECORDS, body, replies.PUT_RECORDS, late, count)
        return answer if isinstance(answer, CallFailure) else answer.outcomes

    async def _put_singly(
        self, records: Sequence[RequestRecord], late: Callable[[], bool]
    ) -> list[Outcome]:
        """Put each batch by a call of its own; one that is misconfigured answers for the rest."""
        answers = [NO_OUTCOME] * len(records)
        todo = enumerate(records)
        stop: list[Outcome] = []

        async def work() -> None:
            for index, one in todo:
                answer = stop[0] if stop else await self._put_one(one, late)
                if answer.kind is OutcomeKind.CONFIGURATION:
                    stop.append(answer)
                answers[index] = answer

        async with asyncio.TaskGroup() as group:
            for _ in range(min(MAX_SINGLE_PUTS, len(records))):
                group.create_task(work())
        return answers

    async def _put_one(self, one: RequestRecord, late: Callable[[], bool]) -> Outcome:
        key = one.batch.key
        async with self._slots:
            if late():
                return NO_OUTCOME
            after = self._sequences.get(key)
            answer = await self._single(one, after, late)
            if (
                isinstance(answer, CallFailure)
                and answer.fault is AwsErrorClass.PERMANENT
                and after
            ):
                self._sequences.forget(key)
                answer = await self._single(one, None, late)
        if isinstance(answer, CallFailure):
            if answer.code == "AccessDenied":
                self._choice.note_put_record_denied()
            return answer.outcome
        (outcome,), number = answer.outcomes, answer.reply.sequence_number
        if outcome.kind is OutcomeKind.DELIVERED and number:
            self._sequences.put(key, number)
        return outcome

    async def _single(
        self, one: RequestRecord, after: str | None, late: Callable[[], bool]
    ) -> CallResult[PutRecordReply] | CallFailure:
        body = requests.put_record(self._stream, one, after)
        return await self._caller.call(PUT_RECORD, body, replies.PUT_RECORD, late)

    def _remedy(self, failure: AwsFailure) -> str:
        if errors.table_code(failure.code) != "AccessDenied" or self._target.put is PutMode.AUTO:
            return ""
        return f"allow kinesis:{failure.operation} on the stream, or set put: auto"

"""Put batches into a Kinesis data stream, by PutRecords or PutRecord, whichever is allowed."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from forwarder.connection import Connection, KinesisTarget, PutMode
from forwarder.model import Batch
from forwarder.sinks import classify, wire
from forwarder.sinks.aws import Aws, failure_of
from forwarder.sinks.base import DELIVERED, Kind, Outcome
from forwarder.sinks.classify import Failure, Fault
from forwarder.sinks.credentials import Keyring, RoleError
from forwarder.sinks.wire import Entry

PUT_RECORD = "PutRecord"
PUT_RECORDS = "PutRecords"
CALL_SECONDS = 30.0
"""A bound on one call as a whole; the library's timeouts bound each of its steps."""
IN_FLIGHT = 16
"""PutRecord calls at a time: enough to fill a core (0.3 to 1 ms each)."""
RECORD_BATCHES = 2 * IN_FLIGHT
"""Batches to a put while each may be a call of its own: what was stored is acknowledged only with
the whole put, and is sent again if the worker dies before that."""
PROBE_SECONDS = 3600.0
"""How long a refusal of PutRecords is believed."""
BISECT_REQUESTS = 64
"""A bound on looking for culprits: one among 500 takes 18 requests, three about 50."""
SEQUENCES = 20_000
"""Device keys whose last sequence number is remembered, some 250 bytes each."""

UNSENT = Outcome(Kind.TRANSIENT, classify.UNANSWERED, "not sent")
"""What an answer is before there is one: nothing is acknowledged by default."""
FRESH_SECONDS = 10.0
"""How long after its begin a put may make calls: a process that slept in the midst of one may have
been replaced, and must not go on with it (D3)."""


class Refusal(msgspec.Struct, frozen=True):
    """A call that stored nothing, or may not have; ``outcome`` answers for all its batches."""

    fault: Fault
    code: str
    outcome: Outcome


Reply = Mapping[str, Any]


class Choice:
    """Which action to use next: the ``put`` setting, and what the policy was seen to allow."""

    def __init__(self, put: PutMode) -> None:
        """Begin with PutRecords unless the setting says otherwise."""
        self._put = put
        self._probe_at = 0.0

    def together(self, now: float) -> bool:
        """Tell whether to use PutRecords; ``now`` in steady seconds."""
        if self._put is PutMode.AUTO:
            return now >= self._probe_at
        return self._put is PutMode.RECORDS

    def together_denied(self, now: float) -> bool:
        """Tell whether PutRecord may be tried instead; until the next probe it will be."""
        if self._put is not PutMode.AUTO:
            return False
        self._probe_at = now + PROBE_SECONDS
        return True

    def single_denied(self) -> None:
        """Ask for PutRecords first again: neither is allowed yet, and either may be soon."""
        self._probe_at = 0.0


class Sequences:
    """The last sequence number per device key, of the keys put most recently."""

    def __init__(self, size: int = SEQUENCES) -> None:
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
        """Forget a key: the stream refuses its number, as after it was made anew."""
        self._last.pop(key, None)


class KinesisSink:
    """One connection's stream; see ``sinks.base.Sink`` for the contract.

    Order per device rests on the caller's one batch in flight per key; PutRecord adds
    ``SequenceNumberForOrdering``, which PutRecords does not have.
    """

    in_order = False

    def __init__(self, connection: Connection, target: KinesisTarget, aws: Aws) -> None:
        """Prepare; the first put makes the client, so that this cannot fail."""
        self._target = target
        self._aws = aws
        self._keys: Keyring = aws.keyring(connection.credentials, target.region, connection.name)
        self._choice = Choice(target.put)
        self._sequences = Sequences()
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._connecting = asyncio.Lock()
        self._client: Any = None
        self._where = f"stream {target.stream_name} in {target.region}"
        # ``auto`` does not know yet: its first put may turn into single calls.
        together = target.put is PutMode.RECORDS
        self.max_batches = wire.RECORDS_PER_REQUEST if together else RECORD_BATCHES
        # Leaves room for the keys, so that a put is one request.
        self.max_bytes = wire.BYTES_PER_REQUEST - wire.RECORDS_PER_REQUEST * wire.LONGEST_KEY

    async def put(self, batches: Sequence[Batch]) -> Sequence[Outcome]:
        """Send batches; PutRecords while that is allowed, else PutRecord."""
        entries = [wire.entry(batch, self._target.partition_key) for batch in batches]
        until = self._aws.clock.steady() + FRESH_SECONDS
        answers: list[Outcome] = []
        for request in wire.requests(entries):
            answers += await self._put_request(request, until)
        return answers

    async def close(self) -> None:
        """Close connections and credentials."""
        await self._keys.close()
        if self._client is not None:
            await self._client.close()

    async def _put_request(self, entries: Sequence[Entry], until: float) -> list[Outcome]:
        if self._is_late(until):
            return [UNSENT] * len(entries)
        if not self._choice.together(self._aws.clock.steady()):
            return await self._put_singly(entries, until)
        reply = await self._call(PUT_RECORDS, self._body(entries))
        if not isinstance(reply, Refusal):
            self._learn(single=False)
            return self._answers(reply, len(entries))
        if self._falls_back(reply):
            self._learn(single=True)
            return await self._put_singly(entries, until)
        if reply.fault is Fault.PERMANENT and len(entries) > 1:
            return await self._bisect(entries, reply, until)
        return [reply.outcome] * len(entries)

    def _is_late(self, until: float) -> bool:
        """Tell whether this put has lasted so long that it may make no more calls."""
        return self._aws.clock.steady() > until

    def _falls_back(self, refusal: Refusal) -> bool:
        denied = refusal.code == "AccessDenied"
        return denied and self._choice.together_denied(self._aws.clock.steady())

    def _learn(self, *, single: bool) -> None:
        if self._target.put is PutMode.AUTO:
            self.max_batches = RECORD_BATCHES if single else wire.RECORDS_PER_REQUEST

    def _body(self, entries: Sequence[Entry]) -> bytes:
        return wire.put_records(self._target.stream_name, entries)

    def _answers(self, reply: Reply, count: int) -> list[Outcome]:
        """Read one answer per record; the sum in FailedRecordCount is not relied upon."""
        records = reply.get("Records", ())
        if len(records) != count:
            text = f"answered for {len(records)} of {count} records"
            return [self._outcome(PUT_RECORDS, classify.UNANSWERED, text)] * count
        return [self._answer(record) for record in records]

    def _answer(self, record: Reply) -> Outcome:
        code = record.get("ErrorCode")
        if code:
            return self._outcome(PUT_RECORDS, code, record.get("ErrorMessage") or "")
        if record.get("SequenceNumber"):
            return DELIVERED
        return self._outcome(PUT_RECORDS, classify.UNANSWERED, "no sequence number")

    def _outcome(self, operation: str, code: str, message: str) -> Outcome:
        return classify.outcome(Failure(operation, code, 200, message), self._where)

    async def _bisect(
        self, entries: Sequence[Entry], refusal: Refusal, until: float
    ) -> list[Outcome]:
        """Halve a refused request until each culprit is alone; the others get through."""
        answers: list[Outcome | None] = [None] * len(entries)
        pending = list(_halves(0, len(entries)))
        for _ in range(BISECT_REQUESTS):
            if not pending:
                break
            if self._is_late(until):
                return [UNSENT if answer is None else answer for answer in answers]
            start, end = pending.pop()
            reply = await self._call(PUT_RECORDS, self._body(entries[start:end]))
            if not isinstance(reply, Refusal):
                answers[start:end] = self._answers(reply, end - start)
            elif reply.fault is Fault.PERMANENT and end - start > 1:
                pending += _halves(start, end)
            else:
                answers[start:end] = [reply.outcome] * (end - start)
        rest = self._unsettled(answers, refusal)
        return [rest if answer is None else answer for answer in answers]

    def _unsettled(self, answers: Sequence[Outcome | None], refusal: Refusal) -> Outcome:
        """Answer for what the bound left over: it is the setting unless something got through."""
        kind = Kind.TRANSIENT if DELIVERED in answers else Kind.CONFIGURATION
        told = refusal.outcome
        return Outcome(kind, told.code, f"{told.error}; too many records are refused to sort out")

    async def _put_singly(self, entries: Sequence[Entry], until: float) -> list[Outcome]:
        """Put each batch by a call of its own; one that is misconfigured answers for the rest."""
        answers = [UNSENT] * len(entries)
        todo = enumerate(entries)
        stop: list[Outcome] = []

        async def work() -> None:
            for index, one in todo:
                answer = stop[0] if stop else await self._put_one(one, until)
                if answer.kind is Kind.CONFIGURATION:
                    stop.append(answer)
                answers[index] = answer

        async with asyncio.TaskGroup() as group:
            for _ in range(min(IN_FLIGHT, len(entries))):
                group.create_task(work())
        return answers

    async def _put_one(self, one: Entry, until: float) -> Outcome:
        key = one.batch.key
        async with self._slots:
            if self._is_late(until):
                return UNSENT
            after = self._sequences.get(key)
            reply = await self._single(one, after)
            if isinstance(reply, Refusal) and reply.fault is Fault.PERMANENT and after:
                self._sequences.forget(key)
                reply = await self._single(one, None)
        if isinstance(reply, Refusal):
            if reply.code == "AccessDenied":
                self._choice.single_denied()
            return reply.outcome
        number = reply.get("SequenceNumber")
        if not number:
            return self._outcome(PUT_RECORD, classify.UNANSWERED, "no sequence number")
        self._sequences.put(key, number)
        return DELIVERED

    async def _single(self, one: Entry, after: str | None) -> Reply | Refusal:
        body = wire.put_record(self._target.stream_name, one, after)
        return await self._call(PUT_RECORD, body)

    async def _call(self, operation: str, body: bytes) -> Reply | Refusal:
        """Call once; if AWS rejects the keys, renew them and call once more."""
        generation = self._keys.generation
        reply = await self._try(operation, body)
        if not isinstance(reply, Refusal) or reply.fault is not Fault.CREDENTIALS:
            return reply
        try:
            renewed = await self._keys.renew(generation)
        except RoleError as error:
            return _role_refusal(error)
        return await self._try(operation, body) if renewed else reply

    async def _try(self, operation: str, body: bytes) -> Reply | Refusal:
        try:
            async with asyncio.timeout(CALL_SECONDS):
                client = self._client or await self._connect()
                put = client.put_records if operation == PUT_RECORDS else client.put_record
                reply: Reply = await put(Body=body)
                return reply
        except RoleError as error:
            return _role_refusal(error)
        except Exception as error:  # noqa: BLE001  # a sink answers, whatever happened
            failure = failure_of(error, operation)
        outcome = classify.outcome(failure, self._where, self._remedy(failure))
        return Refusal(classify.fault(failure), classify.short(failure.code), outcome)

    def _remedy(self, failure: Failure) -> str:
        if classify.short(failure.code) != "AccessDenied" or self._target.put is PutMode.AUTO:
            return ""
        return f"allow kinesis:{failure.operation} on the stream, or set put: auto"

    async def _connect(self) -> Any:  # noqa: ANN401  # the library makes client classes at run time
        async with self._connecting:
            if self._client is None:
                client = await self._aws.client(
                    "kinesis", self._target.region, self._keys, self._target.endpoint_url
                )
                client.meta.events.register("provide-client-params.kinesis", _keep_body)
                client.meta.events.register("before-call.kinesis", _give_body)
                self._client = client
        return self._client


def _halves(start: int, end: int) -> Iterator[tuple[int, int]]:
    middle = (start + end) // 2
    # The first half last: it is popped first, and records are tried in order.
    yield middle, end
    yield start, middle


def _role_refusal(error: RoleError) -> Refusal:
    throttled = error.outcome.kind is Kind.THROTTLED
    waits = Fault.THROTTLED if throttled else Fault.TRANSIENT
    paused = error.outcome.kind is Kind.CONFIGURATION
    return Refusal(Fault.CONFIGURATION if paused else waits, "Role", error.outcome)


def _keep_body(params: dict[str, Any], context: dict[str, Any], **_: object) -> dict[str, Any]:
    """Lay the finished body aside, so that the serializer has nothing to do."""
    context["body"] = params["Body"]
    return {}


def _give_body(params: dict[str, Any], context: dict[str, Any], **_: object) -> None:
    """Put the body into the request just before it is signed."""
    params["body"] = context["body"]

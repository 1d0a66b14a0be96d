"""One call to AWS: signed by hand, sent by the library's HTTP session, its errors in our words."""

import asyncio
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar, cast

import msgspec
from botocore.awsrequest import AWSPreparedRequest
from botocore.parsers import create_parser
from msgspec.json import Decoder

from forwarder.aws import errors, local_settings, replies
from forwarder.aws.connection_pool import PoolMember
from forwarder.aws.credentials import RoleError
from forwarder.aws.errors import AwsErrorClass, AwsFailure
from forwarder.aws.http_connection import GuardedResponse, HeldAnswer, RequestTerms, terms
from forwarder.aws.receipts import Receipts
from forwarder.aws.replies import PutReply, RecordResult
from forwarder.aws.session import MAX_CONNECTIONS, AwsSession, describe_error
from forwarder.aws.sigv4 import Signer
from forwarder.config.connection import Connection
from forwarder.model import Outcome, OutcomeKind

NO_OUTCOME = Outcome(OutcomeKind.TRANSIENT, errors.UNANSWERED, "not sent")
"""What an answer is before there is one: nothing is acknowledged by default."""
ANSWER_BYTES = 64 * 1024
RECORD_ANSWER_BYTES = 2 * 1024
"""Bounds of an answer: 64 KiB, and 2 KiB for each record put. AWS says of one that is stored some
150 bytes, and of one that is not some 300; its error of a whole request may repeat a value."""
MAX_PUT_AGE_SECONDS = 10.0
"""How long after its begin a put may make calls: a process that slept in the midst of one may have
been replaced, and must not go on with it (D3)."""

_OK = 200
_REFUSED = 400
_FOREIGN = "the answer may be another request's"
_PARSER = create_parser("json")
_REQUEST_ID = "x-amzn-requestid"


A = TypeVar("A", bound=PutReply)


class CallFailure(msgspec.Struct, frozen=True):
    """A call that stored nothing, or may not have; ``outcome`` answers for all its batches."""

    fault: AwsErrorClass
    code: str
    outcome: Outcome


class CallTarget(msgspec.Struct, frozen=True):
    """What is called: ``service`` and ``target`` as AWS names them, ``where`` for people.

    ``arn``: the stream's, where requests name it so; it may have an endpoint of its own.
    """

    service: str
    target: str
    region: str
    endpoint_url: str | None
    where: str
    arn: str | None = None


class CallResult(NamedTuple, Generic[A]):
    """A call that was answered: an outcome for each record, and the answer itself."""

    outcomes: list[Outcome]
    reply: A


_NOT_SENT = CallFailure(AwsErrorClass.TRANSIENT, errors.UNANSWERED, NO_OUTCOME)


class _Route(NamedTuple):
    url: str
    signer: Signer
    member: PoolMember


class _Call(NamedTuple, Generic[A]):
    """What is asked: ``form`` is that of its answer, ``is_late`` tells whether not to send it."""

    operation: str
    body: bytes
    form: Decoder[A]
    is_late: Callable[[], bool]
    records: int


class _ReadResponse(NamedTuple):
    """An answer as it was read; its connection, of pool ``pool``, is held until it is judged."""

    status: int
    headers: Any
    body: bytes
    response: GuardedResponse | HeldAnswer
    pool: int


class AwsClient:
    """Calls one service for one connection; renews its credentials when AWS rejects them."""

    def __init__(
        self,
        aws: AwsSession,
        connection: Connection,
        goal: CallTarget,
        remedy: Callable[[AwsFailure], str] | None = None,
    ) -> None:
        """Create; connects at the first call. ``remedy(failure)`` overrides the table's remedy."""
        self._aws = aws
        self._connection = connection
        self._keys = aws.make_keyring(connection.credentials, goal.region, connection.name)
        self._goal = goal
        self._known_remedy = remedy or (lambda _: "")
        self._connecting = asyncio.Lock()
        self._room = asyncio.Semaphore(MAX_CONNECTIONS)
        self._route: _Route | None = None
        self._receipts = Receipts(aws.receipts)

    async def call(
        self,
        operation: str,
        body: bytes,
        form: Decoder[A],
        is_late: Callable[[], bool],
        records: int = 1,
    ) -> CallResult[A] | CallFailure:
        """Call once; if AWS rejects the keys, renew them and call once more. Never raises.

        ``form`` is that of the answer. ``records`` are in ``body``: so large an answer is read, and
        a larger one counts as none. Nothing is sent once ``is_late`` says so.
        """
        call = _Call(operation, body, form, is_late, records)
        generation = self._keys.generation
        answer = await self._try(call)
        if not isinstance(answer, CallFailure) or answer.fault is not AwsErrorClass.CREDENTIALS:
            return answer
        try:
            renewed = await self._keys.renew(generation)
        except RoleError as error:
            return _role_refusal(error)
        if renewed:
            answer = await self._try(call)
        return answer

    def deadline_check(self) -> Callable[[], bool]:
        """Return what tells whether a put that begins now has lasted too long for more calls."""
        steady = self._aws.clock.steady
        until = steady() + MAX_PUT_AGE_SECONDS
        return lambda: steady() > until

    async def close(self) -> None:
        """Close credentials, and connections that no other client uses."""
        await self._keys.close()
        if self._route is not None:
            await self._aws.pools.leave(self._route.member)
            self._route = None

    async def _try(self, call: _Call[A]) -> CallResult[A] | CallFailure:
        try:
            async with asyncio.timeout(self._aws.limits.call), self._room:
                read = await self._post(call)
        except RoleError as error:
            return _role_refusal(error)
        except Exception as error:  # noqa: BLE001  # a sink answers, whatever happened
            return self._refusal(describe_error(error, call.operation))
        if read is None:
            return _NOT_SENT
        keeps, found = False, None
        try:
            keeps, found = self._check_answer(call, read)
        finally:
            # In the step that read it: nothing was asked meanwhile, nothing else has come.
            (read.response.release if keeps else read.response.abort)()
        return self._refusal(found) if isinstance(found, AwsFailure) else found

    def _check_answer(
        self, call: _Call[A], read: _ReadResponse
    ) -> tuple[bool, CallResult[A] | AwsFailure]:
        """Return what an answer says, and whether its connection may be used again.

        It may if nothing else is to come: the answer says by a receipt or a request id of its own
        that it was made for what was asked here.
        """
        known = read.headers.get(_REQUEST_ID)
        if known:
            ours = self._receipts.register_request(read.pool, known)
        else:
            ours = not read.response.repeats(read.body)
        ours = ours and not read.response.doubtful
        if read.status != _OK:
            if not ours:
                return False, _unanswered(call, _FOREIGN)
            return bool(known) and read.status >= _REFUSED, _failure(call.operation, read)
        try:
            reply = call.form.decode(read.body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False, _unanswered(call, "the answer is unreadable")
        wrong = replies.contradiction(reply, self._receipts, call.records)
        if wrong or not ours:
            return False, _unanswered(call, wrong if ours else _FOREIGN)
        return self._record_outcomes(call.operation, reply, attested=bool(known))

    def _record_outcomes(
        self, operation: str, reply: A, *, attested: bool
    ) -> tuple[bool, CallResult[A]]:
        """Return the outcomes of an answer that is believed, and whether all of it is said."""
        found = reply.stored()
        if found and all(found):
            return True, CallResult(cast("list[Outcome]", found), reply)
        outcomes: list[Outcome] = []
        complete = True
        for one, stored in zip(reply.each, found, strict=True):
            if stored is None:
                complete &= bool(one.error_code)
                outcomes.append(self._unstored(operation, one))
            else:
                attested = True
                outcomes.append(stored)
        return complete and attested, CallResult(outcomes, reply)

    def _unstored(self, operation: str, one: RecordResult) -> Outcome:
        code, message = one.error_code, one.error_message or ""
        if not code:
            code, message = errors.UNANSWERED, "nothing says that it is stored"
        return errors.failure_outcome(AwsFailure(operation, code, _OK, message), self._goal.where)

    def _refusal(self, failure: AwsFailure) -> CallFailure:
        if errors.table_code(failure.code) == "ResourceNotFound":
            self._receipts.clear()
        remedy = self._known_remedy(failure)
        if errors.is_of_keys(failure):
            credentials = self._connection.credentials
            remedy = credentials.rejection_remedy(self._connection.name)
            found = None if remedy else local_settings.keys_fault()
            if found is not None:
                remedy = f"{found.remedy}: {found.what}"
        outcome = errors.failure_outcome(failure, self._goal.where, remedy)
        return CallFailure(
            errors.aws_error_class(failure), errors.table_code(failure.code), outcome
        )

    async def _post(self, call: _Call[A]) -> _ReadResponse | None:
        """Send and read the answer; None: it became too late to send while keys were awaited."""
        line = self._route or await self._connect()
        keys = await self._keys.get_frozen_credentials()
        if call.is_late():
            return None
        now = self._aws.clock.wall_ms() / 1000
        target = f"{self._goal.target}.{call.operation}"
        signed = line.signer.sign(keys, target, call.body, now)
        session, pool = line.member.session, line.member.number
        bound = ANSWER_BYTES + call.records * RECORD_ANSWER_BYTES
        # Here alone: what the keys ask for beside puts has terms of its own.
        before = terms.set(RequestTerms(bound, call.is_late))
        try:
            if (fields := signed.fields()) is not None:
                held = await session.exchange(line.url, fields, call.body)
                if held is not None:
                    return _ReadResponse(held.status, held.headers, held.body, held, pool)
            request = AWSPreparedRequest(
                "POST", line.url, signed.headers(), call.body, stream_output=True
            )
            answer = await session.send(request)
        finally:
            terms.reset(before)
        body = await answer.raw.read_held()
        return _ReadResponse(answer.status_code, answer.headers, body, answer.raw, pool)

    async def _connect(self) -> _Route:
        goal = self._goal
        async with self._connecting:
            if self._route is None:
                place = await self._aws.endpoints.find(
                    goal.service, goal.region, goal.endpoint_url, goal.arn
                )
                member = await self._aws.pools.join(place.url, place.session_options)
                self._route = _Route(place.url, place.signer(), member)
        return self._route


def _failure(operation: str, answer: _ReadResponse) -> AwsFailure:
    """Read an error as the library reads it: AWS has spelled them in several ways."""
    status = answer.status
    read = {"status_code": status, "headers": answer.headers, "body": answer.body}
    try:
        error = _PARSER.parse(read, None).get("Error", {})
    except Exception:  # noqa: BLE001  # not from AWS: what a proxy says need be neither text nor JSON
        error = {}
    return AwsFailure(operation, str(error.get("Code", "")), status, str(error.get("Message", "")))


def _unanswered(call: _Call[Any], why: str) -> AwsFailure:
    return AwsFailure(call.operation, errors.UNANSWERED, 0, why)


def _role_refusal(error: RoleError) -> CallFailure:
    throttled = error.outcome.kind is OutcomeKind.THROTTLED
    waits = AwsErrorClass.THROTTLED if throttled else AwsErrorClass.TRANSIENT
    paused = error.outcome.kind is OutcomeKind.CONFIGURATION
    return CallFailure(AwsErrorClass.CONFIGURATION if paused else waits, "Role", error.outcome)

"""One call to AWS: signed by hand, sent by the library's HTTP session, its errors in our words."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec
from botocore.awsrequest import AWSPreparedRequest
from botocore.parsers import create_parser
from msgspec.json import Decoder

from forwarder.connection import Connection
from forwarder.sinks import classify, local_settings
from forwarder.sinks.aws import Aws, failure_of, keys_remedy
from forwarder.sinks.base import Kind, Outcome
from forwarder.sinks.classify import Failure, Fault
from forwarder.sinks.credentials import RoleError
from forwarder.sinks.http_connection import largest
from forwarder.sinks.receipts import Receipts
from forwarder.sinks.sigv4 import Signer
from forwarder.sinks.wire import Told

CALL_SECONDS = 30.0
"""A bound on one call as a whole; the timeouts of the connection bound each of its steps."""

UNSENT = Outcome(Kind.TRANSIENT, classify.UNANSWERED, "not sent")
"""What an answer is before there is one: nothing is acknowledged by default."""
ANSWER_BYTES = 64 * 1024
RECORD_ANSWER_BYTES = 2 * 1024
"""Bounds of an answer: 64 KiB, and 2 KiB for each record put. AWS says of one that is stored some
150 bytes, and of one that is not some 300; its error of a whole request may repeat a value."""
FRESH_SECONDS = 10.0
"""How long after its begin a put may make calls: a process that slept in the midst of one may have
been replaced, and must not go on with it (D3)."""

_OK = 200
_PARSER = create_parser("json")
_REQUEST_ID = "x-amzn-requestid"


class Answered(Protocol):
    """What the answer of a put is decoded into."""

    @property
    def each(self) -> Sequence[Told]:
        """Return what is said of each record."""


A = TypeVar("A", bound=Answered)


class Refusal(msgspec.Struct, frozen=True):
    """A call that stored nothing, or may not have; ``outcome`` answers for all its batches."""

    fault: Fault
    code: str
    outcome: Outcome


class Goal(msgspec.Struct, frozen=True):
    """What is called: ``service`` and ``target`` as AWS names them, ``where`` for people.

    ``arn``: the stream's, where requests name it so; it may have an endpoint of its own.
    """

    service: str
    target: str
    region: str
    endpoint_url: str | None
    where: str
    arn: str | None = None


class _Line(NamedTuple):
    url: str
    signer: Signer
    session: Any


class _Answer(NamedTuple):
    """An answer as it was read; ``doubtful``: it may be another request's."""

    status: int
    headers: Any
    body: bytes
    doubtful: bool


class Caller:
    """Calls one service for one connection; renews its credentials when AWS rejects them."""

    def __init__(
        self,
        aws: Aws,
        connection: Connection,
        goal: Goal,
        remedy: Callable[[Failure], str] | None = None,
    ) -> None:
        """Prepare; the first call connects. ``remedy`` knows better than the table what to do."""
        self._aws = aws
        self._connection = connection
        self._keys = aws.keyring(connection.credentials, goal.region, connection.name)
        self._goal = goal
        self._known_remedy = remedy or (lambda _: "")
        self._connecting = asyncio.Lock()
        self._line: _Line | None = None
        self._receipts = Receipts()

    async def call(
        self, operation: str, body: bytes, reply: Decoder[A], records: int = 1
    ) -> A | Refusal:
        """Call once; if AWS rejects the keys, renew them and call once more. Never raises.

        ``records`` are in ``body``: so large an answer is read, and a larger one counts as none.
        """
        largest.set(ANSWER_BYTES + records * RECORD_ANSWER_BYTES)
        generation = self._keys.generation
        answer = await self._try(operation, body, reply)
        if not isinstance(answer, Refusal) or answer.fault is not Fault.CREDENTIALS:
            return answer
        try:
            renewed = await self._keys.renew(generation)
        except RoleError as error:
            return _role_refusal(error)
        if renewed:
            answer = await self._try(operation, body, reply)
        return answer

    def outcome(self, operation: str, code: str, message: str) -> Outcome:
        """Return the answer for one record of a call that succeeded as a whole."""
        return classify.outcome(Failure(operation, code, 200, message), self._goal.where)

    def takes(self, told: Sequence[Told]) -> bool:
        """Tell whether all that is said to be stored is said for the first time, and note it.

        The numbers of one answer belong together: with one that is old all of them are.
        """
        receipts = self._receipts
        new = receipts.takes_all(
            [(one.shard_id or "", one.sequence_number) for one in told if one.sequence_number]
        )
        for one in told:
            if one.record_id and not one.sequence_number:
                new &= receipts.takes(("record", one.record_id))
        return new

    def late(self) -> Callable[[], bool]:
        """Return what tells whether a put that begins now has lasted too long for more calls."""
        steady = self._aws.clock.steady
        until = steady() + FRESH_SECONDS
        return lambda: steady() > until

    async def close(self) -> None:
        """Close connections and credentials."""
        await self._keys.close()
        if self._line is not None:
            await self._line.session.close()

    async def _try(self, operation: str, body: bytes, reply: Decoder[A]) -> A | Refusal:
        try:
            async with asyncio.timeout(CALL_SECONDS):
                answer = await self._post(operation, body)
            known = answer.headers.get(_REQUEST_ID)
            ours = not answer.doubtful and (not known or self._receipts.takes(("id", known)))
            if answer.status == _OK:
                told = reply.decode(answer.body)
                if ours:
                    return told
                self.takes(told.each)
            failure = _failure(operation, answer) if ours else _foreign(operation)
        except RoleError as error:
            return _role_refusal(error)
        except (msgspec.DecodeError, UnicodeDecodeError):
            failure = Failure(operation, classify.UNANSWERED, 200, "the answer is unreadable")
        except Exception as error:  # noqa: BLE001  # a sink answers, whatever happened
            failure = failure_of(error, operation)
        return self._refusal(failure)

    def _refusal(self, failure: Failure) -> Refusal:
        if classify.short(failure.code) == "ResourceNotFound":
            self._receipts.clear()
        remedy = self._known_remedy(failure)
        if classify.is_of_keys(failure):
            remedy = keys_remedy(self._connection)
            found = None if self._connection.credentials else local_settings.keys_fault()
            if found is not None:
                remedy = f"{found.remedy}: {found.what}"
        outcome = classify.outcome(failure, self._goal.where, remedy)
        return Refusal(classify.fault(failure), classify.short(failure.code), outcome)

    async def _post(self, operation: str, body: bytes) -> _Answer:
        line = self._line or await self._connect()
        keys = await self._keys.get_frozen_credentials()
        now = self._aws.clock.wall_ms() / 1000
        headers = line.signer.headers(keys, f"{self._goal.target}.{operation}", body, now)
        request = AWSPreparedRequest("POST", line.url, headers, body, stream_output=True)
        response = await line.session.send(request)
        told = await response.content
        return _Answer(response.status_code, response.headers, told, response.raw.doubtful)

    async def _connect(self) -> _Line:
        goal = self._goal
        async with self._connecting:
            if self._line is None:
                place = await self._aws.places.find(
                    goal.service, goal.region, goal.endpoint_url, goal.arn
                )
                session = await place.session().__aenter__()
                self._line = _Line(place.url, place.signer(), session)
        return self._line


def _failure(operation: str, answer: _Answer) -> Failure:
    """Read an error as the library reads it: AWS has spelled them in several ways."""
    status = answer.status
    read = {"status_code": status, "headers": answer.headers, "body": answer.body}
    try:
        error = _PARSER.parse(read, None).get("Error", {})
    except Exception:  # noqa: BLE001  # not from AWS: what a proxy says need be neither text nor JSON
        error = {}
    return Failure(operation, str(error.get("Code", "")), status, str(error.get("Message", "")))


def _foreign(operation: str) -> Failure:
    return Failure(operation, classify.UNANSWERED, 0, "the answer may be another request's")


def _role_refusal(error: RoleError) -> Refusal:
    throttled = error.outcome.kind is Kind.THROTTLED
    waits = Fault.THROTTLED if throttled else Fault.TRANSIENT
    paused = error.outcome.kind is Kind.CONFIGURATION
    return Refusal(Fault.CONFIGURATION if paused else waits, "Role", error.outcome)

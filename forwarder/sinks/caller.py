"""One call to AWS: signed by hand, sent by the library's HTTP session, its errors in our words."""

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import msgspec
from botocore.awsrequest import AWSPreparedRequest
from botocore.parsers import create_parser
from msgspec.json import Decoder

from forwarder.sinks import classify
from forwarder.sinks.aws import Aws, failure_of
from forwarder.sinks.base import Kind, Outcome
from forwarder.sinks.classify import Failure, Fault
from forwarder.sinks.credentials import Keyring, RoleError
from forwarder.sinks.sigv4 import Signer

CALL_SECONDS = 30.0
"""A bound on one call as a whole; the timeouts of the connection bound each of its steps."""

UNSENT = Outcome(Kind.TRANSIENT, classify.UNANSWERED, "not sent")
"""What an answer is before there is one: nothing is acknowledged by default."""
FRESH_SECONDS = 10.0
"""How long after its begin a put may make calls: a process that slept in the midst of one may have
been replaced, and must not go on with it (D3)."""

_OK = range(200, 300)
_PARSER = create_parser("json")

Told = TypeVar("Told")


class Refusal(msgspec.Struct, frozen=True):
    """A call that stored nothing, or may not have; ``outcome`` answers for all its batches."""

    fault: Fault
    code: str
    outcome: Outcome


class Goal(msgspec.Struct, frozen=True):
    """What is called: ``service`` and ``target`` as AWS names them, ``where`` for people."""

    service: str
    target: str
    region: str
    endpoint_url: str | None
    where: str


class _Line(NamedTuple):
    url: str
    signer: Signer
    session: Any


class Caller:
    """Calls one service for one connection; renews its credentials when AWS rejects them."""

    def __init__(
        self, aws: Aws, keys: Keyring, goal: Goal, remedy: Callable[[Failure], str] | None = None
    ) -> None:
        """Prepare; the first call connects. ``remedy`` knows better than the table what to do."""
        self._aws = aws
        self._keys = keys
        self._goal = goal
        self._remedy = remedy or (lambda _: "")
        self._connecting = asyncio.Lock()
        self._line: _Line | None = None

    async def call(self, operation: str, body: bytes, reply: Decoder[Told]) -> Told | Refusal:
        """Call once; if AWS rejects the keys, renew them and call once more. Never raises."""
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

    async def _try(self, operation: str, body: bytes, reply: Decoder[Told]) -> Told | Refusal:
        try:
            async with asyncio.timeout(CALL_SECONDS):
                status, headers, told = await self._post(operation, body)
            if status in _OK:
                return reply.decode(told)
            failure = _failure(operation, status, headers, told)
        except RoleError as error:
            return _role_refusal(error)
        except (msgspec.DecodeError, UnicodeDecodeError):
            failure = Failure(operation, classify.UNANSWERED, 200, "the answer is unreadable")
        except Exception as error:  # noqa: BLE001  # a sink answers, whatever happened
            failure = failure_of(error, operation)
        outcome = classify.outcome(failure, self._goal.where, self._remedy(failure))
        return Refusal(classify.fault(failure), classify.short(failure.code), outcome)

    async def _post(self, operation: str, body: bytes) -> tuple[int, Any, bytes]:
        line = self._line or await self._connect()
        keys = await self._keys.get_frozen_credentials()
        now = self._aws.clock.wall_ms() / 1000
        headers = line.signer.headers(keys, f"{self._goal.target}.{operation}", body, now)
        request = AWSPreparedRequest("POST", line.url, headers, body, stream_output=False)
        response = await line.session.send(request)
        return response.status_code, response.headers, await response.content

    async def _connect(self) -> _Line:
        goal = self._goal
        async with self._connecting:
            if self._line is None:
                place = await self._aws.places.find(goal.service, goal.region, goal.endpoint_url)
                session = await place.session().__aenter__()
                self._line = _Line(place.url, place.signer(), session)
        return self._line


def _failure(operation: str, status: int, headers: Any, told: bytes) -> Failure:  # noqa: ANN401
    """Read an error as the library reads it: AWS has spelled them in several ways."""
    answer = {"status_code": status, "headers": headers, "body": told}
    try:
        error = _PARSER.parse(answer, None).get("Error", {})
    except Exception:  # noqa: BLE001  # not from AWS: what a proxy says need be neither text nor JSON
        error = {}
    return Failure(operation, str(error.get("Code", "")), status, str(error.get("Message", "")))


def _role_refusal(error: RoleError) -> Refusal:
    throttled = error.outcome.kind is Kind.THROTTLED
    waits = Fault.THROTTLED if throttled else Fault.TRANSIENT
    paused = error.outcome.kind is Kind.CONFIGURATION
    return Refusal(Fault.CONFIGURATION if paused else waits, "Role", error.outcome)

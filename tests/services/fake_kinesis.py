"""Kinesis, Firehose and STS that misbehave on request: what an emulator cannot do.

Speaks the JSON 1.1 protocol for puts and the query protocol for AssumeRole,
on one loopback port. Every call takes the next scripted answer of its action; without one it is
answered as the service would answer.
"""

import asyncio
import re
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
import orjson
from aiohttp import web
from botocore.loaders import create_loader

from forwarder.model import Batch, CloseReason

LARGEST_RECORD = 1_048_576
LARGEST_LINE = 1_024_000
MOST_LINES = 4 * 1024 * 1024
MAX_RECORDS = 500
VERSIONS = {
    "PutRecord": "Kinesis_20131202",
    "PutRecords": "Kinesis_20131202",
    "PutRecordBatch": "Firehose_20150804",
}
SIGNED_BY = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/]+)/\d{8}/([a-z0-9-]+)/(\w+)/aws4_request")
STS = "https://sts.amazonaws.com/doc/2011-06-15/"


LOADER = create_loader()
"""The library's service models; reading them takes 100 ms, which every test would pay."""


class FakeClock:
    """A clock that stands still until told otherwise."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def wall_ms(self) -> int:
        return int(self.now * 1000)

    def steady(self) -> float:
        return self.now


class Error(NamedTuple):
    """The whole call fails; nothing is stored."""

    code: str
    status: int = 400
    message: str = "made up"


class Partial(NamedTuple):
    """PutRecords or PutRecordBatch stores everything but these records, by index."""

    errors: dict[int, str]


class Lost(NamedTuple):
    """The connection breaks instead of an answer."""

    stored: bool


class Cut(NamedTuple):
    """Everything is stored, and the answer tells of fewer records."""

    named: int


class Blank(NamedTuple):
    """Everything is stored, and the answer names neither errors nor sequence numbers."""


class Garbled(NamedTuple):
    """Everything is stored, and the answer cannot be read."""

    body: bytes
    status: int = 200


class Moved(NamedTuple):
    """Nothing is stored, and the answer is a redirect to another URL."""

    url: str
    status: int


class Silent(NamedTuple):
    """No answer until the test says so."""

    until: asyncio.Event


Answer = Error | Partial | Lost | Cut | Blank | Garbled | Moved | Silent


class Single(msgspec.Struct, forbid_unknown_fields=True, rename="pascal"):
    stream_name: str
    partition_key: str
    data: bytes
    sequence_number_for_ordering: str | None = None


class Record(msgspec.Struct, forbid_unknown_fields=True, rename="pascal"):
    partition_key: str
    data: bytes


class Many(msgspec.Struct, forbid_unknown_fields=True, rename="pascal"):
    stream_name: str
    records: list[Record]


class Line(msgspec.Struct, forbid_unknown_fields=True, rename="pascal"):
    data: bytes


class Lines(msgspec.Struct, forbid_unknown_fields=True, rename="pascal"):
    delivery_stream_name: str
    records: list[Line]


class Call(NamedTuple):
    """One call as it arrived; ``after`` is PutRecord's sequence number for ordering."""

    action: str
    signed_by: str
    region: str
    service: str
    records: Sequence[Record] = ()
    after: str | None = None
    form: dict[str, str] | None = None


class FakeKinesis:
    """A stream that stores what it accepts, in order, and tells of every call."""

    def __init__(self, clock: FakeClock | None = None) -> None:
        self.clock = clock or FakeClock()
        self.stored: list[Record] = []
        self.calls: list[Call] = []
        self.script: dict[str, deque[Answer]] = defaultdict(deque)
        self.denied: set[str] = set()
        self.expired: set[str] = set()
        self.refuses: Callable[[Record], bool] = lambda _: False
        self.refuses_after: set[str] = set()
        self.token_seconds = 3600.0
        self.most_at_once = 0
        self.told = 0
        self._at_once = 0
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self) -> None:
        application = web.Application(client_max_size=16 * 1024 * 1024)
        application.router.add_post("/", self._handle)
        self._runner = web.AppRunner(application)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def answers(self, action: str, *answers: Answer) -> None:
        """Answer the next calls of an action so, one each."""
        self.script[action].extend(answers)

    def actions(self) -> list[str]:
        """Return the actions called, in order."""
        return [call.action for call in self.calls]

    def values(self) -> list[bytes]:
        """Return what is stored, in order."""
        return [record.data for record in self.stored]

    async def _handle(self, request: web.Request) -> web.Response:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            call = await self._read(request)
            self.calls.append(call)
            script = self.script[call.action]
            return await self._answer(request, call, script.popleft() if script else None)
        finally:
            self._at_once -= 1

    async def _read(self, request: web.Request) -> Call:
        signed = SIGNED_BY.match(request.headers["Authorization"])
        assert signed, "not signed"
        body = await request.read()
        target = request.headers.get("X-Amz-Target")
        if target is None:
            form = {key: str(value) for key, value in (await request.post()).items()}
            return Call(form["Action"], signed[1], signed[2], signed[3], form=form)
        assert request.headers["Content-Type"] == "application/x-amz-json-1.1"
        version, action = target.split(".")
        assert version == VERSIONS[action]
        if action == "PutRecord":
            one = msgspec.json.decode(body, type=Single)
            record = Record(one.partition_key, one.data)
            return Call(
                action, signed[1], signed[2], signed[3], [record], one.sequence_number_for_ordering
            )
        if action == "PutRecordBatch":
            lines = msgspec.json.decode(body, type=Lines).records
            records = [Record("", line.data) for line in lines]
            return Call(action, signed[1], signed[2], signed[3], records)
        many = msgspec.json.decode(body, type=Many)
        return Call(action, signed[1], signed[2], signed[3], many.records)

    async def _answer(
        self, request: web.Request, call: Call, answer: Answer | None
    ) -> web.Response:
        if isinstance(answer, Moved):
            return web.Response(status=answer.status, headers={"Location": answer.url})
        error = answer if isinstance(answer, Error) else self._rejection(call)
        if error is not None:
            return _failed(call, error)
        if isinstance(answer, Silent):
            await answer.until.wait()
        if call.form is not None and not isinstance(answer, Lost):
            return self._assumed(call.form)
        failed = answer.errors if isinstance(answer, Partial) else {}
        if not isinstance(answer, Lost) or answer.stored:
            self.stored += [r for index, r in enumerate(call.records) if index not in failed]
        if isinstance(answer, Lost):
            assert request.transport is not None
            request.transport.abort()
        if isinstance(answer, Blank):
            blank: list[dict[str, str]] = [{}] * len(call.records)
            return _json({"FailedRecordCount": 0, "Records": blank, "RequestResponses": blank})
        if isinstance(answer, Garbled):
            return web.Response(body=answer.body, status=answer.status)
        return self._told(call, failed, answer.named if isinstance(answer, Cut) else None)

    def _rejection(self, call: Call) -> Error | None:
        if call.signed_by in self.expired:
            return Error("ExpiredTokenException")
        if call.action in self.denied:
            return Error("AccessDeniedException")
        sizes = [len(r.data) + len(r.partition_key.encode()) for r in call.records]
        largest, most = LARGEST_RECORD, 1e9
        if call.action == "PutRecordBatch":
            largest, most = LARGEST_LINE, MOST_LINES
        if len(sizes) > MAX_RECORDS or sum(sizes) > most or any(s > largest for s in sizes):
            return Error("ValidationException")
        if any(self.refuses(record) for record in call.records):
            return Error("ValidationException", message="Value 'a-secret' is not accepted")
        if call.after in self.refuses_after:
            return Error("InvalidArgumentException")
        return None

    def _told(self, call: Call, failed: dict[int, str], count: int | None) -> web.Response:
        first, self.told = self.told, self.told + len(call.records)
        told = [_result(first + index, failed.get(index)) for index in range(len(call.records))]
        if call.action == "PutRecordBatch":
            lines = [
                each if "ErrorCode" in each else {"RecordId": f"r{each['SequenceNumber']}"}
                for each in told
            ]
            return _json({"FailedPutCount": len(failed), "RequestResponses": lines[:count]})
        if call.action == "PutRecord":
            return _json(told[0])
        return _json({"FailedRecordCount": len(failed), "Records": told[:count]})

    def _assumed(self, form: dict[str, str]) -> web.Response:
        role = form["RoleArn"].replace(":iam:", ":sts:").replace(":role/", ":assumed-role/")
        number = self.actions().count("AssumeRole")
        until = datetime.fromtimestamp(self.clock.now + self.token_seconds, UTC).isoformat()
        return web.Response(
            content_type="text/xml",
            text=(
                f'<AssumeRoleResponse xmlns="{STS}"><AssumeRoleResult><Credentials>'
                f"<AccessKeyId>ASIA{number}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
                f"<SessionToken>t</SessionToken><Expiration>{until}</Expiration>"
                f"</Credentials><AssumedRoleUser><Arn>{role}/{form['RoleSessionName']}</Arn>"
                "</AssumedRoleUser></AssumeRoleResult></AssumeRoleResponse>"
            ),
        )


def _result(index: int, code: str | None) -> dict[str, str]:
    if code is not None:
        return {"ErrorCode": code, "ErrorMessage": "made up"}
    return {"ShardId": "shardId-000000000000", "SequenceNumber": f"{index + 1:021d}"}


def _failed(call: Call, error: Error) -> web.Response:
    if call.form is None:
        told = {"__type": error.code, "message": error.message}
        return _json(told if error.code else {}, error.status)
    text = (
        f'<ErrorResponse xmlns="{STS}"><Error><Type>Sender</Type><Code>{error.code}</Code>'
        f"<Message>{error.message}</Message></Error></ErrorResponse>"
    )
    return web.Response(status=error.status, content_type="text/xml", text=text)


def _json(content: object, status: int = 200) -> web.Response:
    kind = "application/x-amz-json-1.1"
    return web.Response(body=orjson.dumps(content), status=status, content_type=kind)


def batch(number: int, payload: bytes | None = None, mpid: str = "") -> Batch:
    """Return a batch of device ``number``."""
    return Batch(
        lane="acme",
        id=f"00000000-0000-0000-0000-{number:012d}",
        key=number.to_bytes(16, "big"),
        window_key=number.to_bytes(16, "big"),
        first=(number, 0),
        last=(number, 0),
        count=1,
        closed_at=0,
        record_ms=0,
        mpid=mpid,
        reason=CloseReason.AGE,
        payload=b'{"number":%d}' % number if payload is None else payload,
    )

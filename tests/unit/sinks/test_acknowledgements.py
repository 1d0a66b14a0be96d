"""An acknowledgement belongs to its request, whatever a server sends, and whenever it does."""

import asyncio
import base64
import contextlib
import os
import re
import select
from collections.abc import Callable, Coroutine, Sequence
from itertools import count, zip_longest
from typing import NamedTuple

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forwarder.aws.session import AwsSession
from forwarder.config.connection import Connection
from forwarder.config.credentials import AccessKeys
from forwarder.config.targets import FirehoseTarget, KinesisTarget, PutMode
from forwarder.model import Outcome, OutcomeKind
from forwarder.sinks.contract import Sink
from forwarder.sinks.firehose import FirehoseSink
from forwarder.sinks.kinesis import KinesisSink
from tests.services.fake_kinesis import LOADER, FakeClock, batch

KEYS = AccessKeys("AKIA", "secret")
LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
ACTION = re.compile(rb"x-amz-target: \w+\.(\w+)", re.IGNORECASE)


class Act(NamedTuple):
    """What happens to one request.

    ``stores``: its records are stored. ``answer``: what is sent, after so many turns of the loop;
    ``behind``: what is sent after it, at once or ``later``, in as many turns. ``owes``: where
    ``answer`` was not the true one, that one comes as soon as anything is asked on the connection
    again, and the answer to this in ``turns``.
    """

    stores: bool = True
    answer: str = "true"
    behind: str = ""
    later: bool = False
    number: int = 0
    turns: int = 0
    owes: bool = False


# What claims that records are stored is only sent where it is true, or where it can be told.
TRUE = ("true", "chunked", "interim", "closing", "undelimited")
FALSE = (
    "replayed",
    "truncated",
    "garbage",
    "gone",
    "fewer",
    "more",
    "sum",
    "blank",
    "unnumbered",
    "shardless",
    "repeated",
    "upgrade",
    "moved",
    "failed",
    "refused",
    "no content",
    "accepted",
)
BEHIND = ("", "forged", "again", "half", "garbage", "interim")
ACTS = st.one_of(
    st.builds(
        Act,
        st.just(True),  # noqa: FBT003
        st.sampled_from(TRUE),
        st.sampled_from(BEHIND),
        st.booleans(),
        st.integers(0, 50),
        st.integers(0, 6),
        st.booleans(),
    ),
    st.builds(
        Act,
        st.booleans(),
        st.sampled_from(FALSE),
        st.sampled_from(BEHIND),
        st.booleans(),
        st.integers(0, 50),
        st.integers(0, 6),
        st.booleans(),
    ),
    # What was stored is owed its true answer; behind it what is not stored, and answered slowly.
    st.sampled_from([Act(answer=false, owes=True) for false in FALSE]),
    st.sampled_from([Act(stores=False, answer=false, turns=6) for false in FALSE]),
)
ROWS = st.tuples(
    st.lists(st.integers(1, 3), min_size=1, max_size=3),
    st.none() | st.integers(0, 4),
    st.none() | st.integers(5, 40),
)
"""Sizes of puts beside each other; turns between a stray answer and them; turns until they are
cancelled."""


def after(turns: int, act: Callable[[], None]) -> None:
    """Act at once, or after so many turns of the loop."""
    if turns:
        asyncio.get_running_loop().call_soon(after, turns - 1, act)
    else:
        act()


class Hostile(asyncio.Protocol):
    """One connection to the server that sends anything."""

    def __init__(self, server: "Server") -> None:
        self.server = server
        self.received = b""
        self.owed = b""
        self.spoilt = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.server.connections.append(self)
        if self.server.speaks_first:
            transport.write(self.server.forged())

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, end, rest = self.received.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        if not end or length is None or len(rest) < int(length[1]):
            return
        action = ACTION.search(head)
        assert action
        body, self.received = rest[: int(length[1])], rest[int(length[1]) :]
        self.server.answer(self, action[1].decode(), orjson.loads(body))

    def send(self, content: bytes) -> None:
        assert self.transport is not None
        if not self.transport.is_closing():
            self.transport.write(content)

    def send_if_idle(self, content: bytes) -> None:
        """Send unless a request is on its way, which this might then answer as well as any."""
        assert self.transport is not None
        if self.transport.is_closing() or self.received:
            return
        waiting = select.poll()
        waiting.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        if not waiting.poll(0):
            self.transport.write(content)

    def close(self) -> None:
        assert self.transport is not None
        self.transport.close()


class Server:
    """Stores, or not, and answers by its acts; then honestly."""

    def __init__(self, acts: Sequence[Act], *, speaks_first: bool) -> None:
        self.acts = list(acts)
        self.speaks_first = speaks_first
        self.stored: list[bytes] = []
        self.sent: list[bytes] = []
        self.connections: list[Hostile] = []
        self.numbers = count(10**55)
        self.ids = count(1)
        self.last = b""

    def answer(self, to: Hostile, action: str, asked: dict[str, object]) -> None:
        act = self.acts.pop(0) if self.acts else Act()
        records = asked.get("Records", [asked])
        assert isinstance(records, list)
        if act.stores:
            self.stored += [base64.b64decode(record["Data"]) for record in records]
        self.last = self.told(action, len(records))
        told, behind = self._made(act, action, len(records)), self._behind(act)
        owed, to.owed = to.owed, b""
        if owed:
            to.send(owed)
        # What comes in between may keep the client from reading what is sent behind it.
        to.spoilt |= bool(owed) or act.later
        if act.answer in TRUE and behind in {b"", told} and not to.spoilt and told:
            self.sent.append(told)
        # A refusal with an id of its own is one that the client cannot tell from its own.
        if act.owes and act.stores and act.answer in FALSE and act.answer != "refused":
            to.owed = self.framed(self.last)
        after(act.turns, lambda: self._send(to, act, told, behind))

    def _send(self, to: Hostile, act: Act, told: bytes | None, behind: bytes) -> None:
        if told is None:
            to.close()
        elif act.answer in {"truncated", "closing", "undelimited"}:
            to.send(told)
            to.close()
        elif act.later:
            to.send(told)
            # What was never sent before nobody can tell from an answer to what is asked meanwhile.
            send = to.send_if_idle if act.behind == "forged" else to.send
            after(act.turns, lambda: send(behind))
        else:
            to.send(told + behind)

    def told(self, action: str, records: int, **changed: object) -> bytes:
        """Return the body that says all of it is stored."""
        numbers = [str(next(self.numbers)) for _ in range(records)]
        if action == "PutRecordBatch":
            each = [{"RecordId": f"record-{number}"} for number in numbers]
            return orjson.dumps({"FailedPutCount": 0, "RequestResponses": each, **changed})
        each = [{"ShardId": "shardId-000000000000", "SequenceNumber": n} for n in numbers]
        if action == "PutRecord":
            return orjson.dumps({**each[0], **changed})
        return orjson.dumps({"FailedRecordCount": 0, "Records": each, **changed})

    def stray(self) -> None:
        """Send an answer on every connection on which nothing was asked."""
        for connection in self.connections:
            connection.send_if_idle(self.forged())

    def forged(self) -> bytes:
        """Return an answer that no request of this client was given, for one record."""
        return self.framed(self.told("PutRecord", 1)) + self.framed(self.told("PutRecords", 1))

    def framed(self, body: bytes, status: str = "200 OK", *more: str) -> bytes:
        lines = (f"HTTP/1.1 {status}", f"x-amzn-RequestId: {next(self.ids)}", *more)
        length = f"Content-Length: {len(body)}"
        return "\r\n".join((*lines, length, "", "")).encode() + body

    def _behind(self, act: Act) -> bytes:
        return {
            "": b"",
            "forged": self.framed(self.last),
            "again": self.sent[act.number % len(self.sent)] if self.sent else b"",
            "half": self.framed(self.last)[: act.number + 1],
            "garbage": b"garbage \r\n\r\n",
            "interim": b"HTTP/1.1 100 Continue\r\n\r\n",
        }[act.behind]

    def _repeated(self, body: bytes) -> bytes:
        """Return an answer with a number or id that was told before; with none if none was."""
        # Whole ones: what a chunked answer has before the end of a chunk was never told.
        found = re.findall(rb"[0-9]{56}", self.sent[-1]) if self.sent else []
        if not found:
            return re.sub(rb"(?:record-)?[0-9]{20,}", b"", body)
        return re.sub(rb"[0-9]{20,}", found[0], body)

    def _made(self, act: Act, action: str, records: int) -> bytes | None:
        body, kind = self.last, act.answer
        half = len(body) // 2
        # PutRecord's own answer has no count that could be wrong: it gets another action's.
        counted = "PutRecords" if action == "PutRecord" else action
        if kind == "replayed" and self.sent:
            return self.sent[act.number % len(self.sent)]
        made = {
            "true": lambda: self.framed(body),
            "chunked": lambda: (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"%x;extension=1\r\n%b\r\n%x\r\n%b\r\n0\r\nx-amzn-RequestId: %d\r\n\r\n"
                % (half, body[:half], len(body) - half, body[half:], act.number)
            ),
            "interim": lambda: (
                b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 3 + self.framed(body)
            ),
            "closing": lambda: self.framed(body, "200 OK", "Connection: close"),
            "undelimited": lambda: b"HTTP/1.1 200 OK\r\n\r\n" + body,
            "truncated": lambda: self.framed(body)[: -1 - act.number],
            "garbage": lambda: b"\x00\xff garbage" * (act.number + 1),
            "fewer": lambda: self.framed(self.told(counted, records - 1 if records > 1 else 2)),
            "more": lambda: self.framed(self.told(counted, records + 1)),
            "sum": lambda: self.framed(
                self.told(counted, records, FailedRecordCount=1, FailedPutCount=1)
            ),
            "blank": lambda: self.framed(b"{}"),
            # What a record id looks like AWS does not say; a number is digits.
            "unnumbered": lambda: self.framed(
                re.sub(rb"record-[0-9]+", b"", re.sub(rb'"[0-9]{20,}', b'"x1', body))
            ),
            "shardless": lambda: self.framed(re.sub(rb"shardId-[0-9]+|record-[0-9]+", b"", body)),
            "repeated": lambda: self.framed(self._repeated(body)),
            "upgrade": lambda: b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n" + body,
            "moved": lambda: self.framed(body, "307 Temporary Redirect", "Location: /"),
            "failed": lambda: (
                b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: %d\r\n\r\n%b"
                % (len(body), body)
            ),
            "refused": lambda: self.framed(body, "400 Bad Request"),
            "no content": lambda: b"HTTP/1.1 204 No Content\r\n\r\n" + body,
            "accepted": lambda: self.framed(body, "202 Accepted"),
        }
        return made[kind]() if kind in made else None


def sink_of(kind: str, aws: AwsSession, url: str) -> Sink:
    if kind == "firehose":
        line = FirehoseTarget("acme", "eu-west-1", endpoint_url=url)
        return FirehoseSink(Connection("acme", line, credentials=KEYS), line, aws)
    target = KinesisTarget("acme", "eu-west-1", put=PutMode(kind), endpoint_url=url)
    return KinesisSink(Connection("acme", target, credentials=KEYS), target, aws)


async def outcomes_of(
    server: Server, puts: Sequence[Coroutine[None, None, Sequence[Outcome]]], turns: int | None
) -> Sequence[Sequence[Outcome]]:
    """Await puts; they are cancelled after so many turns of the loop; None: never."""
    all_of_them = asyncio.gather(*puts)
    sent = len(server.sent)
    for _ in range(turns or 0):
        await asyncio.sleep(0)
    if turns is None or all_of_them.done():
        return await all_of_them
    all_of_them.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await all_of_them
    # Nobody knows whether these were read.
    del server.sent[sent:]
    for connection in server.connections:
        connection.spoilt = True
    return []


async def delivered(
    kind: str,
    server: Server,
    puts: Sequence[Sequence[int]],
    strays: Sequence[int | None] = (),
    cancels: Sequence[int | None] = (),
) -> dict[bytes, Outcome]:
    """Put batches of these sizes, those of one row beside each other; return what is acknowledged.

    ``strays``: before a row an answer that nobody asked for is sent on every idle connection, so
    many turns of the loop before the put; None: none. ``cancels``: after so many turns a row's puts
    are cancelled; None: they are awaited.
    """
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: Hostile(server), "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    aws = AwsSession(FakeClock(), LOADER)
    sink = sink_of(kind, aws, f"http://127.0.0.1:{port}")
    numbers, acknowledged = count(), dict[bytes, Outcome]()
    try:
        rows = len(puts)
        for row, turns, cancel in zip_longest(puts, strays[:rows], cancels[:rows]):
            if turns is not None:
                server.stray()
                for _ in range(turns):
                    await asyncio.sleep(0)
            batches = [[batch(next(numbers)) for _ in range(size)] for size in row]
            told_of_all = await outcomes_of(server, [sink.put(each) for each in batches], cancel)
            for sent, told in zip(batches, told_of_all, strict=bool(told_of_all)):
                for one, outcome in zip(sent, told, strict=True):
                    if outcome.kind is OutcomeKind.DELIVERED:
                        acknowledged[one.payload] = outcome
    finally:
        await sink.close()
        await aws.close()
        listening.close()
        for connection in server.connections:
            connection.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(listening.wait_closed(), 1)
    return acknowledged


def payloads(server: Server) -> set[bytes]:
    return {value.removesuffix(b"\n") for value in server.stored}


@pytest.fixture(autouse=True, scope="module")
def lone_environment() -> object:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_CONFIG_FILE", "/nonexistent")
        yield


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(["record", "records", "auto", "firehose"]),
    st.lists(ACTS, max_size=12),
    st.lists(ROWS, min_size=1, max_size=8),
    st.booleans(),
)
def test_what_is_acknowledged_was_stored(
    kind: str,
    acts: list[Act],
    rows: list[tuple[list[int], int | None, int | None]],
    speaks_first: bool,  # noqa: FBT001  # hypothesis draws it
) -> None:
    server = Server(acts, speaks_first=speaks_first)
    found = asyncio.run(delivered(kind, server, *zip(*rows, strict=True)))
    assert set() == set(found) - payloads(server)


@pytest.mark.parametrize("kind", ["record", "records", "firehose"])
@pytest.mark.parametrize("answer", [answer for answer in FALSE if answer != "refused"])
def test_an_answer_that_comes_too_late_acknowledges_nothing_that_is_put_behind_it(
    kind: str, answer: str
) -> None:
    acts = [Act(), Act(answer=answer, owes=True), Act(stores=False, answer="refused", turns=20)]
    server = Server(acts, speaks_first=False)
    found = asyncio.run(delivered(kind, server, [[1], [1], [1], [1]]))
    assert {batch(0).payload, batch(3).payload} == set(found)


@pytest.mark.parametrize("kind", ["record", "records", "firehose"])
@pytest.mark.parametrize("answer", ["true", "chunked", "interim", "closing", "undelimited"])
def test_an_answer_in_any_form_http_has_counts(kind: str, answer: str) -> None:
    server = Server([Act(answer=answer)] * 3, speaks_first=False)
    assert 3 == len(asyncio.run(delivered(kind, server, [[1], [1], [1]])))


@pytest.mark.parametrize("turns", range(5))
@pytest.mark.parametrize("kind", ["record", "records", "firehose"])
def test_an_answer_onto_an_idle_connection_costs_the_connection_alone(
    kind: str, turns: int
) -> None:
    server = Server([], speaks_first=False)
    assert 5 == len(asyncio.run(delivered(kind, server, [[1]] * 5, [turns] * 5)))
    assert 5 == len(server.connections)


@pytest.mark.parametrize("kind", ["record", "records", "firehose"])
def test_what_nothing_disturbs_goes_over_one_connection(kind: str) -> None:
    server = Server([], speaks_first=False)
    assert 20 == len(asyncio.run(delivered(kind, server, [[1]] * 20)))
    assert 1 == len(server.connections)

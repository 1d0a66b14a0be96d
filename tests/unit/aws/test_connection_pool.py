"""Clients of one endpoint share its connections, and nothing but them."""

import asyncio
import contextlib
import gc
import re
import warnings
from collections.abc import AsyncIterator, Callable

import pytest

from forwarder import clock
from forwarder.aws import connector
from forwarder.aws.http_session import SharedTlsSession
from forwarder.aws.session import MAX_CONNECTIONS, AwsSession
from forwarder.config.connection import Connection
from forwarder.config.credentials import AccessKeys
from forwarder.config.targets import KinesisTarget, PutMode
from forwarder.model import OutcomeKind
from forwarder.sinks.kinesis import KinesisSink
from tests.services.fake_kinesis import LOADER, FakeClock, batch

LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
SIGNER = re.compile(rb"Credential=([^/]+)/")
STREAM = re.compile(rb'"StreamName":"([^"]+)"')
HEAD = b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b"


class Asked:
    """One request, and how to answer it."""

    def __init__(self, head: bytes, body: bytes, connection: int) -> None:
        self.signer = SIGNER.findall(head)[0].decode()
        self.stream = STREAM.findall(body)[0].decode()
        self.many = b".PutRecords\r\n" in head
        self.connection = connection


class Server:
    """Answers PutRecord; ``answer`` may say otherwise, and wait. Requests are in ``asked``."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[Asked] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.stored = 0
        self.answer: Callable[[Asked], bytes | asyncio.Event] = self.usual
        self.closes = False
        self._tasks: set[asyncio.Task[None] | None] = set()

    def usual(self, asked: Asked) -> bytes:
        """Say that its record is stored."""
        self.stored += 1
        told = b'{"ShardId":"shardId-000000000000","SequenceNumber":"%d"}' % (10**55 + self.stored)
        if asked.many:
            told = b'{"FailedRecordCount":0,"Records":[%b]}' % told
        return HEAD % (b"200 OK", b"", len(told), told)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self._tasks.add(asyncio.current_task())
        number = len(self.writers)
        self.writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = LENGTH.search(head)
                assert length
                asked = Asked(head, await reader.readexactly(int(length[1])), number)
                self.asked.append(asked)
                said = self.answer(asked)
                if isinstance(said, asyncio.Event):
                    await said.wait()
                    said = self.usual(asked)
                writer.write(said)
                if self.closes:
                    break
        writer.close()

    async def stop(self) -> None:
        """End every connection."""
        for task in self._tasks:
            assert task is not None
            task.cancel()
        await asyncio.gather(*filter(None, self._tasks), return_exceptions=True)
        for writer in self.writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    found = Server()
    listening = await asyncio.start_server(found.serve, "127.0.0.1", 0, backlog=1_000)
    found.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"
    yield found
    listening.close()
    await found.stop()


@pytest.fixture
async def aws() -> AsyncIterator[AwsSession]:
    made = AwsSession(FakeClock(), LOADER)
    yield made
    await made.close()


def sink_of(
    aws: AwsSession, server: Server, name: str, mode: PutMode = PutMode.RECORD
) -> KinesisSink:
    keys = AccessKeys(f"AKIA{name.upper()}", f"secret-{name}")
    target = KinesisTarget(name, "eu-west-1", put=mode, endpoint_url=server.url)
    return KinesisSink(Connection(name, target, credentials=keys), target, aws)


async def put(sink: KinesisSink, number: int = 1) -> OutcomeKind:
    (outcome,) = await sink.put([batch(number)])
    return outcome.kind


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.001)


async def test_clients_use_the_same_connection_and_each_signs_for_itself(
    aws: AwsSession, server: Server
) -> None:
    sinks = [sink_of(aws, server, name) for name in ("one", "two")]
    for _ in range(3):
        for sink in sinks:
            assert OutcomeKind.DELIVERED is await put(sink)
    assert 1 == len(server.writers)
    assert 6 == len(server.asked)
    assert all(asked.signer == f"AKIA{asked.stream.upper()}" for asked in server.asked)
    for sink in sinks:
        await sink.close()


async def test_two_hundred_destinations_have_as_many_connections_as_puts_at_a_time(
    aws: AwsSession, server: Server
) -> None:
    sinks = [sink_of(aws, server, f"s{number}") for number in range(200)]
    todo = iter(sinks * 3)

    async def some() -> None:
        for sink in todo:
            assert OutcomeKind.DELIVERED is await put(sink)

    await asyncio.gather(*(some() for _ in range(5)))
    assert (600, 600) == (len(server.asked), server.stored)
    assert len(server.writers) <= 5
    for sink in sinks:
        await sink.close()


async def test_puts_that_begin_together_wait_for_each_other_s_connections(
    aws: AwsSession, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PACE_SECONDS", "STILL_SECONDS", "MAX_WAIT_SECONDS"):
        monkeypatch.setattr(connector, name, 60.0)
    sinks = [sink_of(aws, server, f"s{number}") for number in range(200)]
    assert {OutcomeKind.DELIVERED} == set(await asyncio.gather(*map(put, sinks)))
    assert len(server.writers) < 100
    for sink in sinks:
        await sink.close()


async def test_the_last_client_that_closes_closes_the_connections(
    aws: AwsSession, server: Server
) -> None:
    one, two, idle = (sink_of(aws, server, name) for name in ("one", "two", "idle"))
    assert OutcomeKind.DELIVERED is await put(one)
    assert OutcomeKind.DELIVERED is await put(two)
    await one.close()
    await idle.close()
    assert OutcomeKind.DELIVERED is await put(two)
    assert 1 == len(server.writers)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await two.close()
        gc.collect()
    await until(server.writers[0].transport.is_closing)
    later = sink_of(aws, server, "later")
    assert OutcomeKind.DELIVERED is await put(later)
    assert 2 == len(server.writers)
    await later.close()


async def test_a_destination_that_hangs_takes_no_connection_from_another(
    aws: AwsSession, server: Server
) -> None:
    going = asyncio.Event()
    server.answer = lambda asked: going if asked.stream == "hangs" else server.usual(asked)
    hangs, other = (sink_of(aws, server, name, PutMode.RECORDS) for name in ("hangs", "other"))
    hanging = [asyncio.create_task(put(hangs, number)) for number in range(3 * MAX_CONNECTIONS)]
    await until(lambda: len(server.asked) == MAX_CONNECTIONS)
    for number in range(10):
        assert OutcomeKind.DELIVERED is await put(other, number)
    assert MAX_CONNECTIONS == len([a for a in server.asked if a.stream == "hangs"])
    assert len(server.writers) == MAX_CONNECTIONS + 1
    going.set()
    assert {OutcomeKind.DELIVERED} == set(await asyncio.gather(*hanging))
    await hangs.close()
    await other.close()


async def test_connections_that_cannot_be_opened_hold_a_request_up_for_a_moment_only(
    aws: AwsSession, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connector, "PACE_SECONDS", 60.0)
    monkeypatch.setattr(connector, "STILL_SECONDS", 0.001)
    monkeypatch.setattr(connector, "MAX_OPENING", 2)
    library = connector.Connector.__base__
    made = library._create_connection  # noqa: SLF001  # no public one
    count = 0

    async def stuck(*arguments: object) -> object:
        nonlocal count
        count += 1
        if count <= 2:
            await asyncio.Event().wait()
        return await made(*arguments)

    monkeypatch.setattr(library, "_create_connection", stuck)
    sinks = [sink_of(aws, server, name) for name in ("a", "b", "c")]
    waiting = [asyncio.create_task(put(sink)) for sink in sinks[:2]]
    await until(lambda: count == 2)
    assert OutcomeKind.DELIVERED is await put(sinks[2])
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    for sink in sinks:
        await sink.close()


async def test_who_is_given_up_while_it_waits_takes_no_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The turn of one that is cancelled in the moment in which it gets it is the next one's."""
    for name in ("PACE_SECONDS", "STILL_SECONDS", "MAX_WAIT_SECONDS"):
        monkeypatch.setattr(connector, name, 60.0)
    monkeypatch.setattr(connector, "MAX_OPENING", 0)
    opened = connector.Connector(limit=0)
    turns = [asyncio.create_task(opened.take_kept()) for _ in range(2)]
    await asyncio.sleep(0)
    opened._wake_one()  # noqa: SLF001  # as a connection that becomes free does
    turns[0].cancel()
    monkeypatch.setattr(connector, "MAX_OPENING", 1)
    async with asyncio.timeout(10):
        assert (None, b"") == await turns[1]
    assert turns[0].cancelled()
    await opened.close()


async def test_who_is_given_up_while_it_may_open_one_leaves_that_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("PACE_SECONDS", "STILL_SECONDS", "MAX_WAIT_SECONDS"):
        monkeypatch.setattr(connector, name, 60.0)
    monkeypatch.setattr(connector, "MAX_OPENING", 0)
    opened = connector.Connector(limit=0)
    turns = [asyncio.create_task(opened.take_kept()) for _ in range(2)]
    await asyncio.sleep(0)
    opened._open_one()  # noqa: SLF001  # as its timer does
    turns[0].cancel()
    async with asyncio.timeout(10):
        assert (None, b"") == await turns[1]
    assert turns[0].cancelled()
    await opened.close()


async def test_where_handshakes_take_long_more_and_more_are_made_at_a_time(
    aws: AwsSession, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a limit on time: else fifty destinations far away would wait for seconds."""
    for name in ("STILL_SECONDS", "MAX_WAIT_SECONDS"):
        monkeypatch.setattr(connector, name, 60.0)
    opening, may_end = 0, asyncio.Event()
    library = connector.Connector.__base__
    made = library._create_connection  # noqa: SLF001  # no public one

    async def slow(*arguments: object) -> object:
        nonlocal opening
        opening += 1
        await may_end.wait()
        return await made(*arguments)

    monkeypatch.setattr(library, "_create_connection", slow)
    sinks = [sink_of(aws, server, f"s{number}") for number in range(50)]
    puts = [asyncio.create_task(put(sink)) for sink in sinks]
    await until(lambda: opening == len(sinks))
    may_end.set()
    assert {OutcomeKind.DELIVERED} == set(await asyncio.gather(*puts))
    for sink in sinks:
        await sink.close()


async def test_those_who_come_later_hold_up_nobody_who_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deadlines: list[float] = []
    turns = [asyncio.Event(), asyncio.Event()]

    async def wait_until(_: object, deadline: float) -> bool:
        deadlines.append(deadline)
        await turns[min(len(deadlines), 2) - 1].wait()
        return len(deadlines) > 2

    monkeypatch.setattr(connector, "MAX_OPENING", 0)
    monkeypatch.setattr(connector.Connector, "_wait_until", wait_until)
    now = 1_000.0
    monkeypatch.setattr(clock, "monotonic", lambda: now)
    opened = connector.Connector(limit=0)
    first = asyncio.create_task(opened.take_kept())
    await asyncio.sleep(0)
    now += 0.2
    second = asyncio.create_task(opened.take_kept())
    await asyncio.sleep(0)
    turns[0].set()
    await asyncio.sleep(0)
    assert [1_000.25, 1_000.45, 1_000.25] == [round(deadline, 6) for deadline in deadlines]
    turns[1].set()
    await asyncio.gather(first, second)
    await opened.close()


async def test_connections_that_the_server_has_closed_are_not_used(
    aws: AwsSession, server: Server
) -> None:
    sinks = [sink_of(aws, server, name) for name in ("one", "two", "three")]
    server.closes = True
    for sink in sinks:
        assert OutcomeKind.DELIVERED is await put(sink)
    assert [0, 1, 2] == [asked.connection for asked in server.asked]
    for sink in sinks:
        await sink.close()


async def test_an_odd_answer_costs_its_own_connection_alone(
    aws: AwsSession, server: Server
) -> None:
    going = asyncio.Event()
    server.answer = lambda _: going
    sinks = {name: sink_of(aws, server, name) for name in ("one", "two", "odd")}
    both = [asyncio.create_task(put(sinks[name])) for name in ("one", "two")]
    await until(lambda: len(server.asked) == 2)
    going.set()
    await asyncio.gather(*both)
    server.answer = lambda _: HEAD % (b"200 OK", b"", 4, b"what")
    assert OutcomeKind.DELIVERED is not await put(sinks["odd"])
    spent = server.asked[-1].connection
    server.answer = server.usual
    for name in ("odd", "one", "two"):
        assert OutcomeKind.DELIVERED is await put(sinks[name])
    assert {1 - spent} == {asked.connection for asked in server.asked[3:]}
    assert 2 == len(server.writers)
    for sink in sinks.values():
        await sink.close()


@pytest.mark.parametrize("request_id", [b"", b"x-amzn-RequestId: 7a0e\r\n"])
async def test_what_was_told_to_one_client_is_not_believed_by_another(
    aws: AwsSession, server: Server, request_id: bytes
) -> None:
    told = b'{"ShardId":"shardId-000000000000","SequenceNumber":"%d"}' % 10**55
    repeated = HEAD % (b"200 OK", request_id, len(told), told)
    server.answer = lambda _: repeated
    one, two = sink_of(aws, server, "one"), sink_of(aws, server, "two")
    assert OutcomeKind.DELIVERED is await put(one)
    assert OutcomeKind.TRANSIENT is await put(two)
    assert [0, 0] == [asked.connection for asked in server.asked]
    server.answer = server.usual
    assert OutcomeKind.DELIVERED is await put(two)
    assert 1 == server.asked[-1].connection
    await one.close()
    await two.close()


async def test_streams_whose_numbers_are_alike_are_two(aws: AwsSession, server: Server) -> None:
    """An emulator counts the records of each stream from the same number on."""
    told = b'{"ShardId":"shardId-000000000000","SequenceNumber":"%d"}' % 10**55

    def counted(_: Asked) -> bytes:
        named = b"x-amzn-RequestId: %d\r\n" % len(server.asked)
        return HEAD % (b"200 OK", named, len(told), told)

    server.answer = counted
    sinks = [sink_of(aws, server, name) for name in ("one", "two")]
    for sink in sinks:
        assert OutcomeKind.DELIVERED is await put(sink)
    assert 1 == len(server.writers)
    for sink in sinks:
        await sink.close()


async def test_who_connects_otherwise_has_connections_of_its_own(aws: AwsSession) -> None:
    options = {"timeout": (3, 10), "verify": True, "proxies": {}}
    one = await aws.pools.join("https://a.example/", options)
    assert one is await aws.pools.join("https://a.example/", dict(reversed(options.items())))
    others = [
        await aws.pools.join("https://b.example/", options),
        await aws.pools.join("https://a.example/", {**options, "verify": "/a/bundle"}),
        await aws.pools.join("https://a.example/", {**options, "client_cert": "/a/cert"}),
        await aws.pools.join("https://a.example/", {**options, "proxies": {"https": "http://p"}}),
    ]
    assert 5 == len({id(member.session) for member in (one, *others)})
    assert 5 == len({member.number for member in (one, *others)})
    for member in (one, one, *others):
        await aws.pools.leave(member)


async def test_connections_that_nobody_needs_end_by_themselves(
    aws: AwsSession, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those that are kept the one used last is taken, so that the others stay unused."""
    going = asyncio.Event()
    server.answer = lambda _: going
    sinks = [sink_of(aws, server, name) for name in ("one", "two")]
    both = [asyncio.create_task(put(sink)) for sink in sinks]
    await until(lambda: len(server.asked) == 2)
    going.set()
    await asyncio.gather(*both)
    server.answer = server.usual
    for _ in range(4):
        await put(sinks[0])
    assert 1 == len({asked.connection for asked in server.asked[2:]})
    member = await aws.pools.join(server.url, dict(_options(aws)))
    (http,) = member.session._sessions.values()  # noqa: SLF001  # no public way in
    assert isinstance(member.session, SharedTlsSession)
    monkeypatch.setattr(http.connector, "_keepalive_timeout", 0.0)
    http.connector._cleanup()  # noqa: SLF001  # as its timer does
    await until(lambda: all(writer.transport.is_closing() for writer in server.writers))
    await aws.pools.leave(member)
    for sink in sinks:
        await sink.close()


def _options(aws: AwsSession) -> dict[str, object]:
    (place,) = aws.endpoints._known.values()  # noqa: SLF001  # the only one
    return dict(place.session_options)


async def test_a_put_that_is_given_up_at_any_moment_keeps_nothing(
    aws: AwsSession, server: Server
) -> None:
    sink, other = sink_of(aws, server, "one"), sink_of(aws, server, "other")
    assert OutcomeKind.DELIVERED is await put(other)
    member = await aws.pools.join(server.url, _options(aws))
    (http,) = member.session._sessions.values()  # noqa: SLF001  # no public way in
    for turns in range(12):
        # The first of the two takes the connection that is kept, the second opens one.
        tasks = [asyncio.create_task(put(sink, number)) for number in range(2)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not http.connector._acquired  # noqa: SLF001  # as above
        assert not http.connector._opening  # noqa: SLF001  # as above
    going = asyncio.Event()
    server.answer = lambda _: going
    asked = len(server.asked)
    every = [asyncio.create_task(put(sink, number)) for number in range(MAX_CONNECTIONS)]
    await until(lambda: len(server.asked) == asked + MAX_CONNECTIONS)
    going.set()
    assert {OutcomeKind.DELIVERED} == set(await asyncio.gather(*every))
    await aws.pools.leave(member)
    await sink.close()
    await other.close()

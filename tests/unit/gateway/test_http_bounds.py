"""Each part of a request within its bounds: sizes, times, memory, connections."""

import asyncio
import gzip
import socket
import struct
import zlib

import orjson
import pytest

from forwarder.config.gateway import GatewayLimits
from forwarder.gateway.contract import ApiReply
from forwarder.gateway.http_connection import (
    CONNECTION_REQUESTS,
    FIELDS,
    HEAD_BYTES,
    LINE_BYTES,
    ClientConnection,
    ConnectionLimits,
)
from tests.acceptance.harness import until
from tests.gateways import BASIC, GatewayWorld, answer, gateway_world, request

EVENTS = "/v1/apps/dev/events"
KIB = 1024
LONG = 8.0
"""Seconds in which what has a limit below one has ended, on a busy machine too."""
SMALL = GatewayLimits(request_bytes=100_000, buffered_bytes=1_000_000)
QUICK = ConnectionLimits(head=0.3, body=0.6, idle=2.0, discard=0.5, closing=0.3, writing=0.5)


# ---------------------------------------------------------------------- sizes


async def test_a_body_as_large_as_may_be_is_read_and_a_larger_one_never() -> None:
    async with gateway_world(SMALL) as world:
        assert 202 == (await world.ask("POST", EVENTS, b"x" * 100_000))[0]
        status, headers, body = await world.ask("POST", EVENTS, b"x" * 100_001)
        assert (413, "PayloadTooLargeException") == (status, headers["x-amzn-errortype"])
        assert orjson.loads(body)["Message"] == "a request may have 100000 bytes at most"
        assert 1 == world.refusals("body_size")


async def test_a_refused_body_is_not_waited_for() -> None:
    async with gateway_world(SMALL) as world:
        head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 100000001\r\n\r\n" % EVENTS.encode()
        answered = await world.send(head)
        assert answered.startswith(b"HTTP/1.1 413 ")


async def test_chunks_are_counted_as_they_come() -> None:
    async with gateway_world(SMALL) as world:
        head = (
            b"POST %b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" % EVENTS.encode()
        )
        piece = b"%x\r\n%b\r\n" % (10_000, b"x" * 10_000)
        answered = await world.send(head, *[piece] * 11)
        assert answered.startswith(b"HTTP/1.1 413 ")
        assert [] == world.api.calls


async def test_chunks_of_a_byte_each_are_too_dear() -> None:
    async with gateway_world() as world:
        head = (
            b"POST %b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" % EVENTS.encode()
        )
        answered = await world.send(head + b"1\r\nx\r\n" * 20_000)
        assert answered.startswith(b"HTTP/1.1 400 ")
        assert 1 == world.refusals("malformed")


async def test_extensions_and_trailers_of_chunks_are_counted_too() -> None:
    async with gateway_world() as world:
        head = (
            b"POST %b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" % EVENTS.encode()
        )
        for rest in (b"1;" + b"x" * 200_000, b"0\r\n" + b"X-A: b\r\n" * 20_000):
            answered = await world.send(head + rest)
            assert answered.startswith(b"HTTP/1.1 4"), rest[:10]
        assert [] == world.api.calls


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /" + b"a" * (LINE_BYTES + 1) + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * (LINE_BYTES + 1) + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a" * (LINE_BYTES + 1) + b": x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: %b\r\n" % (b"a" * 1000) * 40,
    ],
    ids=["line", "value", "name", "all"],
)
async def test_a_head_that_is_too_large_is_refused_and_read_no_further(sent: bytes) -> None:
    async with gateway_world() as world:
        pieces = [sent[at : at + 1_000] for at in range(0, len(sent), 1_000)]
        answered = await world.send(*pieces, pause=0.001)
        assert answered.startswith(b"HTTP/1.1 431 ")
        assert 1 == world.refusals("head_size")


async def test_too_many_fields_are_refused() -> None:
    async with gateway_world() as world:
        sent = b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * FIELDS + b"\r\n"
        assert (await world.send(sent)).startswith(b"HTTP/1.1 400 ")


async def test_a_head_of_many_small_pieces_has_a_bound_too() -> None:
    async with gateway_world() as world:
        piece = b"X-%03d: " % 1 + b"a" * 900 + b"\r\n"
        sent = b"GET / HTTP/1.1\r\nHost: x\r\n" + piece * (HEAD_BYTES // len(piece) + 5)
        assert (await world.send(*[sent[at : at + 500] for at in range(0, len(sent), 500)])) != b""
        assert 1 == world.refusals("head_size")


# ---------------------------------------------------------------------- gzip


async def test_gzip_is_inflated_and_its_size_counted_both_ways() -> None:
    async with gateway_world(SMALL) as world:
        fits = gzip.compress(b"x" * 100_000)
        status, _, body = await world.ask("POST", EVENTS, fits, Content_Encoding="gzip")
        assert (202, {"bytes": 100_000}) == (status, orjson.loads(body))
        bomb = gzip.compress(bytes(100_001))
        assert 413 == (await world.ask("POST", EVENTS, bomb, Content_Encoding="gzip"))[0]


async def test_a_bomb_of_gzip_is_inflated_no_further_than_to_its_bound() -> None:
    async with gateway_world() as world:
        maker = zlib.compressobj(9, zlib.DEFLATED, 31)
        bomb = b"".join(maker.compress(bytes(2**24)) for _ in range(64)) + maker.flush()
        assert len(bomb) < 4 * 2**20
        status, headers, _ = await world.ask("POST", EVENTS, bomb, Content_Encoding="GZIP")
        assert (413, "PayloadTooLargeException") == (status, headers["x-amzn-errortype"])
        assert [] == world.api.calls


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        gzip.compress(b"{}")[:-1],
        gzip.compress(b"{}") + b"x",
        gzip.compress(b"") * 1000,
        gzip.compress(b"{}")[:-8] + bytes(8),
        zlib.compress(b"{}"),
    ],
    ids=["none", "cut", "more", "members", "wrong sum", "zlib"],
)
async def test_what_is_not_one_member_of_gzip_is_refused(body: bytes) -> None:
    async with gateway_world() as world:
        status, _, said = await world.ask("POST", EVENTS, body, Content_Encoding="gzip")
        assert 400 == status
        assert b"gzip" in said
        assert 1 == world.refusals("content")


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "zstd", "aws-chunked"])
async def test_other_encodings_are_refused(encoding: str) -> None:
    async with gateway_world() as world:
        assert 400 == (await world.ask("POST", EVENTS, b"{}", Content_Encoding=encoding))[0]


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("", 202),
        ("application/json", 202),
        ("application/json; charset=UTF-8", 202),
        ('Application/JSON;charset="utf-8"', 202),
        ("application/x-amz-json-1.1", 202),
        ("application/json; charset=latin-1", 400),
        ("text/plain", 400),
        ("text/plain;charset=UTF-8", 400),
        ("application/x-www-form-urlencoded", 400),
        ("multipart/form-data; boundary=x", 400),
        ("application/cbor", 400),
        ("json", 400),
    ],
)
async def test_a_content_type_is_json_or_none(kind: str, status: int) -> None:
    async with gateway_world() as world:
        assert status == (await world.ask("POST", EVENTS, b"{}", Content_Type=kind))[0]
        assert 202 == (await world.ask("POST", f"{EVENTS}/legacy", b"{}", Content_Type=kind))[0]


async def test_one_mparticle_upload_has_256_kib_at_most() -> None:
    async with gateway_world() as world:
        auth = f"Basic {BASIC}"
        for path, size, status in (
            ("/v2/events", 256 * KIB, 202),
            ("/v2/events", 256 * KIB + 1, 413),
            ("/v2/bulkevents", 256 * KIB + 1, 202),
        ):
            assert status == (await world.ask("POST", path, b"x" * size, Authorization=auth))[0]
        packed = gzip.compress(bytes(256 * KIB + 1))
        answered = await world.ask(
            "POST", "/v2/events", packed, Authorization=auth, Content_Encoding="gzip"
        )
        assert 413 == answered[0]
        assert "errors" in orjson.loads(answered[2])


# ---------------------------------------------------------------------- times


async def trickle(world: GatewayWorld, sent: bytes, pause: float) -> tuple[bytes, float]:
    """Send a byte at a time; return what was answered, and after how many seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def write() -> None:
        for at in range(len(sent)):
            writer.write(sent[at : at + 1])
            await asyncio.sleep(pause)

    writing = asyncio.create_task(write())
    try:
        async with asyncio.timeout(10):
            answered = await reader.read()
        return answered, loop.time() - began
    finally:
        writing.cancel()
        writer.close()


async def test_a_head_that_comes_a_byte_at_a_time_ends_in_time() -> None:
    async with gateway_world(seconds=QUICK) as world:
        answered, seconds = await trickle(world, b"GET / HTTP/1.1\r\nX: " + b"a" * 500, 0.02)
        assert answered.startswith(b"HTTP/1.1 408 ")
        assert seconds < LONG
        assert 1 == world.refusals("head_time")


async def test_a_second_head_has_no_more_time_than_the_first() -> None:
    async with gateway_world(seconds=QUICK) as world:
        first = request("POST", EVENTS, b"{}", Connection="")
        answered, seconds = await trickle(
            world, first + b"GET / HTTP/1.1\r\nX: " + b"a" * 500, 0.002
        )
        assert answered.startswith(b"HTTP/1.1 ")
        assert b"HTTP/1.1 408 " in answered
        assert seconds < LONG


async def test_a_body_that_comes_a_byte_at_a_time_ends_in_time() -> None:
    async with gateway_world(seconds=QUICK) as world:
        sent = request("POST", EVENTS, b"x" * 500)
        cut = sent.index(b"\r\n\r\n") + 4
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        writer.write(sent[:cut])
        answered = b""
        with_body = asyncio.create_task(reader.read())
        for at in range(cut, len(sent)):
            if with_body.done():
                break
            writer.write(sent[at : at + 1])
            await asyncio.sleep(0.02)
        answered = await with_body
        writer.close()
        assert answered.startswith(b"HTTP/1.1 408 ")
        assert 1 == world.refusals("body_time")


async def test_whoever_goes_while_its_time_runs_out_takes_nobody_elses_with_it() -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        gone = socket.create_connection(listening.getsockname())
        accepted, _ = listening.accept()
    accepted.setblocking(False)  # noqa: FBT003  # has no keyword
    async with gateway_world(seconds=QUICK) as world:
        _, one = await loop.connect_accepted_socket(
            lambda: ClientConnection(world.server, loop), accepted
        )
        gone.sendall(b"GET / HTTP/1.1\r\n")
        await asyncio.sleep(0.05)
        gone.close()
        one.expire()  # before the loop is told: what is written is answered by a reset
        assert b"" == await world.send()
        assert 1 == world.refusals("head_time")


async def test_whoever_says_nothing_is_closed_without_a_word() -> None:
    async with gateway_world(seconds=QUICK) as world:
        assert b"" == await world.send()
        assert 0 == world.refusals("head_time")


async def test_a_connection_is_kept_while_it_is_used_and_closed_once_idle() -> None:
    async with gateway_world(seconds=QUICK) as world:
        sent = request("POST", EVENTS, b"{}", Connection="")
        answered = await world.send(*[sent] * 6, pause=0.2)
        assert 6 == answered.count(b"HTTP/1.1 202 ")


async def test_a_connection_carries_so_many_requests_and_no_more() -> None:
    async with gateway_world() as world:
        one = request("POST", EVENTS, b"{}", Connection="")
        answered = await world.send(one * (CONNECTION_REQUESTS + 5))
        assert CONNECTION_REQUESTS == answered.count(b"HTTP/1.1 202 ")
        assert 1 == answered.count(b"Connection: close")


async def test_http_1_0_is_closed_unless_it_asks_otherwise() -> None:
    async with gateway_world(seconds=QUICK) as world:
        old = request("POST", EVENTS, b"{}", Connection="").replace(b"HTTP/1.1", b"HTTP/1.0")
        assert 1 == (await world.send(old + old)).count(b"HTTP/1.1 202 ")
        kept = request("POST", EVENTS, b"{}", Connection="keep-alive").replace(b"1.1\r", b"1.0\r")
        answered = await world.send(kept + kept)
        assert 2 == answered.count(b"\r\nConnection: keep-alive\r\n")


async def test_whoever_waits_for_leave_is_told_to_go_on_or_why_not() -> None:
    async with gateway_world() as world:
        sent = request("POST", EVENTS, b"{}", Expect="100-continue")
        cut = sent.index(b"\r\n\r\n") + 4
        answered = await world.send(sent[:cut], sent[cut:], pause=0.05)
        assert answered.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 ")
        refused = request("POST", "/nothing", b"{}", Expect="100-continue", Connection="")
        answered = await world.send(refused[: refused.index(b"\r\n\r\n") + 4])
        assert answered.startswith(b"HTTP/1.1 404 ")
        assert b"Connection: close" in answered


async def test_a_client_that_closes_its_half_gets_its_answer() -> None:
    async with gateway_world() as world:
        world.api.gate = asyncio.Event()
        asking = asyncio.create_task(
            world.send(request("POST", EVENTS, b"{}", Connection=""), eof=True)
        )
        await until(lambda: world.api.calls, "it comes to that", every=0.01)
        await asyncio.sleep(0.05)
        world.api.gate.set()
        assert (await asking).startswith(b"HTTP/1.1 202 ")


async def test_a_client_that_leaves_ends_nothing_that_was_begun() -> None:
    async with gateway_world() as world:
        world.api.gate = asyncio.Event()
        _, writer = await asyncio.open_connection("127.0.0.1", world.port)
        writer.write(request("POST", EVENTS, b"x" * 1000))
        await until(lambda: world.api.calls, "it comes to that", every=0.01)
        # Its half alone being closed would leave the gateway's open.
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
        await until(lambda: not world.server.connections(), "it comes to that", every=0.01)
        assert (1, 1000) == (world.load.under_way, world.load.buffered)
        world.api.gate.set()
        await until(lambda: not world.load.under_way, "it comes to that", every=0.01)


# ---------------------------------------------------------------------- all together


async def test_beyond_so_many_requests_put_events_says_429_of_each_and_the_others_as_a_whole() -> (
    None
):
    async with gateway_world(GatewayLimits(concurrent_requests=2)) as world:
        world.api.gate = asyncio.Event()
        first = [asyncio.create_task(world.ask("POST", EVENTS, b"{}")) for _ in range(2)]
        await until(lambda: world.load.under_way == 2, "it comes to that", every=0.01)
        status, _, body = await world.ask("POST", EVENTS, b"[1]")
        assert (202, {"busy": 3}) == (status, orjson.loads(body))
        status, headers, body = await world.ask("GET", "/v1/apps/dev/endpoints/e")
        assert (429, "1") == (status, headers["retry-after"])
        assert "TooManyRequestsException" == headers["x-amzn-errortype"]
        status, headers, body = await world.ask(
            "POST", "/v2/events", b"{}", Authorization=f"Basic {BASIC}"
        )
        assert (429, "1") == (status, headers["retry-after"])
        assert "errors" in orjson.loads(body)
        assert 3 == world.refusals("busy")
        world.api.gate.set()
        assert [202, 202] == [answered[0] for answered in await asyncio.gather(*first)]


async def test_slow_bodies_take_no_request_s_place() -> None:
    async with gateway_world(GatewayLimits(concurrent_requests=1)) as world:
        writers = []
        for _ in range(20):
            _, writer = await asyncio.open_connection("127.0.0.1", world.port)
            writer.write(request("POST", EVENTS, b"x" * 100)[:-50])
            writers.append(writer)
        assert 202 == (await world.ask("POST", EVENTS, b"{}"))[0]
        for writer in writers:
            writer.close()


async def test_what_is_announced_takes_no_memory_and_what_came_does() -> None:
    limits = GatewayLimits(request_bytes=100_000, buffered_bytes=150_000)
    async with gateway_world(limits) as world:
        writers = []
        for _ in range(10):
            _, writer = await asyncio.open_connection("127.0.0.1", world.port)
            writer.write(request("POST", EVENTS, b"x" * 100_000)[:-99_990])
            writers.append(writer)
        assert 202 == (await world.ask("POST", EVENTS, b"x" * 90_000))[0]
        writers[0].write(b"x" * 99_980)
        await until(lambda: world.load.buffered > 99_000, "it comes to that", every=0.01)
        status, headers, _ = await world.ask("POST", EVENTS, b"x" * 90_000)
        assert (429, "1") == (status, headers["retry-after"])
        assert 1 == world.refusals("memory")
        for writer in writers:
            writer.close()
        await until(lambda: not world.load.buffered, "it comes to that", every=0.01)


async def test_a_refused_body_that_is_small_costs_no_connection() -> None:
    async with gateway_world() as world:
        refused = request("POST", "/v1/apps/d4e5f6/events", b"x" * 5_000, Connection="")
        cut = refused.index(b"\r\n\r\n") + 4
        good = request("POST", EVENTS, b"{}")
        answered = await world.send(refused[:cut], refused[cut:] + good, pause=0.05)
        assert [b"403", b"202"] == [part[:3] for part in answered.split(b"HTTP/1.1 ")[1:]]


async def test_idle_connections_make_room_and_those_at_work_do_not() -> None:
    async with gateway_world(connections=4) as world:
        world.api.gate = asyncio.Event()
        busy = asyncio.create_task(world.ask("POST", EVENTS, b"{}"))
        await until(lambda: world.load.under_way, "it comes to that", every=0.01)
        idle = [await asyncio.open_connection("127.0.0.1", world.port) for _ in range(3)]
        await until(lambda: world.server.connections() == 4, "all are accepted")
        asked = [await world.ask("GET", "/nothing") for _ in range(3)]
        assert [404] * 3 == [one[0] for one in asked]
        assert world.server.connections() <= 4
        world.api.gate.set()
        assert 202 == (await busy)[0]
        assert 1 <= world.refusals("connections") <= 3
        for _, writer in idle:
            writer.close()


async def test_whoever_does_not_read_its_answer_is_ended() -> None:
    async with gateway_world(seconds=QUICK) as world:
        world.api.reply = ApiReply(200, b"x" * 8_000_000)
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port, limit=1)
        writer.write(request("POST", EVENTS, b"{}", Connection=""))
        async with asyncio.timeout(5):
            await until(
                lambda: world.api.calls and not world.server.connections(),
                "it comes to that",
                every=0.01,
            )
        writer.close()
        assert reader is not None


async def test_a_drain_answers_what_is_under_way_and_accepts_no_more() -> None:
    async with gateway_world() as world:
        world.api.gate = asyncio.Event()
        asking = asyncio.create_task(world.ask("POST", EVENTS, b"{}", Connection="keep-alive"))
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        await until(lambda: world.load.under_way, "it comes to that", every=0.01)
        draining = asyncio.create_task(world.server.drain(5))
        assert b"" == await reader.read()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", world.port)
        world.api.gate.set()
        status, headers, _ = await asking
        assert (202, "close") == (status, headers["connection"])
        assert await draining
        writer.close()


async def test_a_drain_ends_what_is_not_over_in_time() -> None:
    async with gateway_world() as world:
        world.api.gate = asyncio.Event()
        asking = asyncio.create_task(world.send(request("POST", EVENTS, b"{}")))
        await until(lambda: world.load.under_way, "it comes to that", every=0.01)
        assert not await world.server.drain(0.1)
        assert b"" == await asking
        world.api.gate.set()
        await until(lambda: not world.load.under_way, "it comes to that", every=0.01)


def test_answers_are_taken_apart_as_they_should() -> None:
    assert (202, {"a": "b"}, b"x") == answer(b"HTTP/1.1 202 Accepted\r\nA: b\r\n\r\nx")

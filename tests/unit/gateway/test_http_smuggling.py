"""What is not HTTP/1.1 as RFC 9112 has it is refused with 400, and nothing behind it is read."""

import pytest

from tests.gateways import gateway_world, request

BODY = b"Host: x\r\nContent-Length: 3\r\n\r\nabc"
HIDDEN = b"GET /v1/apps/dev HTTP/1.1\r\nHost: x\r\n\r\n"
START = b"POST /v1/apps/dev/events HTTP/1.1\r\n"
CHUNKED = START + b"Host: x\r\nTransfer-Encoding: chunked\r\n\r\n"

REFUSED = {
    "two lengths": START + b"Content-Length: 3\r\n" + BODY,
    "two different lengths": START + b"Content-Length: 0\r\n" + BODY,
    "a list of lengths": START + b"Host: x\r\nContent-Length: 3, 3\r\n\r\nabc",
    "a signed length": START + b"Host: x\r\nContent-Length: +3\r\n\r\nabc",
    "a negative length": START + b"Host: x\r\nContent-Length: -3\r\n\r\nabc",
    "a length in hex": START + b"Host: x\r\nContent-Length: 0x3\r\n\r\nabc",
    "a length of no digits": START + b"Host: x\r\nContent-Length: \r\n\r\nabc",
    "an endless length": START + b"Host: x\r\nContent-Length: " + b"9" * 40 + b"\r\n\r\n",
    "length and coding": START + b"Transfer-Encoding: chunked\r\n" + BODY,
    "coding and length": CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n")
    + b"0\r\n\r\n",
    "an unknown coding": START + b"Host: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a coding before chunked": START
    + b"Host: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a coding behind chunked": START + b"Host: x\r\nTransfer-Encoding: chunked, x\r\n\r\n0\r\n\r\n",
    "chunked twice": START + b"Host: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "two codings": START
    + b"Transfer-Encoding: identity\r\n"
    + CHUNKED[len(START) :]
    + b"0\r\n\r\n",
    "an empty coding": START + b"Host: x\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n",
    "a space before the colon": START + b"Host: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "a tab in the coding": START + b"Host: x\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": CHUNKED.replace(b"1.1", b"1.0") + b"0\r\n\r\n",
    "a folded header": START + b"Host: x\r\nX-A: b\r\n c\r\n\r\n",
    "a folded first header": START + b" Host: x\r\n\r\n",
    "lines that end bare": b"GET /v1/apps HTTP/1.1\nHost: x\n\n",
    "a header that ends bare": START + b"Host: x\nContent-Length: 3\r\n\r\nabc",
    "a bare return in a header": START + b"Host: x\r\nX: a\rb\r\n\r\n",
    "a zero byte in a header": START + b"Host: x\r\nX: a\0b\r\n\r\n",
    "a blank in a name": START + b"Host: x\r\nX Y: z\r\n\r\n",
    "no name": START + b"Host: x\r\n: z\r\n\r\n",
    "no colon": START + b"Host: x\r\nnothing\r\n\r\n",
    "no host": START + b"\r\n",
    "two hosts": START + b"Host: y\r\n" + BODY,
    "HTTP/0.9": b"GET /v1/apps\r\n\r\n",
    "HTTP/1.2": b"GET /v1/apps HTTP/1.2\r\nHost: x\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a method in lower case": b"get /v1/apps HTTP/1.1\r\nHost: x\r\n\r\n",
    "no method": b"/v1/apps HTTP/1.1\r\nHost: x\r\n\r\n",
    "bytes in the path": b"GET /v1/\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    "a whole URL": b"GET http://other/v1/apps HTTP/1.1\r\nHost: x\r\n\r\n",
    "a fragment": b"GET /v1/apps#x HTTP/1.1\r\nHost: x\r\n\r\n",
    "a tunnel": b"CONNECT other:443 HTTP/1.1\r\nHost: other:443\r\n\r\n",
    "an upgrade": b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    "an expectation": START + b"Expect: magic\r\n" + BODY,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32),
    "a size that is no number": CHUNKED + b"zz\r\n\r\n",
    "a negative size": CHUNKED + b"-1\r\n\r\n",
    "a prefixed size": CHUNKED + b"0x1\r\na\r\n0\r\n\r\n",
    "an endless size": CHUNKED + b"f" * 18 + b"\r\n",
    "a chunk that is longer": CHUNKED + b"1\r\nabc\r\n0\r\n\r\n",
    "a chunk that ends bare": CHUNKED + b"1\na\n0\n\n",
    "a size with blanks": CHUNKED + b"1 \r\na\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("sent", REFUSED.values(), ids=REFUSED)
async def test_what_may_be_read_in_two_ways_is_read_in_none(sent: bytes) -> None:
    async with gateway_world() as world:
        answered = await world.send(sent + HIDDEN)
        assert answered.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert 1 == answered.count(b"\r\nDate: ")
        assert b"\r\nConnection: close\r\n" in answered
        assert [] == world.api.calls
        assert 1 == world.refusals("malformed")


@pytest.mark.parametrize("sent", REFUSED.values(), ids=REFUSED)
async def test_it_is_refused_in_whatever_pieces_it_comes(sent: bytes) -> None:
    async with gateway_world() as world:
        pieces = [sent[at : at + 1] for at in range(len(sent))] + [HIDDEN]
        answered = await world.send(*pieces)
        # With the rest unread, the system may have taken the answer back.
        assert answered == b"" or answered.startswith(b"HTTP/1.1 400 ")
        assert [] == world.api.calls


READ = {
    "a body": START + b"Connection: close\r\n" + BODY,
    "blank lines first": b"\r\n\r\n" + START + b"Connection: close\r\n" + BODY,
    "blanks around a value": START + b"Connection: \t close \t\r\n" + BODY,
    "HTTP/1.0": START.replace(b"1.1", b"1.0") + BODY,
    "HTTP/1.0 without a host": START.replace(b"1.1", b"1.0") + BODY.removeprefix(b"Host: x\r\n"),
    "chunks": CHUNKED.replace(b"x\r\n", b"x\r\nConnection: close\r\n", 1)
    + b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n",
    "a chunk's extension": CHUNKED.replace(b"x\r\n", b"x\r\nConnection: close\r\n", 1)
    + b"3;a=b\r\nabc\r\n0\r\n\r\n",
    "a trailer": CHUNKED.replace(b"x\r\n", b"x\r\nConnection: close\r\n", 1)
    + b"3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n",
    "names in capitals": START + b"CONNECTION: CLOSE\r\n" + BODY,
}


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("sent", READ.values(), ids=READ)
async def test_what_is_right_is_read_in_whatever_pieces_it_comes(
    sent: bytes, *, single: bool
) -> None:
    async with gateway_world() as world:
        pieces = [sent[at : at + 1] for at in range(len(sent))] if single else [sent]
        answered = await world.send(*pieces)
        assert answered.startswith(b"HTTP/1.1 202 Accepted\r\n")
        assert [b"abc"] == [call.body for _, call in world.api.calls]


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    async with gateway_world() as world:
        bodies = [b"x" * size for size in (1, 50_000, 0, 3, 7, 1)]
        sent = b"".join(
            request("POST", "/v1/apps/dev/events", body, Connection="") for body in bodies
        )
        answered = await world.send(sent + request("GET", "/nothing"))
        assert len(bodies) == answered.count(b"HTTP/1.1 202 ")
        told = [part.split(b"}")[0] for part in answered.split(b'{"bytes":')[1:]]
        assert [str(len(body)).encode() for body in bodies] == told
        assert answered.rstrip().endswith(b"}")
        assert b"HTTP/1.1 404 " in answered


async def test_many_pipelined_refusals_take_their_turn() -> None:
    async with gateway_world() as world:
        one = request("GET", "/nothing", Connection="")
        answered = await world.send(one * 900, request("GET", "/last"))
        assert 901 == answered.count(b"HTTP/1.1 404 ")


async def test_a_second_authorization_is_no_way_in() -> None:
    async with gateway_world() as world:
        sent = request("POST", "/v2/events", b"{}", Authorization="Basic x")
        sent = sent.replace(b"Basic x", b"Basic x\r\nAuthorization: Basic dXMxLWFiYzptcC1zZWNyZXQ=")
        answered = await world.send(sent)
        assert answered.startswith(b"HTTP/1.1 400 ")
        assert [] == world.api.calls


@pytest.mark.parametrize(
    "path",
    [
        b"/v1/apps?a=\xff",
        b"/v1/apps/a1b2c3?X-Amz-Signature=\xff",
        b"/v1/apps/a1b2c3?X-Amz-Signature=%ff&X-Amz-Credential=%ff%00",
        b"/v1/apps/dev?a=%ff%00&&=&b",
    ],
)
@pytest.mark.parametrize("field", [b"X: y", b"Authorization: \xff\xfe", b"X-Api-Key: \xc3\xbc\xff"])
async def test_bytes_that_are_no_text_are_no_fault(path: bytes, field: bytes) -> None:
    async with gateway_world() as world:
        head = b"GET %b HTTP/1.1\r\nHost: \xff\r\n%b\r\nConnection: close\r\n\r\n"
        status = (await world.send(head % (path, field)))[9:12]
        assert status in {b"200", b"202", b"400", b"403"}


async def test_an_answer_to_head_has_no_body() -> None:
    async with gateway_world() as world:
        answered = await world.send(request("HEAD", "/v1/apps/dev"))
        head, _, body = answered.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 405 ")
        assert b"" == body

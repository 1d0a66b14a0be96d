"""Whatever bytes come, and in whatever pieces: an answer or the end, no fault, nothing kept."""

import asyncio
import gzip
import random
from collections.abc import Iterator

import pytest

from forwarder.gateway.http_connection import ConnectionLimits
from tests.bench import clients
from tests.gateways import (
    API_KEY,
    BASIC,
    KEY_ID,
    SECRET,
    SHOP,
    SIGNED,
    GatewayWorld,
    gateway_world,
    request,
)

ROUNDS, TOGETHER = 400, 40
QUICK = ConnectionLimits(head=0.2, body=0.2, idle=0.2, discard=0.2, closing=0.2, writing=0.2)
TOKENS = (
    b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\0", b" ", b":", b"HTTP/1.1", b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n", b"5\r\nabcde\r\n0\r\n\r\n", b"Expect: 100-continue\r\n",
    b"Connection: close\r\n", b"%2F", b"%ff", b"?X-Amz-Signature=", b"&X-Amz-Date=", b"\xff", b"=",
    b"Content-Encoding: gzip\r\n", b"Origin: https://shop.example\r\n", b"9" * 30,
    b"AWS4-HMAC-SHA256",
)  # fmt: skip


def requests(port: int) -> list[bytes]:
    """Return requests of every kind that are let in."""
    body = b'{"BatchItem":{}}'
    shop = f"/v1/apps/{SHOP.id}/events"
    chunked = request("POST", "/v1/apps/dev/events", Transfer_Encoding="chunked", Connection="")
    chunked = chunked.replace(b"Content-Length: 0\r\n", b"")
    packed = gzip.compress(body)
    return [
        request("POST", "/v1/apps/dev/events", body, Connection=""),
        request("GET", "/v1/apps/dev/endpoints/e%2F1", Connection=""),
        request("POST", shop, body, x_api_key=API_KEY, Origin="https://shop.example"),
        request("OPTIONS", shop, Origin="https://shop.example", Connection=""),
        request("POST", "/v2/bulkevents", b"[]", Authorization=f"Basic {BASIC}", Connection=""),
        request("POST", "/v1/apps/dev/events", packed, Content_Encoding="gzip", Connection=""),
        clients.request(f"/v1/apps/{SIGNED.id}/events", body, port, (KEY_ID, SECRET)),
        chunked + b"8\r\n" + body[:8] + b"\r\n8;x=y\r\n" + body[8:] + b"\r\n0\r\n\r\n",
    ]


def mutated(chance: random.Random, sent: bytes) -> bytes:
    """Return bytes with some of them changed, left out, doubled, or others between."""
    found = bytearray(sent)
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(found) + 1)
        match chance.randrange(5):
            case 0:
                found[at:at] = chance.choice(TOKENS)
            case 1:
                del found[at : at + chance.randrange(1, 30)]
            case 2:
                found[at : at + 1] = bytes([chance.randrange(256)])
            case 3:
                found[at:at] = found[at : at + chance.randrange(1, 60)]
            case _:
                found[at:at] = chance.randbytes(chance.randrange(1, 20))
    return bytes(found)


def pieces(chance: random.Random, sent: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(sent):
        end = at + (chance.randrange(1, 40) if chance.random() < 0.7 else 5_000)
        yield sent[at:end]
        at = end


async def attack(world: GatewayWorld, seed: int) -> bytes:
    chance = random.Random(seed)  # noqa: S311  # the same attacks in every run
    kinds = requests(world.port)
    sent = b"".join(
        one if chance.random() < 0.3 else mutated(chance, one)
        for one in chance.choices(kinds, k=chance.randrange(1, 4))
    )
    return await world.send(*pieces(chance, sent), eof=chance.random() < 0.3)


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_comes_is_answered_or_ended_and_leaves_nothing(seed: int) -> None:
    async with gateway_world(seconds=QUICK) as world:
        for first in range(seed * ROUNDS, (seed + 1) * ROUNDS, TOGETHER):
            numbers = range(first, first + TOGETHER)
            answers = await asyncio.gather(*(attack(world, number) for number in numbers))
            for answered in filter(None, answers):
                assert answered.startswith(b"HTTP/1.1 "), answered[:80]
            assert not any(b"HTTP/1.1 500" in answered for answered in answers)
        assert world.api.calls

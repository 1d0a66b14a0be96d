"""Clients of a gateway that cost little themselves: requests made before, answers hardly read."""

import asyncio
import hashlib
import hmac
import random
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence

import orjson

EVENTS = 10
"""Events of a request."""

ENDPOINTS = 500
"""Different endpoints that send."""

_DEMOGRAPHIC = {
    "AppVersion": "4.2.1",
    "Locale": "en_US",
    "Make": "Apple",
    "Model": "iPhone",
    "ModelVersion": "15,2",
    "Platform": "iOS",
    "PlatformVersion": "18.1",
}


def bodies(count: int, seed: int = 1) -> list[bytes]:
    """Return as many PutEvents, each of one endpoint; some 4 KB each, as Amplify's are."""
    chance = random.Random(seed)  # noqa: S311  # the same bodies in every run
    return [_body(chance, f"endpoint-{chance.randrange(ENDPOINTS):06d}") for _ in range(count)]


def _body(chance: random.Random, endpoint: str) -> bytes:
    session = {"Id": str(uuid.UUID(int=chance.getrandbits(128))), "StartTimestamp": _TIME}
    events = {
        str(uuid.UUID(int=chance.getrandbits(128))): {
            "EventType": chance.choice(["page_view", "_custom.tap", "search"]),
            "Timestamp": _TIME,
            "AppPackageName": "com.acme.shop",
            "AppTitle": "Shop",
            "AppVersionCode": "421",
            "SdkName": "aws-sdk",
            "Attributes": {"screen": f"s{chance.randrange(50)}", "source": "organic"},
            "Metrics": {"duration": chance.randrange(10_000)},
            "Session": session,
        }
        for _ in range(EVENTS)
    }
    given = {"ChannelType": "APNS", "Demographic": _DEMOGRAPHIC, "Attributes": {"plan": ["pro"]}}
    return orjson.dumps({"BatchItem": {endpoint: {"Endpoint": given, "Events": events}}})


_TIME = "2026-11-30T12:00:00.000Z"


def request(path: str, body: bytes, port: int, keys: tuple[str, str] | None = None) -> bytes:
    """Return a request, signed if there are ``keys``: their id and their secret."""
    host = f"127.0.0.1:{port}"
    signed = _signature(path, body, host, *keys) if keys else ""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"User-Agent: Boto3/1.43 md/Botocore\r\nAccept-Encoding: identity\r\n{signed}"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _signature(path: str, body: bytes, host: str, key_id: str, secret: str) -> str:
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    names = "content-type;host;x-amz-date"
    canonical = (
        f"POST\n{path}\n\ncontent-type:application/json\nhost:{host}\nx-amz-date:{now}\n\n"
        f"{names}\n{hashlib.sha256(body).hexdigest()}"
    )
    scope = f"{now[:8]}/us-east-1/mobiletargeting/aws4_request"
    asked = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, asked.encode(), "sha256").hex()
    credential = f"Credential={key_id}/{scope}"
    return (
        f"X-Amz-Date: {now}\r\nAuthorization: AWS4-HMAC-SHA256 {credential}, "
        f"SignedHeaders={names}, Signature={signature}\r\n"
    )


class _Client(asyncio.Protocol):
    """One connection, which sends a request at a time."""

    def __init__(self) -> None:
        self._answered: asyncio.Future[None] | None = None
        self._data = b""
        self._transport: asyncio.Transport | None = None
        self.open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(exc or ConnectionError("closed"))

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, found, body = self._data.partition(b"\r\n\r\n")
        if not found:
            return
        at = head.find(b"Content-Length: ")
        if len(body) >= int(head[at + 16 :].split(b"\r\n", 1)[0]):
            accepted = head.startswith(b"HTTP/1.1 202 ") and b'"StatusCode":500' not in body
            if b"Connection: close" in head:
                self.open = False
            if self._answered is not None and not self._answered.done():
                if accepted:
                    self._answered.set_result(None)
                else:
                    self._answered.set_exception(RuntimeError(self._data[:2000].decode()))
            self._data = b""

    async def send(self, sent: bytes) -> None:
        """Send a request and wait for its answer, which has to be 202."""
        assert self._transport is not None
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(sent)
        await self._answered

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()


async def _open(port: int) -> _Client:
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(_Client, "127.0.0.1", port)
    return client


async def saturate(port: int, requests: Sequence[bytes], clients: int) -> float:
    """Send all requests, so many at a time; return how many seconds it took."""
    rest: Iterator[bytes] = iter(requests)

    async def work() -> None:
        client = await _open(port)
        for sent in rest:
            if not client.open:
                client.close()
                client = await _open(port)
            await client.send(sent)
        client.close()

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(clients)))
    return time.perf_counter() - began


async def at_rate(port: int, requests: Iterable[bytes], rate: float, clients: int) -> list[float]:
    """Send requests at a steady rate, as long as a client is free; return each one's seconds.

    A request's time counts from when it was due, if it had to wait for a client; what the timers
    of this process are late by is not the gateway's.
    """
    began = time.perf_counter()
    due: Iterator[tuple[int, bytes]] = iter(enumerate(requests))
    taken: list[float] = []

    async def work() -> None:
        client = await _open(port)
        for number, sent in due:
            at = began + number / rate
            if (wait := at - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
                at = time.perf_counter()
            if not client.open:
                client.close()
                client = await _open(port)
            await client.send(sent)
            taken.append(time.perf_counter() - at)
        client.close()

    await asyncio.gather(*(work() for _ in range(clients)))
    return taken


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of all does not pass."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]

"""An answer has a bound before it is read: one without an end costs no memory."""

import asyncio
import gzip
import os
import resource
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from forwarder.aws import msk_token
from forwarder.aws.client import ANSWER_BYTES, RECORD_ANSWER_BYTES
from forwarder.aws.http_connection import MAX_ANSWER_BYTES
from forwarder.aws.session import AwsSession
from forwarder.clock import SystemClock
from forwarder.config.connection import Connection
from forwarder.config.credentials import AccessKeys, AssumedRole, DefaultCredentials
from forwarder.config.targets import KinesisTarget, PutMode
from forwarder.model import OutcomeKind
from forwarder.sinks.kinesis import KinesisSink
from tests.services.fake_kinesis import LOADER, FakeClock, batch

MIB = 1024 * 1024
HEAD = b"HTTP/1.1 %b\r\n%b\r\n"
BOMB = gzip.compress(bytes(64 * MIB))
CHUNKED = b"Transfer-Encoding: chunked\r\n"
FLOODS = {
    "a body until the end": (HEAD % (b"200 OK", b""), b"x" * 65_536),
    "a body of a refusal": (HEAD % (b"503 Service Unavailable", b""), b"x" * 65_536),
    "a body of a terabyte": (HEAD % (b"200 OK", b"Content-Length: %d\r\n" % 10**12), b"x" * 65_536),
    "a body in chunks": (HEAD % (b"200 OK", CHUNKED), b"10000\r\n" + b"x" * 65_536 + b"\r\n"),
    "a chunk's extension": (HEAD % (b"200 OK", CHUNKED) + b"1;", b"x" * 65_536),
    "trailers": (HEAD % (b"200 OK", CHUNKED) + b"0\r\n", b"x-y: z\r\n" * 8_000),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"x-y: z\r\n" * 8_000),
    "one header": (b"HTTP/1.1 200 OK\r\nx: ", b"x" * 65_536),
    "a status line": (b"HTTP/1.1 200 ", b"x" * 65_536),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 2_000),
    "a body that is packed": (
        HEAD % (b"200 OK", b"Content-Encoding: gzip\r\nContent-Length: %d\r\n" % len(BOMB)),
        BOMB,
    ),
}


class Flood:
    """A server that answers each request with ``begin`` and, for ever, ``more``."""

    def __init__(self, begin: bytes, more: bytes) -> None:
        self.begin = begin
        self.more = more
        self.written = 0
        self.url = ""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None] | None] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            assert task is not None
            task.cancel()
        await asyncio.gather(*filter(None, self._tasks), return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.current_task())
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(self.begin)
            while self.more and not writer.is_closing():
                writer.write(self.more)
                self.written += len(self.more)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


@pytest.fixture(autouse=True)
def lone_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))


@pytest.fixture
async def flooding() -> AsyncIterator[Callable[[str], Flood]]:
    made: list[Flood] = []

    def make(kind: str) -> Flood:
        made.append(Flood(*FLOODS[kind]))
        return made[-1]

    yield make
    for flood in made:
        await flood.stop()


# What the system's buffers hold on both sides of a connection on loopback, at most.
BUFFERS = 16 * MIB


@pytest.mark.parametrize("kind", FLOODS)
async def test_an_answer_without_an_end_counts_as_none(
    flooding: Callable[[str], Flood], kind: str
) -> None:
    flood = flooding(kind)
    await flood.start()
    aws = AwsSession(FakeClock(), LOADER)
    target = KinesisTarget("acme", "eu-west-1", put=PutMode.RECORDS, endpoint_url=flood.url)
    keys = AccessKeys("AKIA", "secret")
    sink = KinesisSink(Connection("acme", target, credentials=keys), target, aws)
    (outcome,) = await sink.put([batch(1)])
    assert (OutcomeKind.TRANSIENT, "Unanswered") == (outcome.kind, outcome.code)
    assert flood.written < ANSWER_BYTES + RECORD_ANSWER_BYTES + BUFFERS
    await sink.close()
    await aws.close()


@pytest.mark.parametrize("kind", FLOODS)
async def test_sts_is_read_up_to_a_bound(flooding: Callable[[str], Flood], kind: str) -> None:
    flood = flooding(kind)
    await flood.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_STS", flood.url)
        patch.setenv("AWS_ACCESS_KEY_ID", "AKIABASE")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        aws = AwsSession(FakeClock(), LOADER)
        role = AssumedRole("arn:aws:iam::111122223333:role/r", None)
        keys = aws.make_keyring(role, "eu-west-1", "acme")
        with pytest.raises(Exception, match="cannot assume"):
            await keys.get_frozen_credentials()
        assert flood.written < MAX_ANSWER_BYTES + BUFFERS
        await keys.close()
        await aws.close()


def laughs() -> bytes:
    """Return XML that stands for ten to the tenth characters."""
    entities = ['<!ENTITY a0 "xxxxxxxxxx">']
    entities += [f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10)]
    text = f"<!DOCTYPE x [{''.join(entities)}]><x><a>&a9;</a>{' ' * 100_000}</x>"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n"
    return head % len(text) + text.encode()


async def test_entities_of_xml_are_bounded_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flood = Flood(laughs(), b"")
    await flood.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", flood.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIABASE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    aws = AwsSession(FakeClock(), LOADER)
    keys = aws.make_keyring(
        AssumedRole("arn:aws:iam::111122223333:role/r", None), "eu-west-1", "acme"
    )
    with pytest.raises(Exception, match="cannot assume"):
        await keys.get_frozen_credentials()
    await keys.close()
    await aws.close()
    await flood.stop()


CHAINS = {
    "instance": {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "{}", "AWS_METADATA_SERVICE_TIMEOUT": "5"},
    "container": {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "{}/x"},
    "web identity": {
        "AWS_ENDPOINT_URL_STS": "{}",
        "AWS_ROLE_ARN": "arn:aws:iam::111122223333:role/r",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "token",
        "AWS_REGION": "eu-west-1",
    },
}


@pytest.mark.parametrize("chain", CHAINS)
async def test_what_the_default_chain_asks_is_read_up_to_a_bound(
    flooding: Callable[[str], Flood], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, chain: str
) -> None:
    flood = flooding("a body until the end")
    await flood.start()
    (tmp_path / "token").write_text("a token")
    monkeypatch.chdir(tmp_path)
    for name, value in CHAINS[chain].items():
        monkeypatch.setenv(name, value.format(flood.url))
    aws = AwsSession(FakeClock(), LOADER)
    with pytest.raises(Exception, match=r"."):
        await aws.make_keyring(DefaultCredentials(), "eu-west-1", "acme").get_frozen_credentials()
    assert 0 < flood.written < 5 * (MAX_ANSWER_BYTES + BUFFERS)
    await aws.close()


@pytest.mark.parametrize(
    "kind", ["a body until the end", "a body in chunks", "a body that is packed"]
)
async def test_the_signer_of_msk_reads_up_to_a_bound(
    flooding: Callable[[str], Flood], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    flood = flooding(kind)
    await flood.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", flood.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIABASE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with pytest.raises(Exception, match=r"."):
        await msk_token.sign_msk_token(
            "eu-west-1", "arn:aws:iam::111122223333:role/r", SystemClock()
        )
    assert 0 < flood.written < MAX_ANSWER_BYTES + BUFFERS


LANES = 46
LIMITED = """
import asyncio, sys
from tests.unit.aws.test_answers_bounded import answers_of_many
print(asyncio.run(answers_of_many(sys.argv[1])))
"""


async def answers_of_many(kind: str) -> int:
    """Put to that many lanes at once; return how many were answered as they should be."""
    # What is written to, not what is reserved: each thread reserves 64 MiB for its allocator.
    resource.setrlimit(resource.RLIMIT_DATA, (256 * MIB, 256 * MIB))
    flood = Flood(*FLOODS[kind])
    await flood.start()
    aws = AwsSession(FakeClock(), LOADER)
    target = KinesisTarget("acme", "eu-west-1", put=PutMode.RECORD, endpoint_url=flood.url)
    keys = AccessKeys("AKIA", "secret")
    sinks = [
        KinesisSink(Connection(f"lane-{n}", target, credentials=keys), target, aws)
        for n in range(LANES)
    ]
    answers = await asyncio.gather(*(sink.put([batch(n) for n in range(8)]) for sink in sinks))
    for sink in sinks:
        await sink.close()
    await aws.close()
    await flood.stop()
    return sum(one.code == "Unanswered" for each in answers for one in each)


@pytest.mark.parametrize("kind", ["a body until the end", "a body of a refusal", "headers"])
def test_lanes_that_are_flooded_stay_within_a_memory_limit(kind: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, kind],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert str(LANES * 8) == done.stdout.strip(), done.stderr[-2000:]

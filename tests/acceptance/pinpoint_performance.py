"""One performance of all real clients: they report to a gateway, a worker forwards it to AWS.

Five clients send everything they can over a wire that loses answers now and then, so that they
send again; streams and a bucket of the AWS emulator take what the worker makes of it.
"""

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mparticle.rest import ApiException

from tests.acceptance.cluster import Cluster, Stored
from tests.acceptance.harness import until
from tests.acceptance.pinpoint_scene import (
    API_KEY,
    KEYED,
    SIGNED,
    PinpointScene,
    lines,
    mparticle,
    signed,
)
from tests.clients import mparticle_sender, senders
from tests.clients.story import Json, Story, days, too_long
from tests.clients.wire import Exchange, Wire
from tests.pinpoint_oracle import Account
from tests.services import ministack as emulation
from tests.services.ministack import CUSTOMER_ACCOUNT, MiniStack

PINPOINT_DATA = Path(__file__).parents[1] / "data" / "pinpoint"
ARRIVAL = 120.0
"""Seconds within which everything has to have arrived."""

MP_USERS = 4
GOLDEN: Json = json.loads((PINPOINT_DATA / "request.json").read_bytes())
"""A request whose records are known byte for byte."""

FINISHED = (PINPOINT_DATA / "finished.ndjson").read_bytes().splitlines()
"""Records of other systems, as they enter and as they leave."""

ENVELOPE: Json = json.loads((PINPOINT_DATA / "envelope.json").read_bytes())


@dataclass
class Performance:
    """What was sent, what the clients were told, and what arrived."""

    account: Account
    exchanges: list[Exchange]
    told: dict[str, list[Json]]
    streams: dict[str, list[emulation.Stored]]
    bucket: list[bytes]
    outbox: dict[str, list[Stored]]
    letters: list[Stored]

    def reported(self, stream: str) -> list[bytes]:
        """Return a stream's records of what clients reported, without what entered otherwise."""
        return [one for one in self.values(stream) if b'"client_id":"other-' not in one]

    def values(self, stream: str) -> list[bytes]:
        """Return a stream's records."""
        return [record.value for record in self.streams[stream]]

    def uploads(self) -> list[Json]:
        """Return the uploads that mParticle's SDK sent and the gateway accepted."""
        found: dict[str, Json] = {}
        for exchange in self.exchanges:
            if exchange.target.startswith("/v2/") and exchange.status == 202:
                sent = json.loads(exchange.body)
                for one in sent if isinstance(sent, list) else [sent]:
                    found.setdefault(one["source_request_id"], one)
        return list(found.values())


async def perform(scene: PinpointScene, emulator: MiniStack, *, node: bool) -> Performance:
    """Let everything happen that the tests judge; without ``node`` Python's clients alone."""
    connect(scene, emulator)
    async with Cluster(scene.sections["kafka"]["bootstrap_servers"][0]) as cluster:
        await cluster.create(scene.topic, 2)
        await cluster.create(scene.uploads, 2)
        gateway, worker = scene.gateway(), scene.worker()
        gateway.start()
        worker.start()
        await gateway.until_ready()
        await worker.until_ready()
        account = Account(CUSTOMER_ACCOUNT)
        async with Wire(scene.ports["gateway"]) as wire:
            wire.loses = Losing()
            told = await send_all(wire.url, scene.folder, node=node)
        entering = [*FINISHED, json.dumps(ENVELOPE["envelope"], indent=1).encode()]
        now_ms = round(datetime.now(UTC).timestamp() * 1000)
        await cluster.send(scene.topic, [(b"others", one, now_ms) for one in entering])
        for exchange in wire.exchanges:
            account.enter(exchange)
        streams = await arrived(scene, account)
        return Performance(
            account,
            wire.exchanges,
            told,
            streams,
            lines(await asyncio.to_thread(scene.objects, "bucket")),
            {topic: await cluster.read(scene.outbox(topic)) for topic in (scene.topic,)},
            await cluster.read(f"{scene.name}-dead-letters"),
        )


PINPOINTS_POLICY = (
    "kinesis:PutRecords",
    "kinesis:DescribeStream",
    "firehose:PutRecordBatch",
    "firehose:DescribeDeliveryStream",
)
"""What a role for Pinpoint's event streams was allowed, and nothing else."""

EXTERNAL_ID = f"pinpoint:{CUSTOMER_ACCOUNT}"


def connect(scene: PinpointScene, emulator: MiniStack) -> None:
    """Connect each app with streams, in both formats, and the uploads likewise.

    By a role that only its trust was changed of, since Pinpoint assumed it.
    """
    role = emulator.make_role(f"role-{scene.name}", PINPOINTS_POLICY, EXTERNAL_ID)
    common = {"credentials": {"role_arn": role, "external_id": EXTERNAL_ID}}
    own = {"format": "pinpoint", "aws_account_id": CUSTOMER_ACCOUNT}
    from_app = {"topic": [scene.topic], "application": [SIGNED]}
    scene.to_stream("events", match=from_app, sink=own, **common)
    scene.to_bucket("bucket", match=from_app, sink=own, **common)
    keyed = {"topic": [scene.topic], "application": [KEYED]}
    scene.to_stream("keyed", match=keyed, sink=own, **common)
    common["batching"] = {"max_age": "2s"}
    scene.to_stream("documents", match={"topic": [scene.topic]}, **common)
    uploads = {"topic": [scene.uploads]}
    scene.to_stream("uploads", match=uploads, **common)
    scene.to_stream("records", match=uploads, sink={**own, "app_id": "mp"}, **common)


class Losing:
    """Loses the answer of every fourth request that has not been lost before."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def __call__(self, exchange: Exchange) -> bool:
        if exchange.method != "POST" or exchange.status != 202 or exchange.body in self._seen:
            return False
        self._seen.add(exchange.body)
        return len(self._seen) % 4 == 2


async def send_all(url: str, folder: Path, *, node: bool) -> dict[str, list[Json]]:
    """Let all clients report at once; return what those that say so were told."""
    now = datetime.now(UTC) - timedelta(minutes=10)
    caller = signed(url)

    def boto() -> list[Json]:
        story = Story("boto", now)
        sent = story.requests()
        return senders.send_with_boto(
            caller, [*sent, *days("days", now), GOLDEN, too_long(story, "boto-long")]
        )

    async def javascript() -> list[Json]:
        if not node:
            return []
        sdk = Story("sdk", now).requests()
        told, _ = await asyncio.gather(
            senders.send_with_sdk(caller, sdk, folder), amplify(url, folder)
        )
        return told

    cli = Story("cli", now).requests()
    found = await asyncio.gather(
        asyncio.to_thread(boto),
        senders.send_with_cli(caller, cli, folder),
        javascript(),
        asyncio.to_thread(upload, url),
    )
    return dict(zip(("boto", "cli", "sdk"), found[:3], strict=True))


async def amplify(url: str, folder: Path) -> None:
    """Be an app's visitor: sign in, look at pages, buy, and leave again."""
    async with senders.AmplifyApp(url, KEYED, API_KEY, folder) as app:
        await app.record("_session.start")
        await app.record("pageView", {"page": "/über"})
        profile = {
            "email": "zoë@example.com",
            "plan": "gold",
            "demographic": {"locale": "de_AT", "platform": "web", "appVersion": "7.1"},
            "location": {"country": "AT", "latitude": 48.2},
            "customProperties": {"interests": ["a", "b"]},
            "metrics": {"logins": 3},
        }
        # What it knows of its visitor comes after its first events: the endpoint changes.
        await app.do("wait", 6000)
        await app.do("identifyUser", {"userId": "user-9", "userProfile": profile})
        await app.record("_userauth.sign_in")
        for number in range(120):
            await app.record("click ☝", {"n": str(number)}, {"x": number, "half": number + 0.5})
        # Its buffer is sent every five seconds, a hundred events at a time. (flushEvents sends all
        # of it at once, which above a hundred events is a bad request, here as at Pinpoint.)
        await app.do("wait", 11_000)
        bought = {"_product_id": "sku-1", "_currency": "EUR"}
        await app.record("_monetization.purchase", bought, {"_quantity": 2, "_item_price": 9.99})
        await app.record("_session.stop")
        await app.do("flush")
        await app.do("wait", 3_000)


def upload(url: str) -> None:
    """Send uploads with mParticle's SDK, again where it was not answered."""
    now_ms = round(datetime.now(UTC).timestamp() * 1000)
    batches = mparticle_sender.batches(MP_USERS, now_ms)
    client = mparticle_sender.api(mparticle(url))
    for send, body in ((client.upload_events, batches[0]), (client.bulk_upload_events, batches)):
        for _ in range(4):
            try:
                send(body)
                break
            except (ApiException, OSError):
                continue
            except Exception as error:  # noqa: BLE001  # urllib3's, wherever the SDK has it from
                assert "Connection" in repr(error), error  # noqa: PT017


async def arrived(scene: PinpointScene, account: Account) -> dict[str, list[emulation.Stored]]:
    """Wait until so many records and events are there as have to be, and a moment longer."""
    wanted = {
        "events": len(account.wanted(SIGNED)) + len(FINISHED) + 1,
        "keyed": len(account.wanted(KEYED)),
        "documents": len(account.wanted()) + len(FINISHED) + 1,
        "uploads": MP_USERS * len(mparticle_sender.KINDS),
        "records": MP_USERS * len(mparticle_sender.KINDS),
    }
    found: dict[str, list[emulation.Stored]] = {}

    def look() -> str:
        for name, count in wanted.items():
            found[name] = scene.read(name)
            there = sum(len(events_of(one.value)) for one in found[name])
            if there < count:
                return f"{there} of {count} events in {name}"
        objects = len(scene.objects("bucket"))
        return "" if objects >= wanted["events"] else f"{objects} objects in the bucket"

    async def complete() -> bool:
        return not await asyncio.to_thread(look)

    try:
        await until(complete, "everything has arrived", ARRIVAL, 0.5)
    except AssertionError as missing:
        said = "\n".join(worker.tail() for worker in scene.workers)
        # The tests that follow say what exactly is missing.
        (scene.folder / "missing").write_text(f"{missing}: {look()}\n{said}")
    return found


def events_of(value: bytes) -> list[Any]:
    """Return a document's events; a record of Pinpoint's is one itself."""
    document = json.loads(value)
    found: list[Any] = document.get("events", [document])
    return found

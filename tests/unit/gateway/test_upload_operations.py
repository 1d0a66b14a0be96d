"""mParticle's Events API from a call to what is stored and answered."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from forwarder.config.gateway import App, AppAuth, EventsApiInput
from forwarder.gateway.contract import Action, ApiCall, ApiError
from forwarder.gateway.producer import EventProducer
from forwarder.gateway.upload_operations import UploadOperations
from forwarder.ops.gateway_reporter import EventOutcome
from tests.doubles import LoopClock
from tests.unit.gateway.doubles import ARRIVAL, Broker, GatewayNotes, Room
from tests.world import virtually

INPUT = EventsApiInput("us1-own", "secret", "development")
EVENT = {"event_type": "custom_event", "data": {"event_name": "Play"}}


class Uploads:
    """The operations on a broker of their own."""

    def __init__(self, limit: int, broker: Broker) -> None:
        self.broker = broker
        self.notes = GatewayNotes()
        self.memory = Room(limit)
        self.producer = EventProducer(broker.connect, self.memory, LoopClock(), self.notes)
        self.operations = UploadOperations("u", self.producer, self.notes).by_action()

    async def send(self, body: Any, caller: App | EventsApiInput = INPUT) -> None:  # noqa: ANN401
        action = Action.BULK_UPLOAD if isinstance(body, list) else Action.UPLOAD
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        reply = await self.operations[action](ApiCall(caller, {}, raw, ARRIVAL, "r"))
        assert (202, b"") == (reply.status, reply.body)

    async def refused(self, body: Any, caller: App | EventsApiInput = INPUT) -> ApiError:  # noqa: ANN401
        with pytest.raises(ApiError) as told:
            await self.send(body, caller)
        return told.value


@asynccontextmanager
async def uploading(limit: int = 1 << 20, **broker: Any) -> AsyncIterator[Uploads]:  # noqa: ANN401
    made = Uploads(limit, Broker(**broker))
    task = asyncio.ensure_future(made.producer.run())
    await asyncio.sleep(0.1)
    yield made
    assert 0 == made.memory.taken
    task.cancel()


def upload(**members: Any) -> dict[str, Any]:  # noqa: ANN401  # any JSON
    return {"events": [EVENT], "mpid": 5} | members


@virtually
async def test_an_upload_is_stored_under_the_key_of_its_credentials() -> None:
    async with uploading() as made:
        await made.send(upload(api_key="us1-other", api_keys=["us1-other"]))
        [value] = made.broker.values
        assert upload(api_key="us1-own", environment="development") == value
        assert b"other" not in made.broker.records[0][1]
        assert {("development", EventOutcome.ACCEPTED): 1} == made.notes.counts


@virtually
async def test_an_upload_that_names_its_environment_keeps_it() -> None:
    async with uploading() as made:
        await made.send(upload(environment="production"))
        await made.send(upload(environment=None))
        await made.send(upload(environment=""))
        kept = [value["environment"] for value in made.broker.values]
        assert ["production", "development", "development"] == kept


@virtually
async def test_bytes_of_members_pass_through() -> None:
    body = b' {"mpid" : 7346244611012968789,"events":[ {"event_type":"x","data":{"n":1.10e2}} ]} '
    async with uploading() as made:
        await made.send(body)
        [(key, value)] = made.broker.records
        assert b"7346244611012968789" == key
        assert b'"events":[ {"event_type":"x","data":{"n":1.10e2}} ]' in value


@pytest.mark.parametrize(
    ("members", "key"),
    [
        ({"mp_deviceid": "d", "mpid": 5, "source_request_id": "s"}, b"d"),
        ({"device_info": {"ios_idfv": "i"}, "mpid": 5, "source_request_id": "s"}, b"i"),
        ({"mp_deviceid": "0", "device_info": {"ios_idfv": "null"}, "mpid": "5"}, b"5"),
        ({"mpid": 0, "source_request_id": "s"}, b"s"),
    ],
)
def test_the_key_is_the_device_else_the_person_else_the_request(
    members: dict[str, Any], key: bytes
) -> None:
    @virtually
    async def test() -> None:
        async with uploading() as made:
            await made.send({"events": []} | members)
            assert [key] == [found for found, _ in made.broker.records]

    test()


@virtually
async def test_an_upload_of_nobody_has_the_same_key_when_it_comes_again() -> None:
    async with uploading() as made:
        await made.send({"events": [EVENT]})
        await made.send({"events": [EVENT]})
        await made.send({"events": []})
        keys = [key for key, _ in made.broker.records]
        assert 2 == len(set(keys))
        assert 2 == keys.count(max(keys, key=keys.count))


@virtually
async def test_a_crash_report_that_calls_itself_a_commerce_event_is_taken() -> None:
    report = {"event_type": "commerce_event", "data": {"message": "crashed", "fatal": True}}
    async with uploading() as made:
        await made.send({"events": [report], "mpid": 5})
        assert [report] == made.broker.values[0]["events"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"5",
        b"{}",
        b'{"events":{}}',
        b'{"events":[5]}',
        b'{"events":[],"events":[]}',
        b'{"event_type":"x","data":{}}',
        b'{"events":[],"mpid":NaN}',
        b'{"mpid":"\xff"}',
        b'{"events":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'[{"events":[]}]',
    ],
)
def test_what_is_no_upload_is_refused(body: bytes) -> None:
    @virtually
    async def test() -> None:
        async with uploading() as made:
            assert 400 == (await made.refused(body)).status
            assert [] == made.broker.records
            assert 1 == made.notes.counts["development", EventOutcome.INVALID]

    test()


@virtually
async def test_one_bad_upload_refuses_the_bulk_and_is_named() -> None:
    async with uploading() as made:
        error = await made.refused([upload(), upload(), {"events": 5}, upload()])
        assert 400 == error.status
        assert error.message.startswith("upload 2 of the array (from 0): ")
        assert [] == made.broker.records
        assert 400 == (await made.refused([upload()] * 101)).status
        await made.send([upload(mpid=n) for n in range(1, 101)])
        assert 100 == len(made.broker.records)
        await made.send([])


@virtually
async def test_kafka_full_is_429_and_kafka_down_503_and_both_say_when_to_come_again() -> None:
    async with uploading(limit=500) as made:
        full = await made.refused(upload(large="x" * 500))
        assert (429, "5") == (full.status, full.headers["Retry-After"])
        made.broker.up.clear()
        down = await made.refused([upload(), upload(mpid=6)])
        assert (503, "5") == (down.status, down.headers["Retry-After"])


@virtually
async def test_an_upload_that_fits_no_record_is_413() -> None:
    async with uploading(limit=1000) as made:
        made.broker.limits["u"] = 500
        assert 413 == (await made.refused(upload(large="x" * 500))).status
        error = await made.refused([upload(), upload(large="x" * 262_144)])
        assert 413 == error.status
        assert error.message.startswith("upload 1 of the array")


@virtually
async def test_only_an_input_may_send_uploads() -> None:
    async with uploading() as made:
        assert 403 == (await made.refused(upload(), App("shop", AppAuth.NONE))).status

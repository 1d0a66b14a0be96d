"""PutEvents from a call to what is stored and answered."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from forwarder.config.gateway import App, AppAuth, EventsApiInput, GatewayLimits, PinpointApi
from forwarder.gateway import turns
from forwarder.gateway.contract import ApiCall, ApiError
from forwarder.gateway.event_operations import EventOperations
from forwarder.gateway.producer import EventProducer
from forwarder.ops.gateway_reporter import EventOutcome
from tests.doubles import LoopClock
from tests.unit.gateway.doubles import (
    ARRIVAL,
    SHOP,
    Broker,
    GatewayNotes,
    Memory,
    Room,
    call_of,
)
from tests.world import virtually

OTHER = App("other", AppAuth.NONE)
STAMP = "2026-01-01T00:00:00.000Z"
ACCEPTED = {"StatusCode": 202, "Message": "Accepted"}


class Api:
    """PutEvents on a store and a broker of its own."""

    def __init__(self, limits: GatewayLimits, broker: Broker | None = None) -> None:
        self.broker = broker or Broker()
        self.store = Memory()
        self.notes = GatewayNotes()
        self.buffer = Room(limits.buffered_bytes)
        self.producer = EventProducer(self.broker.connect, self.buffer, LoopClock(), self.notes)
        api = PinpointApi("t", (SHOP, OTHER), "111122223333")
        self.operations = EventOperations(api, limits, self.store, self.producer, self.notes)

    async def put(self, items: Any, app: App = SHOP) -> Any:  # noqa: ANN401  # any JSON
        body = items if isinstance(items, bytes) else {"BatchItem": items}
        reply = await self.operations.put_events(call_of(body, app))
        assert 202 == reply.status
        return orjson.loads(reply.body)["Results"]


@asynccontextmanager
async def serving(limits: GatewayLimits | None = None, **broker: Any) -> AsyncIterator[Api]:  # noqa: ANN401
    api = Api(limits or GatewayLimits(), Broker(**broker))
    task = asyncio.ensure_future(api.producer.run())
    await asyncio.sleep(0.1)
    yield api
    assert 0 == api.buffer.taken
    task.cancel()


def event(**members: Any) -> dict[str, Any]:  # noqa: ANN401  # any JSON
    return {"EventType": "click", "Timestamp": STAMP} | members


def item(*ids: str, **endpoint: Any) -> dict[str, Any]:  # noqa: ANN401  # any JSON
    return {"Endpoint": endpoint, "Events": {one: event() for one in ids}}


def answers(results: Any, endpoint: str) -> dict[str, int]:  # noqa: ANN401  # any JSON
    found = results[endpoint]["EventsItemResponse"]
    return {key: status["StatusCode"] for key, status in found.items()}


@virtually
async def test_everything_is_answered_and_a_record_holds_the_merged_endpoint() -> None:
    async with serving() as api:
        api.store.kept["shop", "e1"] = {"Id": "e1", "OptOut": "NONE"}
        results = await api.put({"e1": item("a", "b", Address="x"), "e2": item("c")})
        assert {
            "e1": {
                "EndpointItemResponse": ACCEPTED,
                "EventsItemResponse": {"a": ACCEPTED, "b": ACCEPTED},
            },
            "e2": {"EndpointItemResponse": ACCEPTED, "EventsItemResponse": {"c": ACCEPTED}},
        } == results
        assert {b"shop/e1", b"shop/e2"} == {key for key, _ in api.broker.records}
        [value] = [one for one in api.broker.values if one["EndpointId"] == "e1"]
        assert {
            "ApplicationId": "shop",
            "EndpointId": "e1",
            "ArrivalTimestamp": ARRIVAL,
            "Endpoint": {"Id": "e1", "OptOut": "NONE", "Address": "x"},
            "Events": [{"EventId": "a"} | event(), {"EventId": "b"} | event()],
        } == value
        assert {("shop", EventOutcome.ACCEPTED): 3} == api.notes.counts


@virtually
async def test_bytes_of_events_are_kept() -> None:
    raw = b'{ "EventType" : "\\u0063lick", "Timestamp":"%b" , "Metrics":{"m":1.10e2},"New":[ 1.0 ]}'
    sent = raw % STAMP.encode()
    async with serving() as api:
        await api.put(b'{"BatchItem":{"e":{"Endpoint":{},"Events":{"a":%b}}}}' % sent)
        [(_, value)] = api.broker.records
        assert sent[1:].lstrip() in value


@virtually
async def test_a_client_names_neither_the_app_nor_the_id_of_an_event() -> None:
    spoofed = event(EventId="b", ApplicationId="other")
    endpoint = {"ApplicationId": "other", "Id": "x", "CohortId": "7", "CreationDate": "x"}
    async with serving() as api:
        await api.put({"e": {"Endpoint": endpoint, "Events": {"a": spoofed}}})
        [(_, value)] = api.broker.records
        assert 1 == value.count(b"EventId")
        [record] = api.broker.values
        assert "a" == record["Events"][0]["EventId"]
        assert {"ApplicationId": "shop", "Id": "e"} == record["Endpoint"]
        assert "shop" == record["ApplicationId"]


@virtually
async def test_no_app_calls_its_package_by_the_id_of_another() -> None:
    events = {"a": event(AppPackageName="other"), "b": event(AppPackageName="shop")}
    async with serving() as api:
        results = await api.put({"e": {"Endpoint": {}, "Events": events}})
        assert {"a": 400, "b": 202} == answers(results, "e")


@virtually
async def test_the_date_of_an_update_is_written_as_endpoints_have_it() -> None:
    async with serving() as api:
        await api.put(
            {"e": item(EffectiveDate="2026-01-01T01:00:00.5+01:00", Metrics={"m": float(2**70)})}
        )
        kept = api.store.kept["shop", "e"]
        assert "2026-01-01T00:00:00.500Z" == kept["EffectiveDate"]
        assert {"m": float(2**70)} == kept["Metrics"]
        for odd in ("0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"):
            results = await api.put({"e": item(EffectiveDate=odd)})
            assert 400 == results["e"]["EndpointItemResponse"]["StatusCode"]
        body = b'{"BatchItem":{"e":{"Endpoint":{"New":1e999},"Events":{}}}}'
        results = await api.put(body)
        assert 400 == results["e"]["EndpointItemResponse"]["StatusCode"]


@virtually
async def test_one_bad_event_harms_no_other() -> None:
    bad = {
        "type": {"Timestamp": STAMP},
        "time": event(Timestamp="yesterday"),
        "date": event(Timestamp="2026-01-01"),
        "session": event(Session={"Id": "s"}),
        "metric": event(Metrics={"m": "NaN"}),
        "true": event(Metrics={"m": True}),
        "text": event(Attributes={"k": 5}),
        "list": [],
        "number": 5,
        "null": None,
        "empty": event(EventType=""),
        "zero": event(EventType="\0duplicate"),
        "deep": event(New=orjson.loads(b"[" * 100 + b"]" * 100)),
        "": event(),
        "\0": event(),
        "x" * 1025: event(),
    }
    async with serving() as api:
        results = await api.put({"e": {"Endpoint": {}, "Events": bad | {"good": event()}}})
        assert dict.fromkeys(bad, 400) | {"good": 202} == answers(results, "e")
        assert ["good"] == [one["EventId"] for one in api.broker.values[0]["Events"]]
        assert len(bad) == api.notes.counts["shop", EventOutcome.INVALID]


@pytest.mark.parametrize(
    "stamp",
    [
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00.1Z",
        "2026-01-01T00:00:00.123456789+01:30",
        "2026-01-01T00:00:00+0000",
        "2026-01-01T00:00:00",
        "2026-01-01t00:00:00.1z",
    ],
)
def test_timestamps_are_taken_in_every_form_that_clients_send(stamp: str) -> None:
    @virtually
    async def test() -> None:
        session = {"Id": "s", "StartTimestamp": stamp, "StopTimestamp": stamp, "Duration": 5}
        sent = event(Timestamp=stamp, Session=session, Metrics={"a": 1, "b": 1.0})
        async with serving() as api:
            results = await api.put({"e": {"Endpoint": {}, "Events": {"a": sent}}})
            assert {"a": 202} == answers(results, "e")

    test()


@virtually
async def test_each_limit_is_taken_and_one_more_is_refused_by_what_should_be_less() -> None:
    limits = GatewayLimits(
        event_bytes=2000, attribute_key=5, attribute_value=7, attributes=2, metrics=2
    )
    good = {
        "key": event(Attributes={"k" * 5: "v"}),
        "value": event(Attributes={"k": "v" * 7}),
        "attributes": event(Attributes={"1": "", "2": ""}),
        "metrics": event(Metrics={"1": 1, "2": 2}),
    }
    bad = {
        "Attribute key length": event(Attributes={"k" * 6: "v"}),
        "Attribute value length": event(Attributes={"k": "v" * 8}),
        "Number of attributes per event submitted": event(Attributes={"1": "", "2": "", "3": ""}),
        "Number of metrics per event submitted": event(Metrics={"1": 1, "2": 2, "3": 3}),
        "Metric key length": event(Metrics={"k" * 6: 1}),
    }
    large = {"Event size": event(New="x" * 2000)}
    async with serving(limits) as api:
        results = await api.put({"e": {"Endpoint": {}, "Events": good | bad | large}})
        expected = dict.fromkeys(good, 202) | dict.fromkeys(bad, 400) | {"Event size": 413}
        assert expected == answers(results, "e")
        for what in bad | large:
            message = results["e"]["EventsItemResponse"][what]["Message"]
            assert message.startswith(f"{what} should be less than ")


@virtually
async def test_a_refused_endpoint_keeps_its_events_with_what_is_stored() -> None:
    refused: dict[str, Any] = {
        "enum": {"ChannelType": "PIGEON"},
        "type": {"Address": 5},
        "date": {"EffectiveDate": "x"},
        "large": {"Address": "x" * 20_000},
        "values": {"Attributes": {"k": ["v"] * 51}},
        "key": {"User": {"UserAttributes": {"k" * 51: ["v"]}}},
        "user": {"User": {"UserId": "x" * 2000}},
        "whole": {"Address": "x"},
    }
    async with serving() as api:
        api.store.refuses = {"whole": "Number of attributes should be less than 250."}
        sent = {key: {"Endpoint": one, "Events": {"a": event()}} for key, one in refused.items()}
        results = await api.put(sent)
        statuses = {key: one["EndpointItemResponse"]["StatusCode"] for key, one in results.items()}
        assert dict.fromkeys(refused, 400) == statuses
        assert all({"a": 202} == answers(results, key) for key in refused)
        assert all(
            {"ApplicationId": "shop", "Id": one["EndpointId"]} == one["Endpoint"]
            for one in api.broker.values
        )


@virtually
async def test_an_endpoint_without_events_is_stored_and_writes_no_record() -> None:
    async with serving() as api:
        results = await api.put({"e": item(Address="x"), "f": {"Endpoint": {}}})
        assert {} == results["e"]["EventsItemResponse"]
        assert 400 == results["f"]["EndpointItemResponse"]["StatusCode"]
        assert {("shop", "e")} == set(api.store.kept)
        assert [] == api.broker.records


@virtually
async def test_an_endpoint_id_that_is_none_takes_nothing_with_it() -> None:
    async with serving() as api:
        results = await api.put({"": item("a"), "x" * 1025: item("b"), "e": item("c")})
        assert {"a": 400} == answers(results, "")
        assert {"b": 400} == answers(results, "x" * 1025)
        assert {"c": 202} == answers(results, "e")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "BatchItem"),
        (b"null", "BatchItem"),
        (b"{}", "BatchItem"),
        (b'{"BatchItem":[]}', "BatchItem"),
        (b'{"BatchItem":{"e":{"Endpoint":{},"Events":{"a":{"Metrics":{"m":NaN}}}}}}', "not JSON"),
        (b'{"BatchItem":{"\xff":{}}}', "not JSON"),
        (b'{"BatchItem":' + b"[" * 5000 + b"]" * 5000 + b"}", "nested"),
        (b'{"BatchItem":{"e":{"Endpoint":{}},"e":{"Endpoint":{},"Events":{"a":{}}}}}', "twice"),
        (
            b'{"BatchItem":{"e":{"Endpoint":{},"Events":{}},"e":{"Endpoint":{},"Events":{}}}}',
            "twice",
        ),
        (b'{"BatchItem":{"e":{"Endpoint":{"Address":"1"},"Endpoint":{},"Events":{}}}}', "twice"),
        (b'{"BatchItem":{"e":{"Endpoint":{},"Events":{},"\\u0045vents":{}}}}', "twice"),
    ],
)
def test_what_is_no_request_is_refused_as_a_whole(body: bytes, message: str) -> None:
    @virtually
    async def test() -> None:
        async with serving() as api:
            with pytest.raises(ApiError, match=message) as told:
                await api.put(body)
            assert (400, "BadRequestException") == (told.value.status, told.value.code)

    test()


@virtually
async def test_more_events_than_a_request_may_have_are_refused_together() -> None:
    async with serving() as api:
        many = {f"e{n}": item("a", "b") for n in range(51)}
        with pytest.raises(ApiError, match="less than 100"):
            await api.put(many)
        assert {} == api.store.kept
        many.popitem()
        assert 50 == len(await api.put(many))


@virtually
async def test_an_event_id_given_twice_is_refused_alone() -> None:
    one = orjson.dumps(event())
    for other in (one, one.replace(b"EventType", b"\\u0045ventType")):
        events = b'{"a":%b,"a":%b,"b":%b}' % (one, other, one)
        async with serving() as api:
            results = await api.put(b'{"BatchItem":{"e":{"Endpoint":{},"Events":%b}}}' % events)
            assert {"a": 400, "b": 202} == answers(results, "e")


@virtually
async def test_half_a_surrogate_pair_becomes_the_character_for_what_is_no_character() -> None:
    half = b'{"EventType":"t","Timestamp":"%b","Attributes":{"k":"cut %b"}}'
    sent, kept = half % (STAMP.encode(), b"\\ud83d"), half % (STAMP.encode(), b"\\ufffd")
    body = b'{"BatchItem":{"e":{"Endpoint":{"Address":"\\ud83d"},"Events":{"a":%b}}}}' % sent
    async with serving() as api:
        results = await api.put(body)
        assert {"a": 202} == answers(results, "e")
        [(_, value)] = api.broker.records
        assert kept[1:] in value
        assert {"Address": "\ufffd"}.items() <= api.store.kept["shop", "e"].items()


@virtually
async def test_more_endpoints_than_a_request_may_have_are_refused_together() -> None:
    async with serving() as api:
        with pytest.raises(ApiError, match="endpoints in a request should be less than 100"):
            await api.put({str(n): item() for n in range(101)})
        assert {} == api.store.kept


@virtually
async def test_records_are_cut_and_an_event_that_fits_none_is_too_large() -> None:
    async with serving(limit=2000, partitions=1) as api:
        events = {f"e{n}": event(New="x" * 500) for n in range(5)} | {"no": event(New="x" * 2000)}
        results = await api.put({"e": {"Endpoint": {}, "Events": events}})
        assert {f"e{n}": 202 for n in range(5)} | {"no": 413} == answers(results, "e")
        parts = [[one["EventId"] for one in value["Events"]] for value in api.broker.values]
        assert [["e0", "e1"], ["e2", "e3"], ["e4"]] == parts
        assert {b"shop/e"} == {key for key, _ in api.broker.records}


@virtually
async def test_a_full_buffer_is_429_and_a_store_or_a_kafka_that_is_down_500_for_each() -> None:
    async with serving(GatewayLimits(buffered_bytes=500)) as api:
        results = await api.put({"e": {"Endpoint": {}, "Events": {"a": event(New="x" * 500)}}})
        assert {"a": 429} == answers(results, "e")
        api.store.down = True
        results = await api.put({"e": item("a", "b")})
        assert {"a": 500, "b": 500} == answers(results, "e")
        assert 500 == results["e"]["EndpointItemResponse"]["StatusCode"]
        assert 2 == api.notes.counts["shop", EventOutcome.STORE]
        api.store.down = False
        api.broker.up.clear()
        results = await api.put({"e": item("a")})
        assert {"a": 500} == answers(results, "e")
        api.broker.up.set()
        await asyncio.sleep(40)
        assert {"a": 202} == answers(await api.put({"e": item("a")}), "e")


@virtually
async def test_concurrent_requests_for_an_endpoint_are_stored_in_their_order() -> None:
    async with serving() as api:
        api.store.waits = asyncio.Event()
        first = asyncio.ensure_future(api.put({"e": item("a", Address="1"), "f": item("x")}))
        await asyncio.sleep(0)
        given_up = asyncio.ensure_future(api.put({"e": item("b", Address="2")}))
        await asyncio.sleep(0)
        last = asyncio.ensure_future(api.put({"f": item("y"), "e": item("c", Address="3")}))
        await asyncio.sleep(1)
        given_up.cancel()
        await asyncio.sleep(1)
        api.store.waits.set()
        await asyncio.gather(first, last)
        of_e = [v for v in api.broker.values if v["EndpointId"] == "e"]
        assert [("a", "1"), ("c", "3")] == [
            (v["Events"][0]["EventId"], v["Endpoint"]["Address"]) for v in of_e
        ]


@virtually
async def test_nobody_waits_for_earlier_requests_longer_than_for_an_answer() -> None:
    async with serving() as api:
        api.store.waits = asyncio.Event()
        first = asyncio.ensure_future(api.put({"e": item("a")}))
        await asyncio.sleep(1)
        began = asyncio.get_running_loop().time()
        results = await asyncio.gather(*(api.put({"e": item(f"b{n}")}) for n in range(50)))
        assert asyncio.get_running_loop().time() - began < turns.WAIT_SECONDS + 1
        assert all([500] == list(answers(one, "e").values()) for one in results)
        last = asyncio.ensure_future(api.put({"e": item("c")}))
        await asyncio.sleep(1)
        assert not last.done()
        api.store.waits.set()
        assert {"a": 202} == answers(await first, "e")
        assert {"c": 202} == answers(await last, "e")
        assert [["a"], ["c"]] == [[e["EventId"] for e in v["Events"]] for v in api.broker.values]


@virtually
async def test_a_call_of_nobody_or_of_an_input_is_refused() -> None:
    async with serving() as api:
        for caller in (None, EventsApiInput("key", "secret")):
            call = ApiCall(caller, {}, b"{}", ARRIVAL, "request")
            with pytest.raises(ApiError) as told:
                await api.operations.put_events(call)
            assert 403 == told.value.status


@virtually
async def test_no_app_sees_another_ones_endpoint() -> None:
    async with serving() as api:
        await api.put({"e": item("a", Address="secret")})
        await api.put({"e": item("a")}, OTHER)
        assert {b"shop/e", b"other/e"} == {key for key, _ in api.broker.records}
        [value] = [one for one in api.broker.values if "other" == one["ApplicationId"]]
        assert {"ApplicationId": "other", "Id": "e"} == value["Endpoint"]


@virtually
async def test_where_there_is_no_room_everything_that_may_be_stored_is_429() -> None:
    async with serving() as api:
        events = {"a": event(), "b": {}}
        reply = api.operations.put_events_busy(
            call_of({"BatchItem": {"e": {"Endpoint": {}, "Events": events}}})
        )
        assert 202 == reply.status
        results = orjson.loads(reply.body)["Results"]
        assert {"a": 429, "b": 400} == answers(results, "e")
        assert 429 == results["e"]["EndpointItemResponse"]["StatusCode"]
        assert [] == api.broker.records
        assert {} == api.store.kept

"""No event of one app under another, and every accepted one stored once: over apps, ids, batches.

Requests of several apps run at once, with ids made of what separates keys and paths. Each event
says whose it is; what is stored is read as the worker reads it.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.config.gateway import App, AppAuth, GatewayLimits, PinpointApi
from forwarder.formats.contract import Upload
from forwarder.formats.pinpoint.decode import PinpointDecoder
from forwarder.formats.rawjson import fields, text_of
from forwarder.gateway.contract import Action, ApiCall
from forwarder.gateway.endpoint_operations import EndpointOperations
from forwarder.gateway.endpoints.contract import EndpointUpdate, Merged
from forwarder.gateway.endpoints.merge import make_merge
from forwarder.gateway.event_operations import EventOperations
from forwarder.gateway.producer import EventProducer
from forwarder.gateway.routes import Api, RouteTable
from forwarder.kafka.idempotent import ProduceError
from forwarder.model import Partition
from tests.doubles import LoopClock, run_virtually
from tests.unit.gateway.doubles import ARRIVAL, Broker, GatewayNotes, Memory, Room

APPS = [App(name, AppAuth.NONE) for name in ("a", "a/b", "b", "a%2Fb", "events", 'q"')]
LIMITS = GatewayLimits()
STAMP = "2026-01-01T00:00:00Z"
OWNER = ("ApplicationId", "EndpointId")
ROUTES = RouteTable([Api.PINPOINT])

ids = st.text(st.sampled_from('ab/%2F."\\é😀 '), max_size=6)
apps = st.sampled_from(APPS)
odd = st.sampled_from([{}, {"EventId": "spoofed"}, {"ApplicationId": "b"}, {"event_type": "x"}])
spoofed = st.sampled_from(
    [{}, {"ApplicationId": "b"}, {"Id": "x"}, {"User": {"UserId": "u"}}, {"OptOut": "BAD"}]
)
batches = st.dictionaries(
    ids, st.tuples(spoofed, st.dictionaries(ids, odd, max_size=4)), max_size=4
)
requests = st.lists(st.tuples(apps, batches), max_size=6)


class Merging(Memory):
    """A store with the rules of merging."""

    def __init__(self) -> None:
        super().__init__()
        self._rules = make_merge(LIMITS)

    def _merge(self, app: str, endpoint: str, update: EndpointUpdate) -> Merged:
        kept = self.kept.get((app, endpoint))
        merged = self._rules(app, endpoint, orjson.dumps(kept) if kept else None, update)
        if merged.endpoint:
            self.kept[app, endpoint] = orjson.loads(merged.endpoint)
        return merged


class Gate:
    """PutEvents and UpdateEndpoint of all apps, called by their paths."""

    def __init__(self, faults: Sequence[int]) -> None:
        self.broker = Broker(partitions=3, limit=1500)
        for partition in faults:
            self.broker.answers[partition].append(ProduceError("not just now"))
        self.store = Merging()
        self.room = Room(1 << 30)
        notes = GatewayNotes()
        self.producer = EventProducer(self.broker.connect, self.room, LoopClock(), notes)
        api = PinpointApi("t", tuple(APPS), "111122223333")
        self.events = EventOperations(api, LIMITS, self.store, self.producer, notes)
        self.endpoints = EndpointOperations(LIMITS, self.store, notes)

    async def call(self, app: App, method: str, path: str, body: Any) -> Any:  # noqa: ANN401
        """Call what a path means, as the app that it names."""
        found = ROUTES.find(path)
        assert found is not None
        named = next(one for one in APPS if one.id == found.parameters["app"])
        assert app is named
        action = found.route.actions[method]
        operation = {
            Action.PUT_EVENTS: self.events.put_events,
            Action.UPDATE_ENDPOINT: self.endpoints.update_endpoint,
        }[action]
        call = ApiCall(named, found.parameters, orjson.dumps(body), ARRIVAL, "r")
        return orjson.loads((await operation(call)).body)

    async def put(self, number: int, app: App, batch: Mapping[str, Any]) -> Any:  # noqa: ANN401
        items = {
            endpoint: {
                "Endpoint": {"Address": f"{app.id} {endpoint}"} | told,
                "Events": {
                    event: {"EventType": "t", "Timestamp": STAMP}
                    | extra
                    | {"Attributes": {"whose": whose(app.id, endpoint, event, number)}}
                    for event, extra in events.items()
                },
            }
            for endpoint, (told, events) in batch.items()
        }
        path = f"/v1/apps/{quote(app.id, safe='')}/events"
        return (await self.call(app, "POST", path, {"BatchItem": items}))["Results"]


def whose(app: str, endpoint: str, event: str, number: int) -> str:
    return orjson.dumps([app, endpoint, event, number]).decode()


def uploads(broker: Broker) -> list[Upload]:
    """Return everything stored, as the worker reads it."""
    decoder = PinpointDecoder(Partition("t", 0), sessions=True, duplicates=True)
    found: list[Upload] = []
    for offset, (_, value) in enumerate(broker.records):
        decoded = decoder.decode(value, offset, ARRIVAL, ARRIVAL)
        assert isinstance(decoded, list), decoded
        found += decoded
    return found


def check(
    gate: Gate, sent: Sequence[tuple[App, Mapping[str, Any]]], results: Sequence[Any]
) -> None:
    """Hold what was stored against what was sent and answered."""
    accepted = Counter(
        whose(app.id, endpoint, event, number)
        for number, ((app, _), result) in enumerate(zip(sent, results, strict=True))
        for endpoint, answer in result.items()
        for event, status in answer["EventsItemResponse"].items()
        if 202 == status["StatusCode"]
    )
    stored: Counter[str] = Counter()
    for upload in uploads(gate.broker):
        told = fields(upload.context)
        app, endpoint = (text_of(bytes(told[name])) for name in ("ApplicationId", "EndpointId"))
        kept = orjson.loads(bytes(told["Endpoint"]))
        assert (app, endpoint) == (kept["ApplicationId"], kept["Id"])
        assert kept.get("Address", f"{app} {endpoint}") == f"{app} {endpoint}"
        for event, key in zip(
            orjson.loads(b"[%b]" % upload.body), upload.duplicate_keys, strict=True
        ):
            owned = orjson.loads(event["Attributes"]["whose"])
            assert [app, endpoint, event["EventId"]] == owned[:3]
            assert key
            stored[event["Attributes"]["whose"]] += 1
    assert accepted == stored
    for (_, batch), result in zip(sent, results, strict=True):
        assert set(batch) == set(result)
        for name, (_, ids_sent) in batch.items():
            assert set(ids_sent) == set(result[name]["EventsItemResponse"])


@settings(max_examples=150)
@given(requests, st.lists(st.integers(0, 2), max_size=5))
def test_every_accepted_event_is_stored_once_under_its_own_app_and_endpoint(
    sent: list[tuple[App, dict[str, Any]]], faults: list[int]
) -> None:
    async def main() -> None:
        gate = Gate(faults)
        running = asyncio.ensure_future(gate.producer.run())
        await asyncio.sleep(0.1)
        puts = [gate.put(number, app, batch) for number, (app, batch) in enumerate(sent)]
        check(gate, sent, await asyncio.gather(*puts))
        assert 0 == gate.room.taken
        running.cancel()

    run_virtually(main())


@given(apps, ids.filter(bool))
def test_an_endpoint_is_the_one_that_its_path_names(app: App, endpoint: str) -> None:
    async def main() -> None:
        gate = Gate(())
        path = f"/v1/apps/{quote(app.id, safe='')}/endpoints/{quote(endpoint, safe='')}"
        await gate.call(app, "PUT", path, {"Address": "x"})
        assert {(app.id, endpoint)} == set(gate.store.kept)

    run_virtually(main())

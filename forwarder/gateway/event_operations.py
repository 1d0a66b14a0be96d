"""What Pinpoint's operations on events and endpoints do, once it is known who calls.

An endpoint is stored first and its events second, so that no event is ahead of its endpoint. Only
PutEvents writes to Kafka, and only events: an update of an endpoint, alone or beside no event,
shows in the records of the events that come after it, and a deletion in none.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from forwarder.config.gateway import GatewayLimits, PinpointApi
from forwarder.formats.pinpoint.record import record_key
from forwarder.gateway import put_events
from forwarder.gateway.answers import app_of
from forwarder.gateway.contract import ApiCall, ApiReply
from forwarder.gateway.endpoints.contract import EndpointStore, EndpointUpdate, StoreError
from forwarder.gateway.producer import EventProducer
from forwarder.gateway.put_events import EndpointEntry
from forwarder.gateway.turns import Turns
from forwarder.gateway.waiting import ProduceFault, Submission
from forwarder.ops.gateway_reporter import EventOutcome, GatewayReporter

_FAULTS = {ProduceFault.FULL: put_events.FULL, ProduceFault.UNAVAILABLE: put_events.UNAVAILABLE}
_OUTCOMES = {
    put_events.ACCEPTED[0]: EventOutcome.ACCEPTED,
    put_events.FULL[0]: EventOutcome.FULL,
    put_events.TOO_LARGE[0]: EventOutcome.TOO_LARGE,
    put_events.UNAVAILABLE[0]: EventOutcome.UNAVAILABLE,
}


class EventOperations:
    """PutEvents of all apps."""

    def __init__(
        self,
        api: PinpointApi,
        limits: GatewayLimits,
        store: EndpointStore,
        producer: EventProducer,
        reporter: GatewayReporter,
    ) -> None:
        """Create; store and producer are opened and closed by their owner."""
        apps = [app.id for app in api.apps]
        self._topic = api.topic
        self._limits = limits
        self._store = store
        self._producer = producer
        self._reporter = reporter
        self._others = {app: frozenset(apps) - {app} for app in apps}
        self._turns = Turns()

    async def put_events(self, call: ApiCall) -> ApiReply:
        """PutEvents: 202 with a status for every endpoint and event, once all of it is known."""
        app = app_of(call)
        entries = self._read(app, call.body)
        try:
            await self._store_all(app, call.arrival_ms, entries)
        finally:
            self._report(app, entries)
        return ApiReply(202, put_events.encode_reply(entries))

    def put_events_busy(self, call: ApiCall) -> ApiReply:
        """Answer PutEvents where there is no room to carry it out: 202 with 429 for everything."""
        app = app_of(call)
        entries = self._read(app, call.body)
        _answer(entries, put_events.FULL)
        self._report(app, entries)
        return ApiReply(202, put_events.encode_reply(entries))

    def _read(self, app: str, body: bytes) -> list[EndpointEntry]:
        return put_events.read_request(body, self._limits, self._others.get(app, frozenset()))

    async def _store_all(self, app: str, arrival_ms: int, entries: Sequence[EndpointEntry]) -> None:
        """Store endpoints and events; what cannot be is answered so, and raises nothing."""
        todo = [entry for entry in entries if entry.wanted]
        if not todo:
            return
        if any(entry.events for entry in todo) and not await self._producer.available():
            _answer(todo, put_events.UNAVAILABLE)
            return
        try:
            async with self._turns.take([record_key(app, entry.endpoint_id) for entry in todo]):
                endpoints = await self._merge(app, arrival_ms, todo)
                places, submission = self._submit(app, arrival_ms, todo, endpoints)
        except (StoreError, TimeoutError):
            _answer(todo, put_events.STORE_DOWN)
            return
        for (entry, part), fault in zip(places, await submission.settled(), strict=True):
            status = put_events.ACCEPTED if fault is None else _FAULTS[fault]
            for event_id in part:
                entry.statuses[event_id] = status

    def _submit(
        self,
        app: str,
        arrival_ms: int,
        entries: Sequence[EndpointEntry],
        endpoints: Mapping[str, bytes],
    ) -> tuple[list[tuple[EndpointEntry, list[str]]], Submission]:
        """Have events stored with these endpoints; return whose each record is, and which."""
        places: list[tuple[EndpointEntry, list[str]]] = []
        records: list[tuple[bytes, bytes]] = []
        for entry in entries:
            if not entry.events:
                continue
            key = record_key(app, entry.endpoint_id)
            room = self._producer.room(self._topic, key)
            endpoint = endpoints[entry.endpoint_id]
            values, ids = put_events.cut_records(app, entry, arrival_ms, endpoint, room)
            records += [(key, value) for value in values]
            places += [(entry, part) for part in ids]
        return places, self._producer.submit(self._topic, records)

    async def _merge(
        self, app: str, arrival_ms: int, entries: Sequence[EndpointEntry]
    ) -> Mapping[str, bytes]:
        """Merge what the entries say; return the endpoints that records hold, by id."""
        updates = {e.endpoint_id: EndpointUpdate(e.given, arrival_ms) for e in entries}
        merged = await self._store.merge(app, updates)
        missing = {}
        for entry in entries:
            became = merged[entry.endpoint_id]
            if became.fault:
                entry.endpoint = 400, became.fault
                if not became.endpoint and entry.events:
                    missing[entry.endpoint_id] = EndpointUpdate({}, arrival_ms)
        if missing:
            merged = merged | await self._store.merge(app, missing)
        return {endpoint_id: became.endpoint for endpoint_id, became in merged.items()}

    def _report(self, app: str, entries: Sequence[EndpointEntry]) -> None:
        """Count what became of everything."""
        refused = sum([entry.endpoint[0] != put_events.ACCEPTED[0] for entry in entries])
        self._reporter.endpoints(app, accepted=len(entries) - refused, refused=refused)
        counts = Counter([_outcome(s) for entry in entries for s in entry.statuses.values()])
        for outcome, count in counts.items():
            self._reporter.events(app, outcome, count)


def _outcome(status: put_events.Status) -> EventOutcome:
    if status is put_events.STORE_DOWN:
        return EventOutcome.STORE
    return _OUTCOMES.get(status[0], EventOutcome.INVALID)


def _answer(entries: Sequence[EndpointEntry], status: put_events.Status) -> None:
    """Answer the same for everything that was not refused already."""
    for entry in entries:
        entry.answer_all(status)
        if entry.endpoint is put_events.ACCEPTED:
            entry.endpoint = status

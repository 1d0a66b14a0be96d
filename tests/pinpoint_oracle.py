"""What Pinpoint's event stream has to hold, told from what clients sent alone.

Nothing here is the program's: requests and answers are read from the wire, endpoints are merged
and records made a second time, by AWS's service model (pinpoint 2016-12-01) and the records of
event version 3.1 that Pinpoint used to deliver. ``Account.enter`` takes every exchange in order;
``judge`` compares records with it.
"""

import json
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import unquote

from tests.clients.wire import Exchange

Json = dict[str, Any]

NEVER = "_test.event_stream"
ORDER = (
    "event_type",
    "event_timestamp",
    "arrival_timestamp",
    "event_version",
    "application",
    "client",
    "device",
    "session",
    "attributes",
    "metrics",
    "endpoint",
    "client_context",
    "facets",
    "awsAccountId",
)
MERGED_BY_KEY = (("Attributes",), ("Metrics",), ("User", "UserAttributes"))
PARTS = ("Demographic", "Location", "User")
BY_SERVER = ("ApplicationId", "Id", "CohortId", "CreationDate")
MAYBE_BY_SERVER: Mapping[str, object] = {
    "EffectiveDate": None,
    "RequestId": None,
    "EndpointStatus": "ACTIVE",
    "OptOut": "NONE",
}
"""What the service fills in where nobody has given it; None: any text."""

ISO = re.compile(
    r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?(Z|z|[+-]\d\d:?\d\d|[+-]\d\d)?$"
)


class Event(NamedTuple):
    """An event that was accepted, and its record without what the service chose.

    ``arrivals``: within which times (ms) a request with it was taken. ``endpoint``: as merged.
    """

    app: str
    endpoint_id: str
    id: str
    record: Json
    arrivals: list[tuple[int, int]]
    endpoint: Json


@dataclass
class Endpoint:
    """An endpoint as its updates have made it."""

    given: Json = field(default_factory=dict)
    effective: int = 0
    created: tuple[int, int] | None = None


@dataclass
class Account:
    """Everything that clients have sent and a gateway has accepted."""

    aws_account_id: str
    events: dict[tuple[str, str, str], Event] = field(default_factory=dict)
    refused: dict[tuple[str, str, str], int] = field(default_factory=dict)
    endpoints: defaultdict[tuple[str, str], Endpoint] = field(
        default_factory=lambda: defaultdict(Endpoint)
    )

    def enter(self, exchange: Exchange) -> None:
        """Take one request and its answer into account."""
        parts = [unquote(part) for part in exchange.target.partition("?")[0].split("/")[1:]]
        match exchange.method, parts:
            case "POST", ["v1", "apps", app, "events" | "events/legacy"]:
                self._put_events(app, exchange)
            case "PUT", ["v1", "apps", app, "endpoints", endpoint_id]:
                if exchange.status == 202:
                    self._merge(app, endpoint_id, parsed(exchange.body), exchange)
            case "PUT", ["v1", "apps", app, "endpoints"]:
                for item in parsed(exchange.body)["Item"] if exchange.status == 202 else ():
                    about = {key: value for key, value in item.items() if key != "Id"}
                    self._merge(app, item["Id"], about, exchange)
            case "DELETE", ["v1", "apps", app, "endpoints", endpoint_id]:
                if exchange.status == 202:
                    self.endpoints.pop((app, endpoint_id), None)

    def _put_events(self, app: str, exchange: Exchange) -> None:
        if exchange.status != 202:
            return
        results = json.loads(exchange.answer)["Results"]
        for endpoint_id, item in parsed(exchange.body)["BatchItem"].items():
            told = results[endpoint_id]
            if told["EndpointItemResponse"]["StatusCode"] == 202:
                self._merge(app, endpoint_id, item["Endpoint"], exchange)
            for event_id, event in item["Events"].items():
                status = told["EventsItemResponse"][event_id]["StatusCode"]
                if status == 202:
                    self._accept(app, endpoint_id, event_id, event, exchange)
                else:
                    self.refused[app, endpoint_id, event_id] = status

    def _merge(self, app: str, endpoint_id: str, update: Json, exchange: Exchange) -> None:
        endpoint = self.endpoints[app, endpoint_id]
        if endpoint.created is None:
            endpoint.created = exchange.begun_ms, exchange.ended_ms
        effective = update.get("EffectiveDate")
        at = exchange.begun_ms if effective is None else milliseconds(effective)
        if effective is not None and at < endpoint.effective:
            return
        if update:
            endpoint.effective = max(endpoint.effective, at)
        if update and effective is None:  # dated by the service
            endpoint.given.pop("EffectiveDate", None)
        endpoint.given = _merged(endpoint.given, update, ())

    def _accept(
        self, app: str, endpoint_id: str, event_id: str, event: Json, exchange: Exchange
    ) -> None:
        known = self.events.get((app, endpoint_id, event_id))
        arrival = exchange.begun_ms, exchange.ended_ms
        if known is not None:  # a retry
            known.arrivals.append(arrival)
            return
        endpoint = self.endpoints[app, endpoint_id]
        record = self._record(app, endpoint_id, event, endpoint.given)
        self.events[app, endpoint_id, event_id] = Event(
            app, endpoint_id, event_id, record, [arrival], endpoint.given
        )

    def _record(self, app: str, endpoint_id: str, event: Json, endpoint: Json) -> Json:
        kind = event["EventType"]
        message = kind.startswith(("_campaign.", "_journey.", "_SMS.", "_email."))
        record: Json = {
            "event_type": kind,
            "event_timestamp": milliseconds(event["Timestamp"]),
            "event_version": "3.1",
            "application": application(app, event, endpoint),
            "client": {"client_id": endpoint_id},
            "device": device(endpoint.get("Demographic") or {}),
            "session": session(event.get("Session") or {}),
            "attributes": event.get("Attributes") or {},
            "awsAccountId": self.aws_account_id,
        }
        if event.get("Metrics") or not message:
            record["metrics"] = event.get("Metrics") or {}
        return record

    def wanted(self, app: str | None = None) -> list[Event]:
        """Return the events that have to be in a stream, of one app or of all."""
        return [
            event
            for event in self.events.values()
            if event.record["event_type"] != NEVER and app in {None, event.app}
        ]


def application(app: str, event: Json, endpoint: Json) -> Json:
    """Return the record's application."""
    demographic = endpoint.get("Demographic") or {}
    named = {
        "package_name": event.get("AppPackageName"),
        "title": event.get("AppTitle"),
        "version_code": event.get("AppVersionCode"),
        "version_name": demographic.get("AppVersion"),
    }
    sdk = {"name": event.get("SdkName"), "version": event.get("ClientSdkVersion")}
    return {"app_id": app, **_present(named), "sdk": _present(sdk)}


def device(demographic: Json) -> Json:
    """Return the record's device."""
    found: Json = {}
    if locale := demographic.get("Locale"):
        language, _, country = locale.replace("-", "_").partition("_")
        parts = {"code": locale, "country": country.upper(), "language": language.lower()}
        found["locale"] = {key: value for key, value in parts.items() if value}
    found |= _present({"make": demographic.get("Make"), "model": demographic.get("Model")})
    platform = {"name": "Platform", "version": "PlatformVersion"}
    return found | {"platform": _present({k: demographic.get(v) for k, v in platform.items()})}


def session(given: Json) -> Json:
    """Return the record's session."""
    if not given:
        return {}
    found = {"session_id": given["Id"], "start_timestamp": milliseconds(given["StartTimestamp"])}
    if stop := given.get("StopTimestamp"):
        found["stop_timestamp"] = milliseconds(stop)
    return found


def milliseconds(text: str) -> int:
    """Return an instant in milliseconds; without a zone it is UTC, finer digits are cut off."""
    found = ISO.fullmatch(text)
    assert found, text
    moment, fraction, zone = found.groups()
    offset = "+00:00" if zone in {None, "Z", "z"} else zone
    at = datetime.fromisoformat(f"{moment}{offset}").astimezone(UTC)
    return round(at.timestamp()) * 1000 + int((fraction or "0").ljust(3, "0")[:3])


class Number(str):
    """A number as it is spelled."""

    __slots__ = ()


def parsed(text: bytes) -> Json:
    """Return JSON whose numbers keep the digits that were sent."""
    found: Json = json.loads(text, parse_float=Number, parse_int=Number)
    return found


def _merged(before: Json, update: Json, path: tuple[str, ...]) -> Json:
    after = dict(before)
    for key, value in update.items():
        here = (*path, key)
        if here in MERGED_BY_KEY:
            kept = {**(after.get(key) or {}), **(value or {})}
            after[key] = {name: one for name, one in kept.items() if one not in (None, [])}
        elif key in PARTS and not path and isinstance(value, dict):
            after[key] = _merged(after.get(key) or {}, value, here)
        elif value is not None:
            after[key] = value
    return after


def _present(values: Json) -> Json:
    return {key: value for key, value in values.items() if value is not None}


# Comparing.


class Verdict(NamedTuple):
    """What is wrong with a stream's records, in words, and how many of them only repeat others."""

    faults: list[str]
    repeats: int

    def text(self, most: int = 12) -> str:
        """Return the first faults."""
        left = [f"… and {len(self.faults) - most} more"] if len(self.faults) > most else []
        return "\n".join([*self.faults[:most], *left])


def judge(account: Account, events: Sequence[Event], records: Iterable[bytes]) -> Verdict:
    """Compare records, as they arrived and without line ends, with the events wanted of them."""
    judging = _Judging(account, events)
    for record in records:
        judging.take(record)
    return judging.verdict()


class _Judging:
    def __init__(self, account: Account, events: Sequence[Event]) -> None:
        self.account = account
        self.faults: list[str] = []
        self._repeats = 0
        self._seen: Counter[bytes] = Counter()
        self._left: defaultdict[str, list[tuple[int, Event]]] = defaultdict(list)
        for rank, event in enumerate(events):
            self._left[_mark(event.record)].append((rank, event))
        self._rank: dict[tuple[str, str], int] = {}
        self._unknown: list[Json] = []
        self._created: dict[tuple[str, str], str] = {}

    def take(self, raw: bytes) -> None:
        self._seen[raw] += 1
        if b"\n" in raw or b"\r" in raw:
            self.faults.append(f"not one line: {raw!r}")
        record = parsed(raw)
        order = [ORDER.index(key) if key in ORDER else -1 for key in record]
        if order != sorted(order) or -1 in order:
            self.faults.append(f"fields in another order: {list(record)}")
        if list(record)[-1] != "awsAccountId":
            self.faults.append(f"awsAccountId is not last: {list(record)}")
        if json.dumps(json.loads(raw), separators=(",", ":")).count(" ") < raw.count(b" "):
            self.faults.append(f"not compact: {raw!r}")
        matched = self._match(record)
        if matched is None and self._seen[raw] > 1:
            self._repeats += 1
        elif matched is None:
            self._unknown.append(record)
        else:
            self._check(record, *matched)

    def _match(self, record: Json) -> tuple[int, Event] | None:
        known = {"arrival_timestamp", "endpoint", "client_context"}
        left = self._left.get(_mark({k: v for k, v in record.items() if k not in known}))
        if not left:
            return None
        arrival = int(record.get("arrival_timestamp", 0))
        for place, (_, event) in enumerate(left):
            if any(begun <= arrival <= ended for begun, ended in event.arrivals):
                return left.pop(place)
        rank, event = left.pop(0)
        self.faults.append(f"arrived at {arrival}, sent within {event.arrivals}: {event.id}")
        return rank, event

    def _check(self, record: Json, rank: int, event: Event) -> None:
        key = event.app, event.endpoint_id
        if rank < self._rank.get(key, -1):
            self.faults.append(f"out of order: {event.id} of {key}")
        self._rank[key] = max(rank, self._rank.get(key, -1))
        kind = event.record["event_type"]
        if kind.startswith(("_campaign.", "_journey.")):
            context = record.get("client_context", {})
            text = context.get("custom", {}).get("endpoint")
            if "endpoint" in record or not isinstance(text, str):
                self.faults.append(f"{kind}: the endpoint belongs into client_context: {record}")
                return
            self._check_endpoint(parsed(text.encode()), event)
        elif kind.startswith(("_SMS.", "_email.")) and "endpoint" not in record:
            pass
        elif "client_context" in record or not isinstance(record.get("endpoint"), dict):
            self.faults.append(f"{kind}: no endpoint: {record}")
        else:
            self._check_endpoint(record["endpoint"], event)

    def _check_endpoint(self, found: Json, event: Event) -> None:
        key = event.app, event.endpoint_id
        created = found.get("CreationDate", "")
        first = self._created.setdefault(key, created)
        begun, ended = self.account.endpoints[key].created or (0, 0)
        wrong = {
            "ApplicationId": found.get("ApplicationId") != event.app,
            "Id": found.get("Id") != event.endpoint_id,
            "CohortId": found.get("CohortId") != str(zlib.crc32(event.endpoint_id.encode()) % 100),
            "CreationDate": not ISO.fullmatch(created)
            or first != created
            or not begun - 1 <= milliseconds(created) <= ended + 1,
        }
        self.faults += [f"{event.id}: {name}: {found}" for name, bad in wrong.items() if bad]
        rest = {key: value for key, value in found.items() if key not in BY_SERVER}
        for name, value in MAYBE_BY_SERVER.items():
            if name not in event.endpoint and value in {None, rest.get(name)}:
                rest.pop(name, None)
        given = {key: value for key, value in event.endpoint.items() if value not in (None, {})}
        rest = {key: value for key, value in rest.items() if value != {}}
        if "EffectiveDate" in given and "EffectiveDate" in rest:
            given["EffectiveDate"] = milliseconds(given["EffectiveDate"])
            rest["EffectiveDate"] = milliseconds(rest["EffectiveDate"])
        if canonical(rest) != canonical(given):
            self.faults.append(
                f"{event.id}: another endpoint\n  is     {canonical(rest)}\n"
                f"  wanted {canonical(given)}"
            )

    def verdict(self) -> Verdict:
        missing = [event for left in self._left.values() for _, event in left]
        for record in self._unknown:
            near = [e for e in missing if _near(e.record, record)]
            wanted = f"\n  wanted {canonical(near[0].record)}" if near else ""
            self.faults.append(f"nobody sent this, or not twice: {canonical(record)}{wanted}")
        self.faults += [f"missing: {e.app} {e.endpoint_id} {e.id}: {e.record}" for e in missing]
        return Verdict(self.faults, self._repeats)


def _near(wanted: Json, record: Json) -> bool:
    names = ("event_type", "client", "attributes")
    return all(canonical(wanted.get(name)) == canonical(record.get(name)) for name in names)


def _mark(record: Json) -> str:
    return canonical(record)


def canonical(value: object) -> str:
    """Return what two values share if they are the same: integers by digit, others by value."""
    return json.dumps(_spelled(value), sort_keys=True, ensure_ascii=False)


def _spelled(value: object) -> object:
    if isinstance(value, Number):
        return {"number": str(int(value)) if value.lstrip("-").isdigit() else repr(float(value))}
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"number": repr(value)}
    if isinstance(value, Mapping):
        return {key: _spelled(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_spelled(one) for one in value]
    return value

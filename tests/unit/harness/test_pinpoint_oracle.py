"""The oracle of Pinpoint's records takes golden ones, and finds each thing that may be wrong."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.wire import Exchange
from tests.pinpoint_oracle import Account, judge, milliseconds

DATA = Path(__file__).parents[2] / "data" / "pinpoint"
BEGUN, ENDED = 1_767_225_620_000, 1_767_225_620_050
CREATED = b"2026-01-01T00:00:20.010Z"


def accepted(body: bytes) -> bytes:
    """Return the answer with which everything in a body is accepted."""
    yes = {"StatusCode": 202, "Message": "Accepted"}
    results = {
        endpoint: {
            "EndpointItemResponse": yes,
            "EventsItemResponse": dict.fromkeys(item["Events"], yes),
        }
        for endpoint, item in json.loads(body)["BatchItem"].items()
    }
    return json.dumps({"Results": results}).encode()


def put_events(body: bytes, app: str = "a1b2c3", status: int = 202) -> Exchange:
    target = f"/v1/apps/{app}/events"
    return Exchange("POST", target, {}, body, status, accepted(body), BEGUN, ENDED)


def golden() -> list[bytes]:
    text = (DATA / "records.ndjson").read_bytes()
    arrival = str(BEGUN + 10).encode()
    return text.replace(b"CREATED", CREATED).replace(b"ARRIVAL", arrival).splitlines()


def account(*exchanges: Exchange) -> Account:
    found = Account("111122223333")
    for exchange in exchanges or (put_events((DATA / "request.json").read_bytes()),):
        found.enter(exchange)
    return found


def test_golden_records_are_what_the_request_gives() -> None:
    found = account()
    verdict = judge(found, found.wanted(), golden())
    assert not verdict.faults, verdict.text()
    assert 0 == verdict.repeats


def test_a_retry_is_one_event_and_may_have_arrived_at_either_time() -> None:
    body = (DATA / "request.json").read_bytes()
    later = put_events(body)
    found = account(
        Exchange(**{**vars(later), "begun_ms": BEGUN - 500, "ended_ms": BEGUN - 400}), later
    )
    verdict = judge(found, found.wanted(), golden())
    assert [] == [fault for fault in verdict.faults if "CreationDate" not in fault]


def test_what_repeats_byte_for_byte_is_counted_and_no_fault() -> None:
    found = account()
    verdict = judge(found, found.wanted(), [*golden(), golden()[1]])
    assert ([], 1) == (verdict.faults, verdict.repeats)


def test_an_event_that_was_refused_is_not_wanted() -> None:
    body = (DATA / "request.json").read_bytes()
    answer = accepted(body).replace(b'"StatusCode": 202', b'"StatusCode": 400')
    refused = Exchange(**{**vars(put_events(body)), "answer": answer})
    assert [] == account(refused).wanted()
    assert [] == account(put_events(body, status=500)).wanted()


def as_object(record: bytes) -> bytes:
    """Return a record whose client_context has an object where there is a text."""
    content = json.loads(record)
    if "client_context" in content:
        custom = content["client_context"]["custom"]
        custom["endpoint"] = json.loads(custom["endpoint"])
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()


MUTATIONS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "missing": lambda records: records[1:],
    "twice, with another arrival": lambda records: [
        *records,
        records[0].replace(
            b'"arrival_timestamp":1767225620010', b'"arrival_timestamp":1767225620011'
        ),
    ],
    "under another app": lambda records: [one.replace(b"a1b2c3", b"d4e5f6") for one in records],
    "another endpoint": lambda records: [one.replace(b"bare-1", b"bare-2") for one in records],
    "an int as a float": lambda records: [one.replace(b":2,", b":2.0,") for one in records],
    "a number as text": lambda records: [one.replace(b"9.99", b'"9.99"') for one in records],
    "another time": lambda records: [one.replace(b"5609999", b"5610000") for one in records],
    "arrived before it was sent": lambda records: [
        one.replace(b"1767225620010", b"1767225619999") for one in records
    ],
    "fields in another order": lambda records: [
        json.dumps(dict(reversed(json.loads(one).items())), separators=(",", ":")).encode()
        for one in records
    ],
    "with spaces": lambda records: [json.dumps(json.loads(one)).encode() for one in records],
    "of two lines": lambda records: [one.replace(b"{", b"{\n", 1) for one in records],
    "another cohort": lambda records: [
        one.replace(b'"CohortId":"4"', b'"CohortId":"5"') for one in records
    ],
    "without the endpoint": lambda records: [
        one.replace(b'"endpoint":', b'"Endpoint":') for one in records
    ],
    "a campaign's endpoint as an object": lambda records: [*map(as_object, records)],
    "a user's attribute lost": lambda records: [
        one.replace(b'"UserAttributes":{"name":["Zo\xc3\xab"]}', b'"UserAttributes":{}')
        for one in records
    ],
    "another country": lambda records: [one.replace(b'"AT"', b'"at"') for one in records],
    "metrics where there are none": lambda records: [
        one.replace(b'"client_context"', b'"metrics":{},"client_context"') for one in records
    ],
    "no metrics where an app's event has none": lambda records: [
        one.replace(b'"metrics":{},', b"") for one in records
    ],
    "out of order": lambda records: [records[1], records[0], *records[2:]],
    "an event that is never forwarded": lambda records: [
        *records,
        records[0].replace(b"_session.start", b"_test.event_stream"),
    ],
    "another account": lambda records: [one.replace(b"1111222", b"2222111") for one in records],
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_what_is_wrong_is_found(name: str) -> None:
    found = account()
    changed = MUTATIONS[name](golden())
    assert changed != golden()
    assert judge(found, found.wanted(), changed).faults


def test_an_endpoint_is_merged_member_by_member_and_key_by_key() -> None:
    first = {
        "Attributes": {"a": ["1"], "b": ["2"], "c": ["3"]},
        "Demographic": {"Make": "Acme", "Model": "One"},
        "User": {"UserId": "u", "UserAttributes": {"x": ["1"], "y": ["2"]}},
        "EffectiveDate": "2026-01-01T00:00:00Z",
    }
    second = {
        "Attributes": {"a": ["9"], "b": [], "c": None},
        "Demographic": {"Model": "Two"},
        "User": {"UserAttributes": {"y": ["3"]}},
        "EffectiveDate": "2026-01-02T00:00:00Z",
    }
    older = {"OptOut": "ALL", "EffectiveDate": "2026-01-01T12:00:00Z"}
    found = account(*(update(body) for body in (first, second, older)))
    assert {
        "Attributes": {"a": ["9"]},
        "Demographic": {"Make": "Acme", "Model": "Two"},
        "User": {"UserId": "u", "UserAttributes": {"x": ["1"], "y": ["3"]}},
        "EffectiveDate": "2026-01-02T00:00:00Z",
    } == found.endpoints["a1b2c3", "e 1"].given


def update(body: object) -> Exchange:
    target = "/v1/apps/a1b2c3/endpoints/e%201"
    return Exchange("PUT", target, {}, json.dumps(body).encode(), 202, b"{}", BEGUN, ENDED)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:01Z", 1000),
        ("1970-01-01T00:00:01", 1000),
        ("1970-01-01T02:00:01.5+02:00", 1500),
        ("1970-01-01T02:00:01.999999999+0200", 1999),
        ("1969-12-31T19:00:00-05", 0),
    ],
)
def test_instants_are_read_however_they_are_spelled(text: str, expected: int) -> None:
    assert expected == milliseconds(text)

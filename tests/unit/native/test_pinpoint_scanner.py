"""The native scanner against the Python decoder of Pinpoint's records: both say the same."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder import native
from forwarder.formats.contract import Scan
from forwarder.formats.pinpoint.decode import PinpointDecoder
from forwarder.model import Partition
from tests.bench import pinpoint_load
from tests.builders import START, Rec
from tests.unit.formats.pinpoint.samples import ENDPOINT, ENVELOPE, EVENT, FINISHED, compact, record

pytest.importorskip("forwarder.native._core", exc_type=ImportError)
pytestmark = pytest.mark.skipif(native.core() is None, reason="the native core is left aside")

READINGS = [
    {"sessions": sessions, "duplicates": duplicates}
    for sessions in (False, True)
    for duplicates in (False, True)
]


def decoder(**reading: bool) -> PinpointDecoder:
    made = PinpointDecoder(Partition("records", 3), **reading)
    assert made.scanner is not None
    return made


def check(values: list[bytes], **reading: bool) -> Scan:
    """Return what both make of a poll."""
    records = [Rec(7 * at, START + at, value) for at, value in enumerate(values)]
    one = decoder(**reading)
    found = one.scan(records, START, START + 3, bool)
    assert one.scan_in_python(records, START, START + 3, bool) == found
    return found


def is_read(value: bytes, **reading: bool) -> bool:
    """Tell whether the native scanner reads a value by itself; both agree on it all the same."""
    for every in READINGS:
        check([value, value], **every)
    scanner = decoder(**{"sessions": True, "duplicates": True, **reading}).scanner
    assert scanner is not None
    return scanner.read(value, 7, START, START) is not None


@pytest.mark.parametrize(
    "value",
    [
        record(),
        record(EVENT),
        record(EVENT, EVENT | {"EventId": "i-2", "Session": {"Id": "s-2"}}, EVENT),
        record({"EventType": "a"}, {}),
        record({"event_type": "b", "session": {"session_id": "s"}}),
        record({"event_type": "b", "EventType": "", "Session": {"Id": ""}}),
        record(EVENT | {"AppPackageName": None, "Session": None}),
        record(EVENT, Endpoint=ENDPOINT | {"User": {}}),
        record(EVENT, Endpoint=ENDPOINT | {"User": {"UserId": None}}),
        record(EVENT, Endpoint=ENDPOINT | {"User": "text"}),
        record(EVENT, Endpoint=None),
        record(EVENT, Endpoint="text"),
        record(EVENT, EndpointId=None),
        record({"Attributes": {"EventId": "again"}}),
        record(EVENT, EndpointId=5, ApplicationId=7),
        record(EVENT, ApplicationId=None, Other=[{"a": "\u00e9\U0001f600"}]),
        json.dumps(json.loads(record(EVENT, Endpoint=ENDPOINT)), indent=1).encode(),
    ],
)
def test_what_a_gateway_writes_is_read_natively(value: bytes) -> None:
    assert is_read(value)


def test_the_load_of_the_bench_is_read_natively() -> None:
    assert all(is_read(value) for _, value, _ in pinpoint_load.records(3, 3))


@pytest.mark.parametrize(
    "value",
    [
        compact(FINISHED),
        compact(ENVELOPE),
        b"[%b,%b]" % (record(EVENT), record(EVENT)),
        record(EVENT, EVENT | {"AppPackageName": "other"}),
        record(EVENT, {"EventType": "a"}),
        record(EVENT, Application={"AppTitle": "mine"}),
        record({"EventType": 5}),
        record({"EventType": None}),
        record({"EventType": 'a"b'}),
        record({"AppTitle": 5}),
        record({"Session": 5}),
        record({"Session": {"Id": 5}}),
        record({"Session": {"Id": "s" * 300}}),
        record({"EventId": 'i"1'}),
        record({"EventId": "i" * 300}),
        record(EVENT, EndpointId='e"1'),
        record(EVENT, ApplicationId="a" * 300),
        record(5),
        b'{"Events":[{"EventType":"a","EventType":"b"}]}',
        b'{"Events":[{"Session":{"Id":"a","Id":"b"}}]}',
        b'{"Events":[{"Event\\u0054ype":"a"}]}',
        b'{"Events":[],"Events":[]}',
        b'{"Events":[],"EndpointId":"a","EndpointId":"b"}',
        b'{"Events":null}',
        b'{"EndpointId":"a"}',
        b'{"Events":[{}],"Endpoint":{"User":{"UserId":1},"User":{}},"EndpointId":"a"}',
        b"{}",
        b"",
        b"\xff",
    ],
)
def test_what_is_odd_is_left_to_python(value: bytes) -> None:
    assert not is_read(value)


JSON = st.one_of(
    st.none(),
    st.integers(),
    st.booleans(),
    st.text(max_size=8),
    st.sampled_from(["", "x", "a\\", "y" * 300]),
)
INNER = st.one_of(
    JSON,
    st.dictionaries(st.sampled_from(["Id", "session_id", "UserId", "EventId", "n"]), JSON),
)
EVENTS = st.lists(
    st.one_of(
        st.dictionaries(
            st.sampled_from([
                "EventType", "event_type", "AppPackageName", "AppTitle", "SdkName", "EventId",
                "Session", "session", "Attributes",
            ]),
            INNER,
            max_size=5,
        ),
        JSON,
    ),
    max_size=4,
)  # fmt: skip
RECORDS = st.tuples(
    st.dictionaries(
        st.sampled_from(
            ["ApplicationId", "EndpointId", "Endpoint", "Application", "event_type", "n"]
        ),
        st.one_of(INNER, st.fixed_dictionaries({"User": INNER, "Id": JSON})),
        max_size=6,
    ),
    EVENTS,
).map(lambda drawn: {**drawn[0], "Events": drawn[1]})


@st.composite
def values(draw: Callable[..., Any]) -> bytes:
    """Return a record, sometimes damaged."""
    kinds = st.sampled_from([(",", ":"), (", ", ": ")])
    value = json.dumps(
        draw(RECORDS), ensure_ascii=draw(st.booleans()), separators=draw(kinds)
    ).encode(errors="surrogatepass")
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(value)))
        new = draw(st.sampled_from([b"", b'"', b"\\", b"}", b",", b"\xff", b"\\u0061", b"0"]))
        value = value[:at] + new + value[at + draw(st.integers(0, 3)) :]
    return value


@settings(max_examples=400)
@given(st.lists(values(), max_size=5), st.sampled_from(READINGS))
def test_both_read_the_same(drawn: list[bytes], reading: dict[str, bool]) -> None:
    check(drawn, **reading)

"""The native scanner against the Python decoder: whatever comes, both say the same."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder import native
from forwarder.formats.contract import Scan
from forwarder.formats.mparticle.decode import MParticleDecoder
from forwarder.formats.mparticle.format import MParticleInput
from forwarder.model import Partition
from tests.bench import load
from tests.builders import Rec

pytest.importorskip("forwarder.native._core", exc_type=ImportError)
pytestmark = pytest.mark.skipif(native.core() is None, reason="the native core is left aside")

NOW = 1_700_000_000_000
READINGS = [
    {"sessions": sessions, "places": places, "duplicates": duplicates, "matches": not places}
    for sessions in (False, True)
    for places in (False, True)
    for duplicates in (False, True)
]

EVENT = {
    "event_type": "custom_event",
    "data": {"event_name": "a", "session_id": 12345678, "timestamp_unixtime_ms": NOW},
}
PLACED = {
    "event_type": "screen_view",
    "data": {"location": {"latitude": 1.5}, "session_uuid": "AbC-0"},
}
CRUMBS = {"data": {"breadcrumbs": [{"data": {"event_type": "x"}}]}, "event_type": "crash_report"}
UPLOAD = {
    "mpid": -8_123_456_789_012_345_678,
    "mp_deviceid": "9d1f2c3a-5e6f-4a7b-8c9d-000000000001",
    "environment": "development",
    "api_key": "us1-0123456789abcdef",
    "application_info": {"package": "com.acme.shop", "application_version": "7.4.1"},
    "device_info": {"platform": "iOS", "ios_idfv": "4F9A", "android_uuid": None},
    "user_attributes": {"plan": "plus", "n": -1.5e-3, "list": [1, [2, {"a": "\u00e9 \U0001f600"}]]},
    "user_identities": {"customer_id": "customer-1", "email": "user@example.com"},
    "source_request_id": "0b6b1d0e-3f0c",
    "consent_state": None,
    "schema_version": 2,
}


def told_again(headers: Sequence[tuple[str, bytes | None]]) -> bool:
    """Tell whether headers say that a record was sent back."""
    return any(name == "again" for name, _ in headers)


def text(content: object, **options: object) -> bytes:
    chosen: dict[str, Any] = {"separators": (",", ":"), **options}
    return json.dumps(content, **chosen).encode()


def decoder(**reading: bool) -> MParticleDecoder:
    made = MParticleDecoder(Partition("uploads", 3), **reading)
    assert made.scanner is not None
    return made


def check(records: Sequence[Rec], **reading: bool) -> Scan:
    """Return what both make of a poll."""
    one = decoder(**reading)
    found = one.scan(records, NOW - 10, NOW + 10, told_again)
    assert one.scan_in_python(records, NOW - 10, NOW + 10, told_again) == found
    return found


def is_read(value: bytes, **reading: bool) -> bool:
    """Tell whether the native scanner reads a value by itself; both agree on it all the same."""
    for every in READINGS:
        check([Rec(7, NOW, value)], **every)
    scanner = decoder(**{"sessions": True, "places": True, **reading}).scanner
    assert scanner is not None
    return scanner.read(value, 7, NOW, NOW) is not None


def without(*names: str, **more: object) -> dict[str, object]:
    return {key: value for key, value in UPLOAD.items() if key not in names} | more


@pytest.mark.parametrize(
    "upload",
    [
        UPLOAD,
        UPLOAD | {"events": []},
        UPLOAD | {"events": None},
        UPLOAD | {"events": [EVENT]},
        {"events": [EVENT, PLACED, CRUMBS, EVENT], **UPLOAD},
        {"events": [{}]},
        {"events": [PLACED, {"data": {"custom_attributes": {"location": 1, "session_id": [{}]}}}]},
        {"events": [{"data": {"event_name": "location", "n": ["session_uuid", {"a": {}}]}}]},
        {"mpid": 1},
        without("mp_deviceid", events=[PLACED]),
        without("mpid", events=[EVENT]),
        without("mpid", "mp_deviceid", events=[EVENT]),
        without("mpid", "mp_deviceid", "device_info", events=[EVENT]),
        without("environment", "application_info", events=[EVENT]),
        UPLOAD | {"mpid": "0", "mp_deviceid": " Unknown ", "events": [EVENT]},
        UPLOAD | {"mpid": None, "environment": "", "events": [EVENT]},
        UPLOAD | {"application_info": None, "device_info": {}, "events": [EVENT]},
    ],
)
def test_what_sdks_send_is_read_natively(upload: object) -> None:
    for options in ({}, {"separators": (", ", ": ")}, {"indent": 2}):
        for plain in (True, False):
            assert is_read(text(upload, ensure_ascii=plain, **options))


def test_the_load_of_the_bench_is_read_natively() -> None:
    assert all(is_read(value) for _, value, _ in load.uploads(3, 3))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b"not json",
        b'\xef\xbb\xbf{"events":[]}',
        b'{"events":[{}]} x',
        b'{"events":[{}]',
        b'{"events":[{}],}',
        b'{"events":[{},]}',
        b'{"events":{}}',
        b'{"events":[1]}',
        b'{"events":[null]}',
        b'{"events":[{"event_type":null}]}',
        b'{"events":[{"event_type":"\\u0061"}]}',
        b'{"events":[{"data":{"a\\u0062":"\\u0061"}}]}',
        b'{"events":[{"event_type":"a","event_type":"b"}]}',
        b'{"events":[{"data":{"location":1,"location":2}}]}',
        b'{"events":[{"data":{"location":1},"data":{}}]}',
        b'{"events":[{"data":{"loc\\u0061tion":1}}]}',
        b'{"events":[{"data":{"a":{"location":1,"b":[{"c":1,"c":2}]}}}]}',
        b'{"events":[{"data":{"a":{"location":' + b"1" * 4400 + b"}}}]}",
        b'{"events":[{"data":{"session_id":1,"session_id":2}}]}',
        b'{"events":[{"data":5}]}',
        b'{"events":[],"events":[{}]}',
        b'{"events":[],"mpid":1,"mpid":2}',
        b'{"events":[],"mp\\u0069d":1}',
        b'{"events":[],"a":01}',
        b'{"events":[],"a":NaN}',
        b'{"events":[],"a":+1}',
        b'{"events":[],"a":1.}',
        b'{"events":[],"a":"\x01"}',
        b'{"events":[],"a":"\xff"}',
        b'{"events":[],"a":"\\ud800"}',
        b'{"events":[],"a":"\\udc00\\ud800"}',
        b'{"events":[],"a":"\\\\ud83d\\ude00"}',
        b'{"events":[],"a":"\\x"}',
        b'{"events":[],"mpid":"\\u0031"}',
        '{"events":[],"mpid":"un\u212anown"}'.encode(),
        b'{"events":[],"mpid":"' + b"9" * 300 + b'"}',
        b'{"events":[],"mpid":' + b"9" * 300 + b"}",
        b'{"events":[],"environment":5}',
        b'{"events":[],"application_info":{"package":5}}',
        b'{"events":[],"application_info":{"package":"a","package":"b"}}',
        b'{"events":[],"device_info":{"ios_idfv":"aaaa","ios_idfv":"bbbb"}}',
        b'{"events":[],"device_info":"\\u001f"}',
        b'{"event_type":"a","data":{},"mpid":1}',
        b'{"mpid":1,"batch":{}}',
        b'[{"events":[{}]},{"events":[{}]}]',
        b'{"events":[],"a":' + b"[" * 100 + b"]" * 100 + b"}",
    ],
)
def test_what_is_odd_is_left_to_python(value: bytes) -> None:
    assert not is_read(value, duplicates=True)


def test_a_poll_is_read_in_order() -> None:
    good, bad = text(UPLOAD | {"events": [EVENT]}), b"{"
    several = text([UPLOAD | {"events": [PLACED]}, UPLOAD])
    one = text([UPLOAD | {"events": [{"event_type": "odd"}]}])
    values = [good, None, bad, good, several, one, good]
    records = [Rec(10 + at, NOW + 3 * at - 8, value) for at, value in enumerate(values)]
    records.append(Rec(20, NOW + 99, good, (("again", b"1"),)))
    records.append(Rec(21, NOW + 99, good, (("other", None),)))
    for reading in READINGS:
        found = check(records, **reading)
        assert [1, 2, 4, 7] == [odd.index for odd in found.odd]
        assert [1, 1, 2, 4] == [odd.before for odd in found.odd]
        assert ({"custom_event", "odd"}, NOW + 10) == (found.types, found.clock)
    assert Scan([], [], NOW - 10, set(), governed=False) == check([], **READINGS[0])


def test_what_is_remembered_changes_nothing() -> None:
    one = decoder(**READINGS[-1])
    values = [
        text(
            UPLOAD
            | {"mpid": n % 7, f"key-{n % 2000}": n, "events": [{"event_type": f"t{n % 3000}"}]}
        )
        for n in range(5000)
    ]
    records = [Rec(n, NOW, value) for n, value in enumerate(values)]
    for _ in range(2):
        assert one.scan_in_python(records, NOW, NOW, told_again) == one.scan(
            records, NOW, NOW, told_again
        )


def test_one_shape_stands_for_equal_keys() -> None:
    one = decoder(sessions=False, places=False)
    records = [Rec(n, NOW, text(UPLOAD | {"mpid": n})) for n in (1, 2)]
    first, second = one.scan(records, NOW, NOW, told_again).uploads
    assert first.shape is second.shape is one.shape(first.context)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"api_key": None},
        {"api_key": 5, "device_info": None},
        {"device_info": {"platform": ""}},
        {"device_info": {"platform": 7}, "api_keys": ["a", 1]},
        {"api_keys": {"a": 1}},
    ],
)
def test_what_a_match_compares_is_told_at_once_or_read_later(more: dict[str, object]) -> None:
    reading = {"sessions": False, "places": False}
    told, later = (decoder(**reading, matches=matches) for matches in (True, False))
    records = [Rec(1, NOW, text(UPLOAD | more))]
    [one], [other] = (made.scan(records, NOW, NOW, told_again).uploads for made in (told, later))
    assert one.platform is not None
    assert one.api_keys is not None
    assert (None, None) == (other.platform, other.api_keys)
    form = MParticleInput()
    assert form.platform(one) == form.platform(other) == one.platform
    assert form.api_keys(one) == form.api_keys(other) == one.api_keys


IDS = st.one_of(
    st.none(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.text(max_size=20),
    st.sampled_from(
        ["", "0", "0000-0000", "null", " N/A", "0.0e5", "-1", "-0", "Unknown", "x" * 300]
    ),
)
KEYS = st.sampled_from([
    "mpid", "mp_deviceid", "environment", "application_info", "device_info", "user_identities",
    "source_request_id", "api_key", "api_keys", "user_attributes", "consent_state", "data", "batch",
    "event_type", "other", "\u00e9", 'a"b', "",
])  # fmt: skip
INNER = st.sampled_from(["package", "ios_idfv", "android_uuid", "platform", "build_id", "a", "1"])
VALUES = st.one_of(IDS, st.dictionaries(INNER, IDS, max_size=4), st.lists(IDS, max_size=3))
DATA = st.dictionaries(
    st.sampled_from(["session_id", "session_uuid", "location", "breadcrumbs", "event_name", "n"]),
    VALUES,
    max_size=4,
)
EVENTS = st.one_of(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "event_type": st.sampled_from(["a", "session_start", "\u00e9", "", "b\\"]),
                "data": st.one_of(DATA, DATA, DATA, IDS),
                "x": VALUES,
            },
        ),
        max_size=4,
    ),
    IDS,
)
UPLOADS = st.tuples(st.dictionaries(KEYS, VALUES, max_size=8), EVENTS, st.booleans()).map(
    lambda drawn: {**drawn[0], "events": drawn[1]} if drawn[2] else drawn[0]
)


@st.composite
def values(draw: Callable[..., Any]) -> bytes:
    """Return a record: mostly an upload, sometimes damaged."""
    value = text(
        draw(UPLOADS),
        ensure_ascii=draw(st.booleans()),
        separators=draw(st.sampled_from([(",", ":"), (", ", ": "), ("\n,\t", " :\r")])),
    )
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(value)))
        gone = draw(st.integers(0, 3))
        new = draw(
            st.sampled_from([b"", b'"', b"\\", b"}", b",", b"\xff", b"\x00", b"\\u0061", b"0"])
        )
        value = value[:at] + new + value[at + gone :]
    return value


@settings(max_examples=400)
@given(st.lists(values(), max_size=5), st.sampled_from(READINGS), st.data())
def test_both_read_the_same(
    drawn: list[bytes], reading: dict[str, bool], data: st.DataObject
) -> None:
    times = data.draw(st.lists(st.integers(NOW - 20, NOW + 20), min_size=5, max_size=5))
    check(
        [Rec(n, time, one) for n, (one, time) in enumerate(zip(drawn, times, strict=False))],
        **reading,
    )

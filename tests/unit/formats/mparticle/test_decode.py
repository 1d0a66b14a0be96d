"""What is an upload, whose it is, and that nothing odd gets through or gets lost."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from forwarder.formats import rawjson
from forwarder.formats.contract import Reject, Upload
from forwarder.formats.mparticle.decode import MParticleDecoder
from forwarder.model import Reason
from tests import builders, oracle
from tests.builders import PARTITION, encoded, event, upload


def decode(value: object, *, offset: int = 7) -> list[Upload] | Reject:
    """Decode with everything asked for."""
    decoder = MParticleDecoder(PARTITION, sessions=True, places=True)
    return decoder.decode(encoded(value), offset, 1000, 1000)


def uploads(value: object) -> list[Upload]:
    """Decode what has to be accepted."""
    found = decode(value)
    assert not isinstance(found, Reject), found
    return found


def device(**context: object) -> bytes:
    """Return the device key of an upload with this context."""
    return uploads({"events": [], **context})[0].device


def owner(**context: object) -> bytes:
    """Return what the windows of an upload with this context are keyed by."""
    return uploads({"events": [], **context})[0].owner


@pytest.mark.parametrize(
    ("reason", "value"),
    [
        (Reason.INVALID_JSON, b""),
        (Reason.INVALID_JSON, b"{"),
        (Reason.INVALID_JSON, b'{"events":[]} x'),
        (Reason.INVALID_JSON, b'{"events":[],"ip":01}'),
        (Reason.INVALID_JSON, b'{"events":[],"ip":"\x01"}'),
        (Reason.INVALID_JSON, b'{"events":[],"ip":"\\x"}'),
        (Reason.INVALID_JSON, b'{"events":[],"ip":"\\ud800\\x"}'),
        (Reason.INVALID_JSON, b'{"events":[],"ip":["\\ud800",NaN]}'),
        (Reason.INVALID_JSON, b'{"ip":' + b"[" * 5000 + b"]" * 5000 + b"}"),
        (Reason.INVALID_UTF8, b'{"events":[],"ip":"\xff"}'),
        (Reason.INVALID_UTF8, b'{"events":[],"ip":"\xed\xa0\x80"}'),
        (Reason.NOT_AN_UPLOAD, b"5"),
        (Reason.NOT_AN_UPLOAD, b"null"),
        (Reason.NOT_AN_UPLOAD, b"[]"),
        (Reason.NOT_AN_UPLOAD, b"{}"),
        (Reason.NOT_AN_UPLOAD, b'{"hello":"\\ud800"}'),
        (Reason.NOT_AN_UPLOAD, {"hello": 1}),
        (Reason.NOT_AN_UPLOAD, event()),
        (Reason.NOT_AN_UPLOAD, {"events": {}}),
        (Reason.NOT_AN_UPLOAD, {"events": "x"}),
        (Reason.NOT_AN_UPLOAD, {"events": [event(), 5]}),
        (Reason.NOT_AN_UPLOAD, {"events": [None]}),
        (Reason.NOT_AN_UPLOAD, [upload(event()), 5]),
        (Reason.NOT_AN_UPLOAD, [upload(event()), {"hello": 1}]),
    ],
)
def test_what_is_no_upload_is_rejected_as_a_whole(reason: Reason, value: object) -> None:
    found = decode(value)
    assert isinstance(found, Reject)
    assert reason == found.reason
    assert "\n" not in found.error


@pytest.mark.parametrize(
    ("types", "value"),
    [
        ([], {"events": None, "mpid": 1}),
        ([], {"mpid": 1}),
        ([], b'{"events": [ ] }'),
        (["custom_event"], b' { "events" : [ {"event_type":"custom_event"} ] } '),
        ([""], {"events": [{}]}),
        (["", "profile"], {"events": [{"event_type": 3}, event("profile")]}),
        (["profile"], {"events": [{"event_type": "profile", "data": None}]}),
        (["profile"], {"events": [{"event_type": "profile", "data": [1]}]}),
        ([""], {"events": [{"event_type": None, "data": {"location": 5}}]}),
        (["x\u0000y"], {"events": [{"event_type": "x\u0000y", "data": {}}]}),
        (["a"], b'{"events":[{"event_type":"a","data":{"t":"cut \\ud83d"}}]}'),
        (["a"], b'{"events":[{"event_type":"b","event_type":"a"}]}'),
        (["a"], b'{"events":[{"event\\u005ftype":"a"}]}'),
    ],
)
def test_odd_events_are_accepted_with_the_type_they_name(types: list[str], value: object) -> None:
    assert [types] == [one.types for one in uploads(value)]


def test_events_of_an_array_of_uploads_are_numbered_through() -> None:
    found = uploads([upload(event(), event()), upload(), {"mpid": 1}, upload(event())])
    assert [0, 2, 3, 4] == [one.start for one in found]


@pytest.mark.parametrize(
    "places",
    [
        b'{"location":{"latitude":1}}',
        b'{"loc\\u0061tion":1}',
        b'{"location":null}',
        b'{"breadcrumbs":[]}',
        b'{"location":"\\udc00"}',
    ],
)
def test_every_spelling_of_a_governed_field_is_seen(places: bytes) -> None:
    value = b'{"events":[{"event_type":"a","data":{}},{"event_type":"a","data":%b}]}' % places
    assert [1] == uploads(value)[0].governed


def test_a_session_is_named_by_its_id_else_by_its_uuid() -> None:
    value = upload(
        event(session_uuid="U", session_id=5),
        event(session_id=-5),
        event(session_uuid=None, session_id="5"),
        event(session_uuid="Ab"),
        event(session_uuid="aB", session_id=None),
        event(session_uuid=""),
        event(),
    )
    assert [b'"5"', b'"-5"', b'"5"', b'"ab"', b'"ab"', b"", b""] == uploads(value)[0].sessions


@pytest.mark.parametrize(
    "none", [0, -1, "0", "-1", "", None, " ", "null", 0.0, "000", [], {}, True]
)
def test_what_means_none_names_no_session(none: object) -> None:
    value = upload(event(session_id=none), event(session_id=none, session_uuid=none))
    assert [b"", b""] == uploads(value)[0].sessions
    named = upload(event(session_id=none, session_uuid="u"), event(session_id=7, session_uuid=none))
    assert [b'"u"', b'"7"'] == uploads(named)[0].sessions


def test_the_device_key_holds_app_environment_device_and_user() -> None:
    keys = [
        device(mp_deviceid="d", mpid=1),
        device(mp_deviceid="d", mpid=2),
        device(mp_deviceid="e", mpid=1),
        device(mp_deviceid="d"),
        device(mpid=1),
        device(mp_deviceid="d", mpid=1, environment="development"),
        device(mp_deviceid="d", mpid=1, application_info={"package": "p"}),
        device(mp_deviceid='d","1', mpid=""),
        device(device_info={"amp_id": "d,1"}),
    ]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"mpid": 42}, {"mpid": "42"}),
        ({"mpid": -(2**63)}, {"mpid": str(-(2**63))}),
        ({"mpid": 1}, {"mpid": 1, "environment": "production"}),
        ({"mpid": 1}, {"mpid": 1, "environment": None, "mp_deviceid": None}),
        ({"mpid": 1}, {"mpid": 1, "application_info": {"package": None}}),
        ({"mp_deviceid": "x"}, {"device_info": {"ios_idfv": "x", "ios_advertising_id": "y"}}),
        ({"mp_deviceid": "x"}, {"device_info": {"android_uuid": None, "amp_id": "x"}}),
        ({"mp_deviceid": "x"}, {"mp_deviceid": "x", "device_info": {"ios_idfv": "y"}}),
        ({"mp_deviceid": "é"}, b'{"mp_deviceid":"\\u00e9"}'),
        ({"mp_deviceid": "a/b"}, b'{"mp_deviceid":"a\\/b"}'),
    ],
)
def test_equal_names_in_other_spellings_are_one_device(one: Any, other: Any) -> None:  # noqa: ANN401
    assert uploads(one)[0].device == uploads(other)[0].device


def test_an_upload_without_device_and_user_is_its_own_key() -> None:
    bare = {"events": [], "ip": "10.0.0.1"}
    anonymous = encoded([bare, {**bare, "mp_deviceid": "", "mpid": None}])
    decoder = MParticleDecoder(PARTITION, sessions=False, places=False)
    keys = []
    for offset in (1, 2, 12):
        found = decoder.decode(anonymous, offset, 0, 0)
        assert not isinstance(found, Reject)
        keys += [one.device for one in found]
    assert 6 == len(set(keys))


@pytest.mark.parametrize("name", sorted(p.name for p in builders.DATA.glob("*.json")))
def test_real_samples_are_what_they_are(name: str) -> None:
    found = decode((builders.DATA / name).read_bytes())
    assert name.startswith("14_") == (not isinstance(found, Reject))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-1e300, 1e300) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
_FRAGMENTS = st.sampled_from(
    [b'"', b"\\", b"\\u", b"\\ud83d", b"\\udc00", b"d8", b"{", b"}", b"[", b"]", b",", b":", b"1",
     b"-", b".", b"e", b"+", b"0", b"null", b"true", b"NaN", b" ", b"\x00", b"\x7f", b"\xc3",
     b"\xa9", b"\xff", b'"events"', b'"event_type"', b'"data"', b"location", b"\n"]
)  # fmt: skip


@settings(max_examples=1500, deadline=None)
@given(st.lists(_FRAGMENTS, max_size=14).map(b"".join))
@example(b'"\\ud83d\\ude00\\ud83d"')
@example(b'"\\ud800","ip":{"\\udc00":1}')
def test_only_valid_json_is_accepted_and_all_of_it(fragment: bytes) -> None:
    value = b'{"mpid":1,"x":%b}' % fragment
    expected = oracle.uploads_of(value)
    found = decode(value)
    assert isinstance(found, Reject) == (expected is None)
    if expected is not None and not isinstance(found, Reject):
        context = {k: v for k, v in expected[0].items() if v is not None and k != "events"}
        assert context == oracle.exact(found[0].context)


@settings(max_examples=400, deadline=None)
@given(_JSON, _JSON, st.booleans())
def test_values_of_any_kind_keep_every_byte(one: object, other: object, ascii_only: bool) -> None:  # noqa: FBT001
    body = json.dumps({"event_type": one, "data": other}, ensure_ascii=ascii_only)
    value = f'{{"mpid":1,"events":[{body}],"sdk_version":[{body}]}}'.encode()
    found = uploads(value)[0]
    assert body.encode() == found.body
    assert b'{"mpid":1,"sdk_version":[%b]}' % body.encode() == found.context


@given(st.dictionaries(st.text(max_size=3), _JSON))
def test_the_slow_way_through_json_gives_the_same_as_the_fast_one(content: Any) -> None:  # noqa: ANN401
    plain = encoded(content)
    marked = plain[:-1] + (b"," if content else b"") + b'"zzzz":"\\ud800"}'
    fast = {key: bytes(raw) for key, raw in rawjson.fields(plain).items()}
    slow = {key: bytes(raw) for key, raw in rawjson.fields(marked).items()}
    assert {**fast, "zzzz": b'"\\ud800"'} == slow


def test_a_number_of_any_length_keeps_its_digits() -> None:
    digits = b"-" + b"123456789" * 1000 + b".250e+10"
    found = uploads(b'{"mpid":1,"sdk_version":%b,"ip":"\\ud800"}' % digits)[0]
    assert digits in found.context


@pytest.mark.parametrize("depth", range(640, 1000, 40))
def test_nesting_that_decode_accepts_never_stops_a_later_stage(depth: int) -> None:
    nested = "[" * depth + "]" * depth
    value = f'{{"mpid":1,"events":[{{"event_type":"a","data":{{"location":1,"x":{nested}}}}}]}}'
    chosen = builders.connection(include_location_information=False, int64_as_string=True)
    out = builders.run(chosen, builders.records(value.encode()))
    assert 1 == len(out.batches) + len(out.dead_letters)

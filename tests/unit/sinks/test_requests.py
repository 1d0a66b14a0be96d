import base64
import json
from dataclasses import replace
from itertools import pairwise

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forwarder import native
from forwarder.config.targets import KinesisTarget, PartitionKey
from forwarder.sinks import requests
from forwarder.sinks.kinesis import LIMITS
from tests.services.fake_kinesis import batch

texts = st.text(st.characters(codec="utf-8"))
MIB = 1024 * 1024
PLAIN = bytes(set(range(32, 127)) - set(b'"\\'))
"""What JSON does not escape, and is a character to a byte."""


def of(rule: PartitionKey, name: str = "acme") -> KinesisTarget:
    return KinesisTarget(name, "eu-west-1", partition_key=rule)


def address(name: str) -> bytes:
    return requests.stream_parameter(of(PartitionKey.DEVICE, name))


def entry(
    payload: bytes, mpid: str = "", rule: PartitionKey = PartitionKey.MPID
) -> requests.RequestRecord:
    return requests.kinesis_record(batch(1, payload, mpid), of(rule))


def sized(size: int) -> requests.RequestRecord:
    return msgspec.structs.replace(entry(b""), size=size)


@pytest.mark.parametrize(
    ("expected", "rule", "mpid"),
    [
        ("0" * 31 + "1", PartitionKey.DEVICE, "42"),
        ("42", PartitionKey.MPID, "42"),
        ("-9007199254740993", PartitionKey.MPID, "-9007199254740993"),
        ("0" * 31 + "1", PartitionKey.MPID, ""),
        ("ü" * 256, PartitionKey.MPID, "ü" * 256),
        ("0" * 31 + "1", PartitionKey.MPID, "9" * 257),
        ("00000000-0000-0000-0000-000000000001", PartitionKey.BATCH, "42"),
    ],
)
def test_the_partition_key_follows_the_setting(
    expected: str, rule: PartitionKey, mpid: str
) -> None:
    assert requests.partition_key(batch(1, mpid=mpid), rule) == expected
    assert (
        json.loads(requests.kinesis_record(batch(1, mpid=mpid), of(rule)).partition_key_json)
        == expected
    )


def test_a_key_that_is_no_text_gives_way_to_the_device() -> None:
    assert json.loads(entry(b"", mpid="\ud800").partition_key_json) == "0" * 31 + "1"


def test_a_record_counts_its_data_and_its_key() -> None:
    assert entry(b"x" * 1000).size == 1000 + 32
    assert entry(b"x" * 1000, rule=PartitionKey.BATCH).size == 1000 + 36


@given(texts, st.lists(st.tuples(st.binary(), texts), min_size=1))
def test_a_request_of_many_is_what_json_makes_of_it(
    stream: str, records: list[tuple[bytes, str]]
) -> None:
    entries = [entry(payload, mpid) for payload, mpid in records]
    body = json.loads(requests.put_records(address(stream), entries))
    assert body["StreamName"] == stream
    assert [set(record) for record in body["Records"]] == [{"PartitionKey", "Data"}] * len(records)
    assert [payload for payload, _ in records] == [
        base64.b64decode(record["Data"], validate=True) for record in body["Records"]
    ]
    assert [key_of(mpid) for _, mpid in records] == [
        record["PartitionKey"] for record in body["Records"]
    ]


@given(texts, st.binary(), texts, st.none() | st.from_regex(r"[0-9]{1,128}", fullmatch=True))
def test_a_request_of_one_is_what_json_makes_of_it(
    stream: str, payload: bytes, mpid: str, after: str | None
) -> None:
    body = json.loads(requests.put_record(address(stream), entry(payload, mpid), after))
    expected = {
        "StreamName": stream,
        "PartitionKey": key_of(mpid),
        "Data": base64.b64encode(payload).decode(),
    }
    if after is not None:
        expected["SequenceNumberForOrdering"] = after
    assert body == expected


@given(texts, st.lists(st.binary(), min_size=1))
def test_a_request_of_lines_is_what_json_makes_of_it(stream: str, payloads: list[bytes]) -> None:
    lines = [requests.firehose_record(batch(1, payload)) for payload in payloads]
    body = json.loads(requests.put_record_batch(stream, lines))
    sent = [base64.b64decode(record.pop("Data"), validate=True) for record in body["Records"]]
    assert {"DeliveryStreamName": stream, "Records": [{}] * len(payloads)} == body
    assert [requests.without_line_breaks(payload) + b"\n" for payload in payloads] == sent
    assert [len(line) for line in sent] == [line.size for line in lines]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_values, st.sampled_from([None, 2, "\t"]), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_a_document_on_one_line_is_the_same_document(
    document: object, indent: int | str | None, end: bytes
) -> None:
    text = json.dumps(document, indent=indent).encode().replace(b"\n", end)
    line = requests.without_line_breaks(text)
    assert document == json.loads(line)
    assert len(text) == len(line)
    assert not {10, 13} & set(line)
    assert line is text or {10, 13} & set(text)


KEYS = st.text("0123456789-", max_size=20) | st.text(max_size=300) | st.just("9" * 257)
PAYLOADS = st.binary(max_size=70) | st.from_regex(r"[a\n\r]{0,90}", fullmatch=True).map(str.encode)
BATCHES = st.lists(st.tuples(PAYLOADS, KEYS), min_size=1, max_size=8)
FEW = requests.RequestLimits(records=6, size=300)


@pytest.fixture(params=["python", "native"])
def core(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make requests by one core after the other, as far as they are built."""
    if request.param == "python":
        monkeypatch.setattr(native, "core", lambda: None)
    elif native.core() is None:
        pytest.skip("the native core is not built")
    name: str = request.param
    return name


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(BATCHES, st.sampled_from(PartitionKey), st.sampled_from([1024, 60]), st.booleans())
def test_a_whole_put_is_the_request_that_its_records_make(
    core: str,
    rows: list[tuple[bytes, str]],
    rule: PartitionKey,
    most: int,
    newline: bool,  # noqa: FBT001  # as Hypothesis gives it
) -> None:
    target = replace(of(rule), newline=newline, max_record_bytes=most)
    batches = [batch(number, *row) for number, row in enumerate(rows)]
    records = [requests.kinesis_record(one, target) for one in batches]
    cut = list(requests.split_requests(records, FEW))
    body = requests.WholePut(target, FEW).body(batches)
    if body is not None:
        assert [records] == cut
        assert requests.put_records(requests.stream_parameter(target), records) == body
    else:
        odd = any(one.partition_key_json[1:-1].strip(PLAIN) for one in records)
        by_records = core == "python" and (newline or rule is not PartitionKey.DEVICE)
        assert len(cut) > 1 or odd or by_records


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PAYLOADS, min_size=1, max_size=8))
def test_lines_of_a_whole_put_are_the_request_that_their_records_make(
    core: str, payloads: list[bytes]
) -> None:
    batches = [batch(1, payload) for payload in payloads]
    records = [requests.firehose_record(one) for one in batches]
    cut = list(requests.split_requests(records, FEW))
    body = requests.WholeLines("acme", FEW).body(batches)
    if body is not None:
        assert ([records], requests.put_record_batch("acme", records)) == (cut, body)
    else:
        assert len(cut) > 1 or core == "python"


def key_of(mpid: str) -> str:
    return mpid if 0 < len(mpid) <= 256 else "0" * 31 + "1"


@given(st.lists(st.integers(33, 6 * MIB), max_size=1200))
def test_requests_keep_both_limits_and_every_record_in_order(sizes: list[int]) -> None:
    entries = [sized(size) for size in sizes]
    cut = list(requests.split_requests(entries, LIMITS))
    assert [one for request in cut for one in request] == entries
    for request in cut:
        assert 0 < len(request) <= 500
        assert len(request) == 1 or sum(one.size for one in request) <= 5 * MIB


@given(st.lists(st.integers(33, 6 * MIB), min_size=1, max_size=1200))
def test_requests_are_filled(sizes: list[int]) -> None:
    cut = list(requests.split_requests([sized(size) for size in sizes], LIMITS))
    for request, following in pairwise(cut):
        more = sum(one.size for one in request) + following[0].size
        assert len(request) == 500 or more > 5 * MIB


def test_a_request_holds_500_records_and_no_more() -> None:
    cut = requests.split_requests([sized(100)] * 1001, LIMITS)
    assert [len(request) for request in cut] == [500, 500, 1]


def test_a_request_holds_5_mebibytes_and_no_more() -> None:
    records = [sized(MIB)] * 5 + [sized(1)] + [sized(9 * MIB)] + [sized(1)]
    cut = requests.split_requests(records, LIMITS)
    assert [len(request) for request in cut] == [5, 1, 1, 1]


def test_nothing_needs_no_request() -> None:
    assert list(requests.split_requests([], LIMITS)) == []


ARN = "arn:aws:kinesis:eu-west-1:111122223333:stream/acme"


def test_a_stream_given_by_its_arn_is_named_by_it() -> None:
    target = KinesisTarget(ARN, "eu-west-1")
    for body in (
        requests.put_records(requests.stream_parameter(target), [entry(b"x")]),
        requests.put_record(requests.stream_parameter(target), entry(b"x"), None),
    ):
        assert ARN == json.loads(body)["StreamARN"]
        assert "StreamName" not in json.loads(body)


def test_with_newline_a_document_is_one_line_and_its_end_counts() -> None:
    target = KinesisTarget("acme", "eu-west-1", newline=True)
    one = requests.kinesis_record(batch(1, b'{\n "a": 1\r\n}'), target)
    assert b'{  "a": 1  }\n' == one.data
    assert len(one.data) + 32 == one.size


def test_a_document_that_filled_a_record_before_goes_without_its_line_end() -> None:
    target = KinesisTarget("acme", "eu-west-1", max_record_bytes=1024, newline=True)
    full = b"x" * (1024 - 32)
    assert full == requests.kinesis_record(batch(1, full), target).data
    assert full[1:] + b"\n" == requests.kinesis_record(batch(1, full[1:]), target).data

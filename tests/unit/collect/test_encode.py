"""Documents: their bytes, their ids, and how they are split to fit a record exactly."""

import json
import re
import uuid
from typing import Any

import pytest

from forwarder.collect.pipeline import Pipeline
from forwarder.config import targets
from forwarder.config.connection import Batching, Connection
from forwarder.config.targets import FileTarget, KinesisTarget, PartitionKey
from forwarder.formats.mparticle import document, event_filter
from forwarder.model import Batch, DeadLetter, Partition, Reason
from tests import builders, oracle
from tests.builders import NOW, PARTITION, Json, Rec, connection, event, records, upload

ZEROS = "0" * 36


def kinesis(limit: int, key: PartitionKey = PartitionKey.DEVICE) -> KinesisTarget:
    """Return a stream whose records may have ``limit`` bytes, partition key included."""
    return KinesisTarget("s", "us-east-1", partition_key=key, max_record_bytes=limit)


def batches(chosen: Connection, *uploads: object) -> list[Batch]:
    """Return the batches of these uploads."""
    return builders.run(chosen, records(*uploads)).batches


def one(chosen: Connection, *uploads: object) -> Batch:
    """Return the only batch of these uploads."""
    (batch,) = batches(chosen, *uploads)
    return batch


def test_a_document_is_laid_out_in_the_order_decided() -> None:
    batch = one(connection(unique_id="u"), b'{"ip":"1","events":[ {"a" : 1.0} ],"mpid":7,"x":{}}')
    number = json.loads(batch.payload)["batch_id"]
    expected = (
        f'{{"events":[{{"a" : 1.0}}],"message_id":"{batch.id}","message_type":"events",'
        f'"schema_version":2,"batch_id":{number},"timestamp_unixtime_ms":{builders.START},'
        '"unique_id":"u","ip":"1","mpid":7,"x":{},"system_notifications":[]}'
    )
    assert expected.encode() == batch.payload


def test_a_document_without_context_is_valid() -> None:
    batch = one(connection(include_system_notifications=False), upload(event()))
    assert batch.payload.endswith(b'"timestamp_unixtime_ms":%d}' % builders.START)
    assert 1 == len(json.loads(batch.payload)["events"])


def test_a_batch_says_where_it_came_from() -> None:
    batch = one(connection(), upload(event(), mpid=-5), upload(event(), event(), mpid="-5"))
    assert ((0, 0), (1, 1), 3) == (batch.first, batch.last, batch.count)
    assert (NOW, builders.START + 1000) == (batch.closed_at, batch.record_ms)
    assert ("-5", "lane") == (batch.mpid, batch.lane)
    assert batch.key == batch.window_key
    assert 16 == len(batch.key)


@pytest.mark.parametrize(
    ("expected", "mpid"),
    [("42", 42), ("42", "42"), ("é", "é"), ("", None), ("", {"a": 1}), ("", [1])],
)
def test_the_mpid_of_a_batch_is_plain_text(expected: str, mpid: object) -> None:
    assert expected == one(connection(), upload(event(), mpid=mpid)).mpid


def run_at(partition: Partition, chosen: Connection, fed: list[Rec], now: int = NOW) -> Batch:
    """Return the only batch of records of some partition."""
    pipeline = Pipeline(partition, builders.lane_set(chosen))
    pipeline.collect(fed, now)
    (batch,) = pipeline.finish(now).batches
    return batch


def test_the_same_events_give_the_same_bytes_whenever_they_close() -> None:
    fed = records(upload(event()))
    first = run_at(PARTITION, connection(), fed)
    again = run_at(PARTITION, connection(), fed, NOW + 5)
    assert first.payload == again.payload
    assert first.id == again.id
    assert first.closed_at + 5 == again.closed_at


def test_an_id_depends_on_everything_that_makes_the_content() -> None:
    fed = records(upload(event()))
    found = [
        run_at(PARTITION, connection(), fed),
        run_at(Partition("raw-events", 4), connection(), fed),
        run_at(Partition("other", 3), connection(), fed),
        run_at(PARTITION, connection("other"), fed),
        run_at(PARTITION, connection(unique_id="u"), fed),
        run_at(PARTITION, connection(), records(upload(event(), device="d2"))),
        run_at(PARTITION, connection(), records(upload(event()), start=1)),
        run_at(PARTITION, connection(), records(upload(event(), event()))),
        run_at(PARTITION, connection(), records(upload(event()), at=builders.START + 1)),
    ]
    assert len(found) == len({batch.id for batch in found})
    numbers = [json.loads(batch.payload)["batch_id"] for batch in found]
    assert len(found) == len(set(numbers))


def test_an_id_changes_with_the_version_of_the_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    before = one(connection(), upload(event())).id
    monkeypatch.setattr(document, "ENCODER_VERSION", 99)
    assert before != one(connection(), upload(event())).id


def test_ids_are_well_formed() -> None:
    for batch in batches(connection(send_as_batch=False), *(upload(event()) for _ in range(50))):
        assert 8 == uuid.UUID(batch.id).version
        assert uuid.RFC_4122 == uuid.UUID(batch.id).variant
        number = json.loads(batch.payload)["batch_id"]
        assert 10**18 <= number < 2**63


@pytest.mark.parametrize(
    ("key", "mpid", "size"),
    [
        (PartitionKey.DEVICE, 5, 32),
        (PartitionKey.BATCH, 5, 36),
        (PartitionKey.MPID, -(2**63), 20),
        (PartitionKey.MPID, "éé", 4),
        (PartitionKey.MPID, "m" * 256, 256),
        (PartitionKey.MPID, "m" * 257, 32),
        (PartitionKey.MPID, None, 32),
    ],
)
@pytest.mark.parametrize("settings", [{}, {"int64_as_string": True, "unique_id": "é"}])
def test_a_record_of_exactly_the_limit_is_not_split_and_one_byte_more_is(
    key: PartitionKey, mpid: object, size: int, settings: dict[str, Any]
) -> None:
    fed = [upload(event(n=n), event(t="é" * n), mpid=mpid, ip="1") for n in range(5)]
    whole = one(connection(**settings), *fed)
    exact = len(whole.payload) + size
    fits = one(connection(sink=kinesis(exact, key), **settings), *fed)
    assert len(whole.payload) == len(fits.payload)
    parts = batches(connection(sink=kinesis(exact - 1, key), **settings), *fed)
    assert [9, 1] == [part.count for part in parts]
    assert all(len(part.payload) + size <= exact - 1 for part in parts)


def test_parts_carry_the_whole_context_and_ids_of_their_own() -> None:
    fed = [upload(event(n=n), ip=str(n), system_notifications=[n]) for n in range(6)]
    parts = batches(connection(sink=kinesis(450)), *fed)
    documents = builders.documents(parts)
    assert 1 < len(parts) == len({part.id for part in parts})
    assert [n for d in documents for n in d["system_notifications"]] == [*range(6)] * len(parts)
    assert {(builders.START + 5000, "5")} == {
        (d["timestamp_unixtime_ms"], d["ip"]) for d in documents
    }
    assert [*range(6)] == [e["data"]["n"] for d in documents for e in d["events"]]


def test_an_event_of_exactly_the_limit_goes_alone_and_a_larger_one_is_a_dead_letter() -> None:
    big = event(t="x" * 500)
    said: Json = {"api_key": "k", "user_identities": {"email": "e"}}
    fed = [upload(event(n=1), mpid=1), upload(big, mpid=1, **said), upload(event(n=2), mpid=1)]
    alone = one(connection(), {**fed[1], "mp_deviceid": "d1"})
    limit = len(alone.payload) + 32
    exact = builders.run(connection(sink=kinesis(limit)), records(*fed))
    assert ([], [1, 1, 1]) == (exact.dead_letters, [b.count for b in exact.batches])
    less = builders.run(connection(sink=kinesis(limit - 1)), records(*fed))
    assert [(0, 0), (2, 0)] == [position for b in less.batches for position in (b.first, b.last)]
    (letter,) = less.dead_letters
    assert (Reason.EVENT_TOO_LARGE, 1, "lane") == (letter.reason, letter.offset, letter.connection)
    assert fed[1] == {**json.loads(letter.value), "mp_deviceid": "d1"}
    assert "xxx" not in letter.error


def test_a_dead_letter_is_an_upload_that_can_be_sent_again() -> None:
    fed = upload(event(t="x" * 900, location=1), mpid=7, ip="1", environment="development")
    (letter,) = builders.run(connection(sink=kinesis(500)), records(fed)).dead_letters
    assert fed == json.loads(letter.value)
    (document,) = builders.documents(batches(connection(), letter.value))
    assert fed["events"] == document["events"]


def test_a_context_too_large_alone_makes_one_dead_letter_of_its_upload_and_of_no_other() -> None:
    chosen = connection(sink=kinesis(1000), send_batches_without_events=True)
    large = {"ip": "x" * 1000}
    fed = [upload(event(), event()), upload(**large), upload(event(), event(), **large)]
    out = builders.run(chosen, records(*fed))
    assert [(0, 0, 2)] == [(*batch.first, batch.count) for batch in out.batches]
    assert [(1, 0), (2, 2)] == [(letter.offset, letter.events) for letter in out.dead_letters]
    assert fed[1:] == [json.loads(letter.value) for letter in out.dead_letters]


def test_no_payload_is_larger_than_any_stream_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "MAX_PAYLOAD_BYTES", 600)
    fed = [upload(event(n=n)) for n in range(20)]
    for sink in (FileTarget("out"), kinesis(10_000)):
        parts = batches(connection(sink=sink), *fed)
        assert 1 < len(parts)
        assert max(len(part.payload) for part in parts) <= 600


def test_what_cannot_be_encoded_becomes_dead_letters_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def odd(fields: dict[str, object], time: int) -> dict[str, object]:
        message = f"{fields} {time}"
        raise KeyError(message)

    pipeline = builders.pipeline(connection("good"), connection("odd"))
    frames: Any = pipeline._lanes["odd"].lane.documents  # noqa: SLF001  # no input makes it fail
    monkeypatch.setattr(frames._policy, "document_fields", odd)  # noqa: SLF001
    escaped: Json = {'"': 1}  # no native core takes it
    fed = [upload(event(n=1), **escaped), upload(event(n=2), ip="1", **escaped)]
    pipeline.collect(records(*fed), NOW)
    out = pipeline.finish(NOW)
    assert ["good"] == [batch.lane for batch in out.batches]
    letters = [(x.reason, x.offset, x.connection) for x in out.dead_letters]
    assert [(Reason.NOT_ENCODABLE, 0, "odd")] == letters  # one of the whole window
    assert [2] == [letter.events for letter in out.dead_letters]
    assert ["good", "odd"] == [closing.lane for closing in out.closings]
    assert _events(out.dead_letters) == [event(n=1), event(n=2)]


def test_a_dead_letter_tells_how_many_events_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_upload: object, _transform: int) -> bytes:
        raise RecursionError

    monkeypatch.setattr(event_filter, "changed_body", fails)
    changing = connection(int64_as_string=True)
    out = builders.run(changing, records(upload(event(), event()), b"{"))
    assert [(Reason.INVALID_JSON, 0), (Reason.NOT_ENCODABLE, 2)] == [
        (letter.reason, letter.events) for letter in out.dead_letters
    ]


def _events(letters: list[DeadLetter]) -> list[object]:
    return [e for letter in letters for e in json.loads(letter.value)["events"]]


@pytest.mark.parametrize(
    ("expected", "identities"),
    [
        ('"identity_type":"customer_id","identity":"123"', '{"customerid":123}'),
        ('"identity_type":"customer_id","identity":"-1.50"', '{"customer_id":-1.50}'),
        ('"identity_type":"email","identity":"\\u0061"', '{"email":"\\u0061","other":null}'),
        ('"identity_type":"x","identity":"true"', '{"x":true}'),
        ('"identity_type":"x\\"y","identity":"{\\"a\\":\\"b\\"}"', '{"x\\"y":{"a":"b"}}'),
    ],
)
def test_identities_become_an_array_of_texts(expected: str, identities: str) -> None:
    body = '{"events":[{}],"mpid":1,"user_identities":%s}' % identities  # noqa: UP031
    payload = one(connection(), body.encode()).payload.decode()
    start = f'"user_identities":[{{{expected},"timestamp_unixtime_ms":{builders.START}}}]'
    assert start in payload
    json.loads(payload)


@pytest.mark.parametrize("identities", ["[]", '[{"identity": 1.0}]', '"odd"', "5"])
def test_identities_that_are_no_object_pass_as_they_are(identities: str) -> None:
    body = f'{{"events":[{{}}],"mpid":1,"user_identities":{identities}}}'
    payload = one(connection(), body.encode()).payload.decode()
    assert f'"user_identities":{identities},' in payload


@pytest.mark.parametrize(
    "value",
    ["9007199254740993", "-0.0", "1E400", "1.10", "123456789012345678901234567890", '"\\/"'],
)
def test_every_value_leaves_as_it_came(value: str) -> None:
    body = (
        f'{{"events":[{{"data":{{"event_id":{value},"z":[{value}]}}}}],"mp_deviceid":"d",'
        f'"user_attributes":{{"a":{value}}},"brand_new":{value}}}'
    )
    payload = one(connection(include_location_information=False), body.encode()).payload.decode()
    assert 4 == len(re.findall(re.escape(value), payload))


def test_unpaired_surrogates_travel_through_everything() -> None:
    text = b'"cut \\ud83d"'
    body = (
        b'{"events":[{"event_type":"profile","data":{"location":1,"t":%b}},{"data":{"t":%b}}],'
        b'"mpid":%b,"application_info":{"package":%b},"user_identities":{"email":%b,%b:1},'
        b'"context":{"location":1,"t":%b},%b:1,"deleted_user_attributes":[%b]}'
    ) % ((text,) * 9)
    chosen = connection(include_location_information=False, batching=Batching(max_events=3))
    parts = batches(chosen, body, body)
    assert [3, 1] == [part.count for part in parts]
    assert ["", ""] == [part.mpid for part in parts]
    for part in parts:
        found = oracle.exact(part.payload)
        assert {"t": "cut \ud83d"} == found["context"]
        assert ["cut \ud83d"] == found["deleted_user_attributes"]
        assert ["email", "cut \ud83d"] == [i["identity_type"] for i in found["user_identities"]]
        assert {"cut \ud83d"} == {e["data"]["t"] for e in found["events"]}


@pytest.mark.parametrize("none", [0, "0", "unknown", "", None, "0000-0000"])
def test_an_mpid_that_means_none_chooses_no_shard(none: object) -> None:
    (batch,) = builders.run(connection(), records(upload(event(), mpid=none))).batches
    assert batch.mpid == ""

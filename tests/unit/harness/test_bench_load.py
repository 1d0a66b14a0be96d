"""The load that is measured is what it says it is."""

import json

import pytest

from tests.bench import floor
from tests.bench.floor import Way
from tests.bench.load import SPAN_MS, UPLOAD_BYTES, uploads
from tests.bench.loads import LOADS, Load
from tests.bench.pinpoint_load import records
from tests.bench.ways import WAYS


def test_every_upload_is_one_event_in_exactly_1_kb() -> None:
    for number, (key, value, _) in enumerate(uploads(200, devices=30)):
        assert len(value) == UPLOAD_BYTES
        content = json.loads(value)
        (event,) = content["events"]
        assert event["data"]["event_id"] == 10**18 + number
        assert content["mp_deviceid"].endswith(key.decode())
        assert content["mpid"] == int(b"1" + key)


def test_every_record_of_pinpoint_is_one_event_in_as_many_bytes() -> None:
    for (key, value, at), (name, _, when) in zip(
        records(200, devices=30), uploads(200, devices=30), strict=True
    ):
        assert (UPLOAD_BYTES, when) == (len(value), at)
        content = json.loads(value)
        assert 1 == len(content["Events"])
        assert (b"a1b2c3/" + name, name.decode()) == (key, content["EndpointId"])


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_every_event_of_a_load_becomes_part_of_a_document(way: Way) -> None:
    assert 0 < floor.memory(500, 30, way)


def test_all_devices_take_turns_within_the_span() -> None:
    rows = list(uploads(300, devices=30))

    assert len({key for key, _, _ in rows}) == 30
    assert [at for _, _, at in rows] == sorted(at for _, _, at in rows)
    assert 0 <= rows[0][2] <= rows[-1][2] < SPAN_MS


def test_the_floor_counts_every_event_however_many_documents_close_in_the_end() -> None:
    """More than a slice of documents waits when the load ends."""
    assert 0 < floor.memory(12_000, 500)


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
def test_the_rounds_of_a_load_go_on_where_the_one_before_ended(load: Load) -> None:
    load = load._replace(uploads=40, warm=20)
    rounds = [list(load.rows(number)) for number in range(3)]

    assert [20, 40, 40] == [len(rows) for rows in rounds]
    rows = [row for rows in rounds for row in rows]
    assert len(rows) == len({value for _, value, _ in rows})
    assert [at for _, _, at in rows] == sorted(at for _, _, at in rows)
    events = "events" if load.input == "mparticle" else "Events"
    assert {load.events} == {len(json.loads(value)[events]) for _, value, _ in rows}


def test_each_upload_is_wanted_by_the_connection_of_its_api_key() -> None:
    load = LOADS["100-apart"]._replace(uploads=500)
    wanted = [file["match"]["api_key"] for file in load.connection_files(1)]

    sent = {json.loads(value)["api_key"] for _, value, _ in load.rows(1)}

    assert sorted(sent) == sorted(key for keys in wanted for key in keys)

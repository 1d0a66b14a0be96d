"""The generator has to be trusted by every oracle that counts what it sent."""

import json
from functools import cache
from itertools import pairwise
from typing import Any

from forwarder.config.targets import KinesisTarget
from tests import builders, oracle
from tests.builders import Rec
from tests.traffic import Upload, odd, poison, traffic
from tests.traffic.odd import KINDS

SEED, DEVICES, EVENTS, START = 7, 100, 2_000, 1_700_000_000_000

EVERY_KNOWN_TYPE = {
    "application_state_transition",
    "breadcrumb",
    "commerce_event",
    "crash_report",
    "custom_event",
    "first_run",
    "network_performance",
    "opt_out",
    "pre_attribution",
    "profile",
    "push_message",
    "push_reaction",
    "push_registration",
    "screen_view",
    "session_end",
    "session_start",
    "uninstall",
    "user_attribute_change",
    "user_identity_change",
    "validation_result",
}


@cache
def sent() -> tuple[Upload, ...]:
    return tuple(traffic(SEED, DEVICES, EVENTS, START))


def documents(upload: Upload) -> list[dict[str, Any]]:
    content = json.loads(upload.value)
    return content if isinstance(content, list) else [content]


def events(upload: Upload) -> list[dict[str, Any]]:
    return [event for document in documents(upload) for event in document.get("events") or []]


def test_the_same_arguments_give_the_same_bytes_and_another_seed_gives_others() -> None:
    assert sent() == tuple(traffic(SEED, DEVICES, EVENTS, START))
    assert sent() != tuple(traffic(SEED + 1, DEVICES, EVENTS, START))


def test_exactly_the_wanted_number_of_events_is_made_each_with_an_id_of_its_own() -> None:
    ids = [event_id for upload in sent() for event_id in upload.event_ids]
    assert EVENTS == len(ids) == len(set(ids))


def test_an_upload_knows_the_ids_and_types_of_its_events_in_order() -> None:
    for upload in sent():
        made = events(upload)
        assert [event["data"]["source_message_id"] for event in made] == list(upload.event_ids)
        assert [event["event_type"] for event in made] == list(upload.event_types)
        assert len(upload.event_ids) == len(upload.sessions)


def test_every_device_sends_and_time_never_goes_back() -> None:
    uploads = sent()
    assert len({upload.key for upload in uploads}) == DEVICES
    assert all(one.timestamp_ms <= other.timestamp_ms for one, other in pairwise(uploads))


def test_every_known_type_and_an_unknown_one_occur() -> None:
    types = {event_type for upload in sent() for event_type in upload.event_types}
    assert types == EVERY_KNOWN_TYPE | {"media_session_summary"}


def test_sessions_end_properly_stay_open_and_are_left_without_an_end() -> None:
    begun, ended = set(), set()
    for upload in sent():
        for event_type, session in zip(upload.event_types, upload.sessions, strict=True):
            begun |= {session} if event_type == "session_start" else set()
            ended |= {session} if event_type == "session_end" else set()
    assert ended
    assert begun - ended
    assert ended <= begun


def test_crash_reports_come_under_their_own_name_and_mislabelled() -> None:
    crashes = {
        event["event_type"]
        for upload in sent()
        for event in events(upload)
        if "stack_trace" in event["data"]
    }
    assert crashes == {"crash_report", "commerce_event"}


def test_breadcrumbs_with_places_come_as_events_and_flat() -> None:
    crumbs = [
        crumb
        for upload in sent()
        for event in events(upload)
        for crumb in event["data"].get("breadcrumbs", ())
    ]
    assert any("location" in crumb for crumb in crumbs)
    assert any("location" in crumb.get("data", {}) for crumb in crumbs)


def test_ids_are_beyond_what_a_float_holds_negative_too_and_mpids_come_in_both_spellings() -> None:
    mpids = [document.get("mpid") for upload in sent() for document in documents(upload)]
    assert {int, str, type(None)} == {type(mpid) for mpid in mpids}
    numbers = [int(mpid) for mpid in mpids if mpid not in {None, "undefined"}]
    assert min(numbers) < -(2**53)
    assert max(numbers) > 2**53


def test_the_quirks_met_in_the_wild_are_in_it() -> None:
    uploads = sent()
    text = b"".join(upload.value for upload in uploads)
    for quirk in (
        rb'"before\u0000after"',
        b'"price":1.10',
        b"123456789012345678901234567890",
        b'"system_notifications"',
        b'"consent_state"',
        b'"deleted_user_attributes"',
        b'"ip":null',
        b'"api_key"',
        b'"x_future_field"',
        '"before\\u0000after","emoji":"🛒"'.encode(),
    ):
        assert quirk in text, quirk
    assert any(upload.value.startswith(b"[") for upload in uploads)
    assert any(not upload.event_ids for upload in uploads)


def test_ids_that_mean_none_people_who_share_a_device_and_nameless_sessions_are_in_it() -> None:
    text = b"".join(upload.value for upload in sent())
    for quirk in (
        b'"mp_deviceid":"00000000-0000-0000-0000-000000000000"',
        b'"ios_advertising_id":"00000000-0000-0000-0000-000000000000"',
        b'"android_advertising_id":"00000000-0000-0000-0000-000000000000"',
        b'"mpid":"undefined"',
        b'"mpid":0',
        b'"session_id":-1',
        b'"session_id":""',
    ):
        assert quirk in text, quirk
    people: dict[str, set[str]] = {}
    for upload in sent():
        for document in documents(upload):
            people.setdefault(upload.device, set()).add(str(document["user_identities"]))
    assert {1, 2} == {len(names) for names in people.values()}


def test_malformed_records_cover_every_reason_of_the_decoder() -> None:
    made = list(poison(SEED, 40, START))
    assert len(made) == 40
    assert {it.reason for it in made} == {"invalid_json", "invalid_utf8", "not_an_upload"}
    assert made == list(poison(SEED, 40, START))


def test_odd_uploads_are_uploads_and_every_event_of_them_has_an_id_of_its_own() -> None:
    made = list(odd(SEED, 5 * len(KINDS), START))
    found = [oracle.uploads_of(one.value) for one in made]
    ids = [
        e["data"]["source_message_id"] for many in found for u in many or () for e in u["events"]
    ]

    assert None not in found
    assert len(ids) == len(set(ids)) > len(made)
    assert made == list(odd(SEED, 5 * len(KINDS), START))


def test_every_odd_event_comes_out_once_though_their_contexts_outgrow_a_record() -> None:
    made = list(odd(SEED, 25 * len(KINDS), START))
    rows = [Rec(i, one.timestamp_ms, one.value) for i, one in enumerate(made)]
    stream = KinesisTarget("s", "us-east-1", max_record_bytes=2**20)
    out = builders.run(builders.connection(sink=stream), rows)
    sent = [e for row in rows for e in json.loads(row.value or b"")["events"]]
    received = [e for doc in builders.documents(out.batches) for e in doc["events"]]

    assert [] == out.dead_letters
    assert {"size", "end"} == {batch.reason for batch in out.batches}
    assert sorted(map(str, sent)) == sorted(map(str, received))
    assert max(len(batch.payload) for batch in out.batches) <= 2**20

"""Whose an upload is: what names nobody, and who may share a document."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.collect.pipeline import Pipeline
from forwarder.config.connection import Batching
from forwarder.formats.contract import Reject, Upload
from forwarder.formats.mparticle.decode import MParticleDecoder
from forwarder.formats.mparticle.identity import NONE_WORDS, means_none
from tests import builders, oracle, streams
from tests.builders import NOW, PARTITION, Json, connection, encoded, event, records, upload

ZERO = "00000000-0000-0000-0000-000000000000"
ZEROS = [
    0, -0.0, 0.0, "", " ", "\t\n", "0", "00", "-0", "0.0", "0" * 300, ZERO, ZERO.replace("-", ""),
    "{" + ZERO + "}", "00:00:00:00:00:00", "000000000000000", "-", "***", "\0\0", "\u00a0",
]  # fmt: skip
NOBODY = [*ZEROS, *sorted(NONE_WORDS), "NULL", "Undefined", "UnKnown", " none ", None, True, [], {}]


def decoded(**context: object) -> Upload:
    """Decode an upload with this context, at an offset of its own."""
    found = MParticleDecoder(PARTITION, sessions=True, places=True).decode(
        encoded({"events": [], **context}), 7, 1000, 1000
    )
    assert not isinstance(found, Reject), found
    return found[0]


def said(upload: Upload) -> tuple[bytes, bytes]:
    return upload.device, upload.owner


@pytest.mark.parametrize("none", NOBODY)
def test_what_means_none_names_neither_device_nor_user(none: object) -> None:
    nobody = decoded()
    assert said(nobody) == said(decoded(mp_deviceid=none, mpid=none))
    assert said(nobody) == said(decoded(device_info={"ios_advertising_id": none}, mpid=none))
    assert said(decoded(mpid=5)) == said(decoded(mpid=5, mp_deviceid=none))
    assert said(decoded(mp_deviceid="d")) == said(decoded(mp_deviceid="d", mpid=none))


@pytest.mark.parametrize("none", NOBODY)
def test_a_device_whose_first_id_means_none_takes_the_next(none: object) -> None:
    expected = said(decoded(mp_deviceid="real"))
    ids = {"android_uuid": none, "ios_idfv": none, "ios_advertising_id": "real", "amp_id": "x"}
    assert expected == said(decoded(mp_deviceid=none, device_info=ids))


@pytest.mark.parametrize("none", NOBODY)
def test_an_identity_that_means_none_is_none(none: object) -> None:
    if none in ({}, []):
        return  # forwarded as the text it is, so it counts
    expected = said(decoded(mp_deviceid="d", user_identities={"email": "e@x"}))
    both = {"customer_id": none, "email": "e@x"}
    assert expected == said(decoded(mp_deviceid="d", user_identities=both))
    listed = [{"identity_type": kind, "identity": one} for kind, one in both.items()]
    assert expected == said(decoded(mp_deviceid="d", user_identities=listed))
    assert said(decoded(mp_deviceid="d")) == said(
        decoded(mp_deviceid="d", user_identities={"customer_id": none})
    )


@pytest.mark.parametrize(
    "real",
    ["10", "0-1", "00000000-0000-0000-0000-000000000001", "unknowns", "a", "é", 7, -2, "0x0"],
)
def test_what_only_looks_like_it_is_an_id(real: object) -> None:
    assert (
        b",%b," % json.dumps(str(real), ensure_ascii=False).encode()
        in decoded(mp_deviceid=real).device
    )


@settings(max_examples=500, deadline=None)
@given(st.one_of(st.text(max_size=40), st.text("0-:{} \t", max_size=60), st.sampled_from(NOBODY)))
def test_the_oracle_takes_the_same_for_none(text: object) -> None:
    if isinstance(text, str):
        assert (oracle.named(text) == "") == means_none(text)
        if text.isprintable():
            whole = decoded(mp_deviceid=text, mpid=1).device
            assert (oracle.named(text) == "") == (whole == decoded(mpid=1).device)


def test_without_an_mpid_every_set_of_identities_is_an_owner_of_its_own() -> None:
    people: list[Any] = [
        None, {"customer_id": "a"}, {"customer_id": "b"}, {"email": "a"},
        {"customer_id": "a", "email": "b"}, "a", ["a"], {"customer_id": "A"}, {"other": {"a": 1}},
        {"a": 'b","c":"d'}, {"a": "b", "c": "d"},
    ]  # fmt: skip
    found = [decoded(mp_deviceid="d", user_identities=one) for one in people]
    assert len(people) == len({one.owner for one in found})
    assert 1 == len({one.device for one in found})


@pytest.mark.parametrize(
    "same",
    [
        {"email": "e", "customer_id": "42"},
        {"customer_id": 42, "email": "e", "google": None},
        {"customerid": "42", "email": "e", "other": "undefined"},
        [
            {"identity_type": "email", "identity": "e"},
            {"identity_type": "customerid", "identity": 42},
        ],
        [
            {"timestamp_unixtime_ms": 9, "identity": "42", "identity_type": "customer_id"},
            {"identity_type": "email", "identity": "e", "x": 1},
            {"identity_type": "email", "identity": "e"},
            {"identity_type": "google", "identity": "0"},
        ],
    ],
)
def test_equal_identities_in_other_forms_are_one_owner(same: object) -> None:
    expected = decoded(mp_deviceid="d", user_identities={"customer_id": "42", "email": "e"})
    assert said(expected) == said(decoded(mp_deviceid="d", user_identities=same))


def test_with_an_mpid_identities_may_change() -> None:
    one = decoded(mp_deviceid="d", mpid=1, user_identities={"email": "e"})
    assert one.device == one.owner == decoded(mp_deviceid="d", mpid=1).owner


def test_users_of_a_placeholder_are_nobodys_device_and_share_nothing() -> None:
    stream = [
        upload(event(), device=ZERO, user_identities={"customer_id": one})
        for one in ("a", "b", "a")
    ]
    out = builders.run(connection(), records(*stream))
    assert 3 == len({batch.key for batch in out.batches}) == len(out.batches)


_PEOPLE: list[Any] = [
    None,
    {"email": "a"},
    {"email": "b"},
    [{"identity_type": "email", "identity": "a"}],
]
_SETTINGS: list[dict[str, Any]] = [
    {}, {"include_user_identities": False}, {"send_batches_without_events": True},
    {"send_custom_events": False}, {"include_metadata": False},
]  # fmt: skip


@st.composite
def shared_devices(draw: st.DrawFn) -> list[Json]:
    """Draw uploads of people who take turns on two devices, without mpids."""
    uploads = []
    for number in range(draw(st.integers(1, 20))):
        device = draw(st.sampled_from(["d1", "d2", ZERO, "unknown"]))
        people = draw(st.sampled_from(_PEOPLE))
        who = people[0]["identity"] if isinstance(people, list) else (people or {}).get("email", "")
        found = draw(st.lists(streams.events(), max_size=3))
        for one in found:
            one["data"]["who"] = who
        info = {"ios_advertising_id": ZERO, "ios_idfv": draw(st.sampled_from(["v", "0"]))}
        context = {
            "mp_deviceid": device,
            "device_info": info,
            "mpid": draw(st.sampled_from([0, "", None])),
        }
        uploads.append(
            {"events": found, "said_by": [who, number], "user_identities": people, **context}
        )
    return uploads


@settings(max_examples=300, deadline=None)
@given(
    shared_devices(),
    st.sampled_from(streams.MODES),
    st.sampled_from(_SETTINGS),
    st.integers(1, 4),
    st.sampled_from([1, 5_000, 10**9]),
)
def test_people_without_mpids_never_share_a_document(
    uploads: list[Json], mode: Json, chosen: Json, most: int, step: int
) -> None:
    lane = connection(batching=Batching(max_events=most), **mode, **chosen)
    out = builders.run(lane, records(*uploads, step=step))
    for document in builders.documents(out.batches):
        heard = {document["said_by"][0], *(one["data"]["who"] for one in document["events"])}
        assert 1 == len(heard)


@pytest.mark.parametrize("mode", streams.MODES[::2])
def test_an_upload_without_events_informs_only_windows_of_its_own_people(mode: Json) -> None:
    alice, bob = {"customer_id": "alice"}, {"customer_id": "bob"}
    stream = [
        upload(event(session_id=1), user_identities=alice),
        upload(event(session_id=1), user_identities=bob),
        upload(user_identities=alice, ip="1"),
        upload(event("screen_view", session_id=1), user_identities=bob, ip="2"),
    ]
    out = builders.run(connection(send_screen_views=False, **mode), records(*stream))
    found = [
        (one["user_identities"][0]["identity"], one["ip"])
        for one in builders.documents(out.batches)
    ]
    assert [("alice", "1"), ("bob", "2")] == found


# ---------------------------------------------------------------------- sessions of shared devices

TIMES = Batching(session_timeout_ms=30_000, session_grace_ms=5_000, max_age_ms=1)
ALICE, BOB = {"customer_id": "alice"}, {"customer_id": "bob"}


def sessions(*uploads: Json, step: int = 1000) -> tuple[Pipeline, list[tuple[int, int]]]:
    """Return the pipeline, and (first offset, events) of what closed."""
    lane = connection(batching=TIMES, wait_for_complete_batch=True)
    pipeline = builders.pipeline(lane)
    out = builders.merged(pipeline.collect([one], NOW) for one in records(*uploads, step=step))
    return pipeline, [(batch.first[0], batch.count) for batch in out.batches]


def test_the_end_of_a_session_ends_it_for_all_users_of_the_device() -> None:
    pipeline, found = sessions(
        upload(event(session_id=1), user_identities=ALICE),
        upload(event("session_end", session_id=1), user_identities=BOB),
        upload(event(), device="other"),
        step=4_000,
    )
    assert [] == found  # the grace
    out = pipeline.expire(builders.START + 9_000, 9)
    assert [(0, 1), (1, 1)] == [(b.first[0], b.count) for b in out.batches]


def test_a_later_session_ends_that_of_another_user_of_the_device() -> None:
    _, found = sessions(
        upload(event(session_id=1), user_identities=ALICE),
        upload(event(session_id=2), user_identities=BOB),
        upload(event(), device="other"),
        step=6_000,
    )
    assert [(0, 1)] == found


def test_a_session_goes_on_while_any_user_of_the_device_sends() -> None:
    turns = itertools.cycle([ALICE, BOB])
    uploads = [upload(event(session_id=1), user_identities=next(turns)) for _ in range(6)]
    pipeline, found = sessions(*uploads, step=20_000)
    assert [] == found
    assert 2 == pipeline.open_windows()

"""Which setting governs which event of Pinpoint, and what is never sent."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.config.connection import Settings
from forwarder.formats import rawjson
from forwarder.formats.contract import DUPLICATE, DUPLICATES
from forwarder.formats.pinpoint import kinds
from forwarder.formats.pinpoint.event_filter import PinpointEventFilter
from tests.unit.formats.pinpoint.samples import event, record
from tests.unit.formats.pinpoint.test_decode import one

GOVERNED = {
    "send_lifecycle_events": [
        "_session.start", "_session.stop", "_session.pause", "_session.resume",
    ],
    "send_commerce_events": ["_monetization.purchase"],
    "send_profile_change_events": [
        "_userauth.sign_in", "_userauth.sign_up", "_userauth.sign_out", "_userauth.auth_fail",
    ],
    "send_push_registrations_and_receipts": [
        "_campaign.opened_notification", "_campaign.received_foreground",
        "_campaign.received_background", "_journey.opened_notification", "_campaign.send",
        "_journey.send", "_SMS.SUCCESS", "_SMS.FAILURE", "_email.open", "_email.complaint",
    ],
    "send_screen_views": ["pageView"],
    "send_custom_events": [
        "add_to_cart", "_custom.level", "_session", "_sms.x", "Session.start", "_email", "pageview",
        "duplicate", "duplicates", "_test.event_streams", "a.b.c", " ",
    ],
    "send_unknown_events": [""],
}  # fmt: skip
"""By setting the types that it governs."""

PAIRS = [(setting, kind) for setting, names in GOVERNED.items() for kind in names]


def sifted(sent: list[str], **chosen: object) -> tuple[list[str], dict[str, int]]:
    """Return the types that pass, and by reason how many do not."""
    made = PinpointEventFilter("lane", dataclasses.replace(Settings(), **chosen))  # type: ignore[arg-type]
    upload = one(record(*[event(kind) for kind in sent]))
    counts: dict[tuple[str, str], int] = {}
    ((same, pieces),), failed = made.sift([upload], counts)
    assert (upload, []) == (same, failed)
    bodies = [bytes(raw) for piece in pieces for raw in rawjson.split_values(piece[4])]
    places = [piece[1] + n for piece in pieces for n in range(piece[2])]
    assert bodies == [bytes(rawjson.split_values(upload.body)[at]) for at in places]
    assert all(lane == "lane" for lane, _ in counts)
    assert (not counts) == made.keeps_all(upload)
    assert {reason for _, reason in counts} <= {*made.reasons, DUPLICATES}
    return [sent[at] for at in places], {reason: n for (_, reason), n in counts.items()}


@pytest.mark.parametrize(("setting", "kind"), PAIRS)
def test_a_type_passes_while_its_setting_is_on_and_no_other_matters(
    setting: str, kind: str
) -> None:
    others = {name: False for name in GOVERNED if name != setting}
    assert ([kind], {}) == sifted([kind], **others)
    assert ([], {setting: 1}) == sifted([kind], **{setting: False})


def test_the_names_of_screen_views_are_a_setting() -> None:
    views = {"screen_view_event_types": ("Seen", "_session.pause"), "send_screen_views": False}
    sent = ["pageView", "Seen", "_session.pause", "_session.start"]
    assert (["pageView", "_session.start"], {"send_screen_views": 2}) == sifted(sent, **views)


def test_test_events_are_never_sent_and_have_a_reason_of_their_own() -> None:
    everything = dict.fromkeys(GOVERNED, True)
    assert (["a"], {kinds.TEST_EVENTS: 1}) == sifted([kinds.TEST_EVENT, "a"], **everything)
    assert kinds.TEST_EVENTS in PinpointEventFilter("lane", Settings()).reasons


def test_a_duplicate_is_left_out_whatever_the_settings_and_no_type_is_taken_for_it() -> None:
    made = PinpointEventFilter("lane", Settings())
    upload = one(record(event("duplicate"), event("b")))
    assert made.keeps_all(upload)
    upload.types[0] = DUPLICATE
    counts: dict[tuple[str, str], int] = {}
    ((_, pieces),), _ = made.sift([upload], counts)
    assert [(1, 1)] == [(piece[1], piece[2]) for piece in pieces]
    assert {("lane", DUPLICATES): 1} == counts
    assert made.keeps_all(one(record(event("duplicate"))))


def test_a_rule_changes_with_whatever_changes_what_is_kept_and_with_nothing_else() -> None:
    def rule(**chosen: object) -> str:
        settings = dataclasses.replace(Settings(), **chosen)  # type: ignore[arg-type]
        return PinpointEventFilter("lane", settings).rule

    apart: list[dict[str, object]] = [{name: False} for name in GOVERNED]
    more: list[dict[str, object]] = [
        {"screen_view_event_types": ("a",)},
        {"send_batches_without_events": True},
    ]
    assert len(GOVERNED) + 3 == len({rule(), *(rule(**one) for one in [*apart, *more])})
    for same in ("include_metadata", "send_crash_events", "send_network_performance_events"):
        assert rule() == rule(**{same: False})
    views = {"screen_view_event_types": ("a", "b", "a")}
    assert rule(**views) == rule(screen_view_event_types=("b", "a"))


@given(sent=st.lists(st.text(max_size=20) | st.sampled_from([kind for _, kind in PAIRS])))
def test_every_event_is_kept_or_counted_once(sent: list[str]) -> None:
    kept, counts = sifted(sent, send_lifecycle_events=False, send_screen_views=False)
    assert len(sent) == len(kept) + sum(counts.values())

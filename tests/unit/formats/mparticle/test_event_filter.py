"""What a lane keeps of an upload, at which positions, and in which bytes."""

from typing import Any

import pytest

from forwarder.config.connection import Settings
from forwarder.formats.contract import Reject, Upload
from forwarder.formats.mparticle import event_filter as filtering
from forwarder.formats.mparticle.decode import MParticleDecoder
from forwarder.model import Piece
from tests.builders import PARTITION, encoded, event, upload


def decoded(value: object) -> Upload:
    """Decode one upload at offset 5."""
    found = MParticleDecoder(PARTITION, sessions=False, places=True).decode(encoded(value), 5, 9, 9)
    assert not isinstance(found, Reject)
    return found[0]


def kept(value: object, settings: Settings) -> list[Piece]:
    """Return what a lane with these settings keeps."""
    found, failed = filtering.MParticleEventFilter("lane", settings).sift([decoded(value)], {})
    assert [] == failed
    return found[0][1]


def changed(data: bytes, settings: Settings) -> bytes:
    """Return what becomes of an event's data, byte for byte."""
    before, after = b'{"event_type":"crash_report","data":', b"}"
    pieces = kept(b'{"events":[%b%b%b]}' % (before, data, after), settings)
    assert pieces[0][4].startswith(before)
    return pieces[0][4][len(before) : -len(after)]


NOWHERE = Settings(include_location_information=False)
STRINGS = Settings(int64_as_string=True)


def test_untouched_events_are_one_piece_shared_by_all_lanes() -> None:
    one = decoded(upload(event(), event("profile")))
    pieces = [
        filtering.MParticleEventFilter(name, Settings(unique_id=name)).sift([one], {})[0][0][1]
        for name in ("a", "b")
    ]
    assert [(5, 0, 2, 9, one.body)] == pieces[0]
    assert pieces[0][0][4] is pieces[1][0][4]


def test_lanes_that_change_events_alike_share_the_result() -> None:
    one = decoded(upload(event(location=1)))
    first, second = (
        filtering.MParticleEventFilter(n, NOWHERE).sift([one], {})[0][0][1] for n in "ab"
    )
    assert first[0][4] is second[0][4]


def test_what_is_left_out_splits_the_rest_into_runs_at_their_own_positions() -> None:
    seen, other = "screen_view", "profile"
    kinds = [other, seen, other, other, seen, seen, other]
    pieces = kept(upload(*(event(kind) for kind in kinds)), Settings(send_screen_views=False))
    assert [(0, 1), (2, 2), (6, 1)] == [(piece[1], piece[2]) for piece in pieces]


def test_what_is_left_out_is_counted_by_its_setting() -> None:
    counts: dict[tuple[str, str], int] = {}
    chosen = Settings(send_screen_views=False, send_unknown_events=False)
    one = decoded(upload(event("screen_view"), event("new"), event("screen_view"), event()))
    filtering.MParticleEventFilter("lane", chosen).sift([one], counts)
    assert {("lane", "send_screen_views"): 2, ("lane", "send_unknown_events"): 1} == counts


@pytest.mark.parametrize("name", ["opt_out", "uninstall", "pre_attribution"])
def test_some_events_are_always_sent(name: str) -> None:
    names = [setting for setting in filtering.SETTING_BY_EVENT_TYPE.values() if setting]
    off: dict[str, Any] = dict.fromkeys([*names, filtering.UNKNOWN_EVENTS], False)
    nothing = Settings(**off)
    assert 1 == len(kept(upload(event(name)), nothing))
    assert [] == kept(upload(event()), nothing)


def test_an_upload_without_events_is_a_piece_only_where_asked() -> None:
    assert [] == kept(upload(), Settings())
    assert [(5, 0, 0, 9, b"")] == kept(upload(), Settings(send_batches_without_events=True))


@pytest.mark.parametrize(
    ("expected", "data"),
    [
        (b'{"a":1.50}', b'{"a":1.50,"location":{"latitude":1}}'),
        (b"{}", b'{"loc\\u0061tion":null}'),
        (b'{"custom_attributes": {"location":"x"}}', b'{"custom_attributes": {"location":"x"}}'),
        (
            b'{"custom_attributes":{ "location":1},"x":-0.0}',
            b'{"custom_attributes":{ "location":1},"location":2,"x":-0.0}',
        ),
        (
            b'{"breadcrumbs":[{"data":{"x":1e2,"c":{"location":3}}},4,{"data":[]},{}]}',
            (
                b'{"breadcrumbs":[{"location":1,"data":{"x":1e2,"location":2,"c":{"location":3}}}'
                b',4,{"data":[],"location":5},{}]}'
            ),
        ),
        (b'{"breadcrumbs":"none"}', b'{"breadcrumbs":"none","location":1}'),
        (b'{"breadcrumbs":{"data":{}}}', b'{"breadcrumbs":{"location":1,"data":{"location":2}}}'),
        (b'{"x":1}', b'{"location":1},"data":{"x":1}'),
        (b"5", b'{"loc\\u0061tion":1},"data":5'),
        (b'{"breadcrumbs":[]}', b'{"breadcrumbs":[{"location":1}],"breadcrumbs":[]}'),
        (b'{"a": "\\u0061"}', b'{"a": "\\u0061"}'),
        (b'{"breadcrumbs":null}', b'{"breadcrumbs":null}'),
        (b'{"t":"cut \\ud83d"}', b'{"location":"\\udc00","t":"cut \\ud83d"}'),
    ],
)
def test_location_goes_from_every_place_that_is_not_the_users_own(
    expected: bytes, data: bytes
) -> None:
    assert expected == changed(data, NOWHERE)


def test_location_stays_by_default() -> None:
    data = b'{ "location" : {"latitude":1.0} }'
    assert data == changed(data, Settings())


@pytest.mark.parametrize(
    ("expected", "data"),
    [
        (b'{"event_id":"-9223372036854775808"}', b'{"event_id":-9223372036854775808}'),
        (b'{"session_id":"0","mpid":"x","batch_id":"7"}',
         b'{"session_id":0,"mpid":"x","batch_id":7}'),
        (b'{"event_id":1.0,"mpid":1e3,"session_id":null}',
         b'{"event_id":1.0,"mpid":1e3,"session_id":null}'),
        (b'{"event_num":5,"x":{"event_id":5}}', b'{"event_num":5,"x":{"event_id":5}}'),
    ],
)  # fmt: skip
def test_only_ids_that_are_integers_are_quoted(expected: bytes, data: bytes) -> None:
    assert expected == changed(data, STRINGS)


def test_changing_twice_changes_nothing_more() -> None:
    both = Settings(include_location_information=False, int64_as_string=True)
    once = changed(b'{"location":1,"event_id":5,"breadcrumbs":[{"location":1}]}', both)
    assert b'{"event_id":"5","breadcrumbs":[{}]}' == once == changed(once, both)


def test_an_event_without_an_object_as_data_passes_as_it_is() -> None:
    body = b'{"event_type":"profile","data":[{"location":1}]}'
    assert body == kept(b'{"events":[%b]}' % body, NOWHERE)[0][4]

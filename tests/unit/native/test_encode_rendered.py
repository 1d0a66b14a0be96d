"""Where Python renders the events, the native core makes the same batches of them."""

from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder import native
from forwarder.collect.pipeline import CollectBounds, Pipeline, compile_lanes
from forwarder.config.connection import Connection, Settings
from forwarder.config.targets import KinesisTarget
from forwarder.formats.registry import BUILT_IN
from forwarder.model import Collected
from tests.builders import NOW, PARTITION, START, Rec, finished
from tests.unit.formats.across.senders import Json
from tests.unit.formats.across.test_across_properties import ENDPOINTS, EVENTS, TOLD, VALUES, text

pytest.importorskip("forwarder.native._core", exc_type=ImportError)
pytestmark = pytest.mark.skipif(native.core() is None, reason="the native core is left aside")

_SETTINGS = st.sampled_from(
    [
        Settings(),
        Settings(send_as_batch=False),
        Settings(wait_for_complete_batch=True, int64_as_string=True),
        Settings(send_batches_without_events=True, include_metadata=False),
    ]
)
_LIMITS = st.sampled_from([900, 2_000, 1_048_576])
_BOUNDS = st.sampled_from([CollectBounds(), CollectBounds(encoded_bytes=700)])


def outcome(
    form: str, chosen: Connection, values: list[bytes], bounds: CollectBounds
) -> list[Collected]:
    fed = Pipeline(PARTITION, compile_lanes([chosen], form, BUILT_IN), bounds=bounds)
    found = []
    for offset, value in enumerate(values):
        found.append(fed.collect([Rec(offset, START + 1000 * offset, value)], NOW))
        while fed.has_pending_documents:
            found.append(fed.expire(0, 0, NOW))
    return [*found, *finished(fed)]


def check(
    form: str, chosen: tuple[str, Settings, int], values: list[Json], bounds: CollectBounds
) -> None:
    """Compare what becomes of uploads with what Python alone makes of them."""
    output, wanted, limit = chosen
    sink = KinesisTarget("s", "us-east-1", format=output, max_record_bytes=limit)
    made = Connection("lane", sink, settings=wanted)
    encoded = [text(value) for value in values]
    by_core = outcome(form, made, encoded, bounds)
    with mock.patch.object(native, "_chosen", None):
        assert outcome(form, made, encoded, bounds) == by_core


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), ENDPOINTS | VALUES, st.lists(EVENTS, max_size=3)),
             max_size=4),
    st.tuples(st.sampled_from(["mparticle", "pinpoint"]), _SETTINGS, _LIMITS),
    _BOUNDS,
)  # fmt: skip
def test_of_pinpoints_records(
    drawn: list[tuple[str, Json, list[Json]]],
    chosen: tuple[str, Settings, int],
    bounds: CollectBounds,
) -> None:
    values: list[Json] = [
        {
            "ApplicationId": "a1b2c3",
            "EndpointId": name,
            "Endpoint": endpoint,
            "Events": events,
        }
        for name, endpoint, events in drawn
    ]
    check("pinpoint", chosen, values, bounds)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), VALUES, st.lists(TOLD, max_size=3)), max_size=4),
    st.tuples(st.just("pinpoint"), _SETTINGS, _LIMITS),
    _BOUNDS,
)
def test_of_mparticles_uploads(
    drawn: list[tuple[str, Json, list[Json]]],
    chosen: tuple[str, Settings, int],
    bounds: CollectBounds,
) -> None:
    values: list[Json] = [
        {"events": events, "mp_deviceid": name, "user_attributes": attributes, "mpid": 7}
        for name, attributes, events in drawn
    ]
    check("mparticle", chosen, values, bounds)

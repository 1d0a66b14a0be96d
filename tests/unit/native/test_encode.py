"""The native core makes the same batches as Python: byte for byte, whatever windows hold."""

import json
from hashlib import blake2b
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder import native
from forwarder.collect.pipeline import CollectBounds
from forwarder.collect.windows.tails import TailSizes
from forwarder.config.connection import Connection, Settings
from forwarder.config.targets import KinesisTarget, PartitionKey
from forwarder.formats.mparticle.document import MParticleDocuments
from forwarder.formats.mparticle.identity import NONE_WORDS
from forwarder.model import Collected
from tests import builders, streams
from tests.builders import NOW, Rec, connection, event, records, upload

core: Any = pytest.importorskip("forwarder.native._core", exc_type=ImportError)
pytestmark = pytest.mark.skipif(native.core() is None, reason="the native core is left aside")

_THOROUGH = settings(max_examples=400, deadline=None)
_DATED, _NEWEST = 1_700_000_000_123, -5

_TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from([*sorted(NONE_WORDS), " NULL ", "0e-5", "+00.0E7", "0.e1", "0-0", "5e", "\0"]),
)
_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False),
    _TEXTS, st.sampled_from([0, -1, "x" * 300, 10**30]),
)  # fmt: skip
_NAMES = st.sampled_from([
    "mpid", "mp_deviceid", "api_key", "batch_id", "consent_state", "context", "application_info",
    "device_info", "user_identities", "system_notifications", "user_attributes", "session_id",
    "package", "location", "email", "Email", "customerid", "customer_id", "CustomerID", "a", "b",
    "identity_type", "é", "ключ", 'q"', "\\", "\n", "",
])  # fmt: skip
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=12,
)
_CONTEXTS = st.dictionaries(_NAMES | _TEXTS, _VALUES, max_size=14)
_PATHS = st.lists(
    st.sampled_from([
        "mpid", "context", "context.location", "context.a.b", "application_info.package", "a",
        "user_identities", "user_identities.email", "user_identities.CustomerID", "device_info.a",
        "user_identities.customer_id", "system_notifications", "application_info", "é.a", "a..b",
    ]),
    max_size=4, unique=True,
)  # fmt: skip
_SETTINGS = st.fixed_dictionaries(
    {"metadata_field_exclusion": _PATHS.map(tuple)},
    optional={
        name: st.booleans()
        for name in (
            "include_location_information", "include_mp_deviceid", "include_metadata",
            "include_user_identities", "include_consent_state", "include_event_batch_location",
            "include_system_notifications", "int64_as_string",
        )
    }
    | {"unique_id": st.none() | st.text(max_size=5)},
)  # fmt: skip
_SINKS = st.sampled_from([
    KinesisTarget("s", "us-east-1", partition_key=key, max_record_bytes=limit)
    for key in PartitionKey
    for limit in (900, 1_048_576)
])  # fmt: skip
_SPACE = st.sampled_from([(",", ":"), (", ", " : "), (" ,\n", "\t:\r")])


def twin(documents: MParticleDocuments) -> Any:  # noqa: ANN401  # it has no stub
    assert documents.native is not None
    return documents.native


def same_frame(chosen: Connection, context: bytes) -> bool:
    """Tell whether the native core framed a context; it has to be as Python does."""
    documents = MParticleDocuments(chosen, chosen.sink.record_limit)
    found = twin(documents).frame(context, _DATED, _NEWEST)
    if found is not None:
        frame = documents.frame(context, _DATED, _NEWEST)
        assert (frame.user, frame.tail, frame.limit) == found
    return found is not None


@_THOROUGH
@given(_CONTEXTS, _SETTINGS, _SINKS, _SPACE, st.booleans())
def test_contexts_are_framed_alike(
    content: dict[str, Any],
    chosen: dict[str, Any],
    sink: KinesisTarget,
    separators: tuple[str, str],
    ascii_only: bool,  # noqa: FBT001
) -> None:
    context = json.dumps(content, separators=separators, ensure_ascii=ascii_only)
    made = Connection("lane", sink, settings=Settings(**chosen))
    framed = same_frame(made, context.encode())
    plain = "\\" not in context and context.isascii() and not _has_nested_identity(content)
    assert framed or not plain or chosen["metadata_field_exclusion"]


def _has_nested_identity(content: dict[str, Any]) -> bool:
    identities = content.get("user_identities")
    return isinstance(identities, dict) and any(
        isinstance(one, list | dict) for one in identities.values()
    )


@given(st.binary(max_size=40) | _CONTEXTS.map(lambda one: json.dumps(one).encode()[:-3]))
def test_what_is_no_context_harms_nobody(context: bytes) -> None:
    documents = MParticleDocuments(connection(), connection().sink.record_limit)
    twin(documents).frame(context, _DATED, _NEWEST)


@pytest.mark.parametrize(
    "context",
    [
        b'{"a":1,"a":2}',
        b'{"user_identities":{"email":"a","email":"b"}}',
        b'{"a\\u0062":1}',
        b'{"mpid":"\\u0031"}',
        '{"mpid":"é"}'.encode(),
        b'{"user_identities":{"x":{"a":1}}}',
        b"[]",
        b'{"a":1',
        b'{"a":"',
        b'{"a"',
        b'{"a":{"b":[}',
        b'{"%b":1}' % b'":1,"'.join(b"%d" % n for n in range(300)),
    ],
)
def test_what_takes_more_than_copying_is_left_to_python(context: bytes) -> None:
    documents = MParticleDocuments(connection(), connection().sink.record_limit)
    assert twin(documents).frame(context, _DATED, _NEWEST) is None


@given(st.binary(max_size=400))
def test_keys_have_the_same_digests(key: bytes) -> None:
    assert blake2b(key, digest_size=16).digest() == core.digest(key)


def collected(chosen: Connection, polls: list[list[Rec]], bounds: CollectBounds) -> list[Collected]:
    """Return what comes of each poll, and of the end."""
    fed = builders.pipeline(chosen, bounds=bounds)
    found = []
    for poll in polls:
        found.append(fed.collect(poll, NOW))
        while fed.has_pending_documents:
            found.append(fed.expire(0, 0, NOW))
    return [*found, *builders.finished(fed)]


_TAILS = TailSizes(first_look=1, short=200, long=200)
_BOUNDS = st.sampled_from(
    [CollectBounds(), CollectBounds(encoded_bytes=700), CollectBounds(tails=_TAILS)]
)
_MODES = st.sampled_from([*streams.MODES, {"send_batches_without_events": True}])
_CONNECTIONS = st.builds(
    lambda mode, chosen, sink, batching: connection(sink=sink, batching=batching, **mode, **chosen),
    _MODES,
    _SETTINGS,
    _SINKS,
    streams.BATCHINGS,
)


@_THOROUGH
@given(streams.streams(), _CONNECTIONS, _BOUNDS, st.lists(st.integers(1, 6), max_size=5))
def test_windows_become_the_same_batches(
    drawn: list[Rec], chosen: Connection, bounds: CollectBounds, sizes: list[int]
) -> None:
    polls = [list(poll) for poll in streams.cut(drawn, sizes)]
    by_core = collected(chosen, polls, bounds)
    with mock.patch.object(native, "_chosen", None):
        assert collected(chosen, polls, bounds) == by_core


def test_ordinary_windows_are_not_left_to_python() -> None:
    wrong = AssertionError("left to Python")
    small = CollectBounds(tails=_TAILS)
    with mock.patch("forwarder.collect.encode.DocumentEncoder.encode", side_effect=wrong):
        for mode in streams.MODES:
            chosen: dict[str, Any] = {**mode}
            out = builders.run(connection(**chosen), records(upload(event(), event(), mpid=5)))
            assert 2 == sum(batch.count for batch in out.batches)
        fed = [
            records(upload(event(t="x" * 150)), start=n, at=builders.START + n) for n in range(9)
        ]
        assert [9] == [batch.count for batch in collected(connection(), fed, small)[-1].batches]

"""The client's requests and answers are the bytes that its own field by field would be."""

import importlib
import pkgutil
import struct
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from aiokafka import protocol
from aiokafka.protocol import types
from aiokafka.protocol.message import Message
from aiokafka.protocol.produce import ProduceRequest_v7
from aiokafka.protocol.struct import Struct
from aiokafka.protocol.transaction import EndTxnResponse_v0
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.kafka.patches import structs


@pytest.fixture(autouse=True, scope="module")
def _patched() -> None:
    structs.install()


def classes() -> Iterator[type[Any]]:
    for module in pkgutil.iter_modules(protocol.__path__):
        importlib.import_module(f"aiokafka.protocol.{module.name}")
    waiting = [Struct]
    while waiting:
        found = waiting.pop().__subclasses__()
        waiting += found
        yield from (one for one in found if one.__module__.startswith("aiokafka.protocol."))


ALL = sorted(
    {one for one in classes() if one.SCHEMA.fields and one is not Message},
    key=lambda one: one.__name__,
)
KINDS = st.sampled_from(ALL)

_BITS = {types.Int8: 7, types.Int16: 15, types.Int32: 31, types.Int64: 63}
_BYTES = st.binary(max_size=8)


def values(field: Any) -> st.SearchStrategy[Any]:  # noqa: ANN401  # the client ships no types
    """Return values of one of the client's types."""
    if isinstance(field, type) and field in _BITS:
        return st.integers(-(1 << _BITS[field]), (1 << _BITS[field]) - 1)
    if isinstance(field, types.Schema):
        return st.tuples(*map(values, field.fields))
    if isinstance(field, types.Array):
        return st.none() | st.lists(values(field.array_of), max_size=3)
    if isinstance(field, types.String):
        return st.none() | st.text(max_size=5)
    return {
        types.UInt32: st.integers(0, (1 << 32) - 1),
        types.Float64: st.floats(allow_nan=False),
        types.Boolean: st.booleans(),
        types.Bytes: st.none() | _BYTES,
        types.CompactBytes: st.none() | _BYTES,
        types.TaggedFields: st.just({}),
    }.get(field, st.integers(0, 100))


def encoded(field: Any, value: Any) -> bytes:  # noqa: ANN401  # as above
    """Return what the client's own code makes of a value: each field by itself."""
    if isinstance(field, types.Schema):
        return b"".join(map(encoded, field.fields, value))
    if isinstance(field, types.Array) and value is not None:
        begin: bytes = field.encode([])
        assert isinstance(field, types.CompactArray) or begin == bytes(4)
        count = types.UnsignedVarInt32.encode(len(value) + 1)
        if not isinstance(field, types.CompactArray):
            count = types.Int32.encode(len(value))
        return bytes(count) + b"".join(encoded(field.array_of, one) for one in value)
    return bytes(field.encode(value))


def test_no_request_is_written_in_a_way_of_its_own() -> None:
    assert not [kind for kind in ALL if kind.encode is not Struct.encode]
    assert not [
        kind for kind in ALL if kind.decode.__func__ is not Struct.__dict__["decode"].__func__
    ]


@settings(max_examples=400)
@given(KINDS, st.data())
def test_every_request_and_answer_is_the_same_bytes_and_comes_back(
    kind: type[Any], data: st.DataObject
) -> None:
    fields = [data.draw(values(field)) for field in kind.SCHEMA.fields]
    made = object.__new__(kind)
    vars(made).update(zip(kind.SCHEMA.names, fields, strict=True))

    content = made.encode()

    assert b"".join(map(encoded, kind.SCHEMA.fields, fields)) == content
    assert content == kind.SCHEMA.encode(fields)
    if kind.__init__ is Struct.__init__:
        assert vars(made) == vars(kind.decode(content))
        assert vars(made) == vars(kind.decode(BytesIO(content)))
    assert tuple(fields) == kind.SCHEMA.decode(BytesIO(content))


@settings(max_examples=400)
@given(KINDS, st.data())
def test_what_is_cut_off_is_refused(kind: type[Any], data: st.DataObject) -> None:
    fields = [data.draw(values(field)) for field in kind.SCHEMA.fields]
    content: bytes = kind.SCHEMA.encode(fields)
    short = BytesIO(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises((ValueError, struct.error)):
        kind.SCHEMA.decode(short)


@pytest.mark.parametrize(
    "topics",
    [[("raw", [(1 << 31, b"")])], [("raw", [(0,)])], [("raw", [("0", b"")])], [("r" * 40_000, [])]],
    ids=["a number too large", "a field less", "a text for a number", "a text too long"],
)
def test_what_cannot_be_written_is_refused(topics: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"packed|count"):
        ProduceRequest_v7("t", -1, 1000, topics).encode()


def test_a_large_value_is_not_copied_before_all_is_joined() -> None:
    large = bytes(1 << 20)
    found = structs.parts(ProduceRequest_v7("t", -1, 1000, [("raw", [(0, large)])]))
    assert [large] == [part for part in found if part is large]


def test_an_answer_of_too_few_bytes_says_what_there_was() -> None:
    with pytest.raises(ValueError, match="cannot be unpacked"):
        EndTxnResponse_v0.decode(b"\0\0\0")

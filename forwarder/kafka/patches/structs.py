"""The client's requests and answers, written and read in fewer steps; the same bytes.

The client goes through every field of every row on its own, some microseconds each: an answer to a
fetch of 32 partitions has 300 of them. Patched, neighbours of a fixed size are packed and unpacked
at once, and a request is joined once, not at every level of its rows: it may hold megabytes.
"""

import struct
from collections.abc import Callable, Sequence
from io import BytesIO
from itertools import groupby
from typing import Any

from aiokafka.protocol import types
from aiokafka.protocol.struct import Struct

FIXED = {
    types.Int8: "b",
    types.Int16: "h",
    types.Int32: "i",
    types.UInt32: "I",
    types.Int64: "q",
    types.Float64: "d",
    types.Boolean: "?",
}
"""The client's types of a fixed size, and the letter that ``struct`` has for each."""

Append = Callable[[bytes], None]
Write = Callable[[Any, Append], None]
"""Appends the parts of a value; raises ValueError, or what the client's own type raises."""
Read = Callable[[BytesIO], Any]
"""Returns the value that comes next; raises ValueError, or what the client's own type raises."""

_INT16, _INT32 = struct.Struct(">h"), struct.Struct(">i")
_COMPILED = "_forwarder_compiled"


def install() -> None:
    """Have every request and answer of this process take this way; twice changes nothing."""
    Struct.encode = _encode_struct
    Struct.decode = classmethod(_decode_struct)
    types.Schema.encode = _encode_item
    types.Schema.decode = _decode_item


def parts(one: Any) -> list[bytes]:  # noqa: ANN401  # the client ships no types
    """Return the bytes of a request or its header, unjoined. Raises ValueError."""
    found: list[bytes] = []
    values, schema = vars(one), one.SCHEMA
    _compiled(schema)[0]([values[name] for name in schema.names], found.append)
    return found


def _encode_struct(one: Any) -> bytes:  # noqa: ANN401
    return b"".join(parts(one))


def _decode_struct(kind: Any, data: BytesIO | bytes) -> Any:  # noqa: ANN401
    values = _compiled(kind.SCHEMA)[1](BytesIO(data) if isinstance(data, bytes) else data)
    if kind.__init__ is not Struct.__init__:
        return kind(*values)
    made = object.__new__(kind)
    vars(made).update(zip(kind.SCHEMA.names, values, strict=True))
    return made


def _encode_item(schema: Any, item: Sequence[Any]) -> bytes:  # noqa: ANN401
    found: list[bytes] = []
    _compiled(schema)[0](item, found.append)
    return b"".join(found)


def _decode_item(schema: Any, data: BytesIO) -> tuple[Any, ...]:  # noqa: ANN401
    values: tuple[Any, ...] = _compiled(schema)[1](data)
    return values


def _compiled(schema: Any) -> tuple[Write, Read]:  # noqa: ANN401
    """Return how rows of a schema are written and read; found out once for each."""
    found: tuple[Write, Read] | None = vars(schema).get(_COMPILED)
    if found is None:
        found = _schema_writer(schema), _schema_reader(schema)
        setattr(schema, _COMPILED, found)
    return found


def _runs(schema: Any) -> list[tuple[struct.Struct | None, list[Any]]]:  # noqa: ANN401
    """Return the fields in order: neighbours of a fixed size together, every other one alone."""
    found: list[tuple[struct.Struct | None, list[Any]]] = []
    for is_fixed, fields in groupby(schema.fields, lambda field: _letter(field) is not None):
        if is_fixed:
            run = list(fields)
            found.append((struct.Struct(">" + "".join(FIXED[field] for field in run)), run))
        else:
            found += [(None, [field]) for field in fields]
    return found


def _letter(field: Any) -> str | None:  # noqa: ANN401
    return FIXED.get(field) if isinstance(field, type) else None


# ----------------------------------------------------------------- writing


def _schema_writer(schema: Any) -> Write:  # noqa: ANN401
    count = len(schema.fields)
    steps: list[tuple[Callable[..., bytes] | None, int, int, Write]] = []
    at = 0
    for run, fields in _runs(schema):
        end = at + len(fields)
        steps.append((run.pack if run else None, at, end, _writer(fields[0])))
        at = end

    def write(item: Sequence[Any], append: Append) -> None:
        if len(item) != count:
            text = "Item field count does not match Schema"
            raise ValueError(text)
        for pack, begin, end, one in steps:
            if pack is None:
                one(item[begin], append)
                continue
            try:
                append(pack(*item[begin:end]))
            except struct.error as error:
                text = f"{item[begin:end]!r} cannot be packed: {error}"
                raise ValueError(text) from error

    return write


def _writer(field: Any) -> Write:  # noqa: ANN401
    """Return how a value of one of the client's types is written."""
    if isinstance(field, types.Schema):
        return _compiled(field)[0]
    if type(field) is types.String:
        return _string_writer(field.encoding)
    if type(field) is types.Array:
        return _array_writer(_writer(field.array_of))
    if field is types.Bytes:
        return _write_bytes
    encode = field.encode  # also of a fixed size, where it is alone in an array
    return lambda value, append: append(encode(value))


def _string_writer(encoding: str) -> Write:
    def write(value: Any, append: Append) -> None:  # noqa: ANN401
        if value is None:
            append(b"\xff\xff")
            return
        encoded = str(value).encode(encoding)
        append(_length(_INT16, len(encoded)) + encoded)

    return write


def _array_writer(write_one: Write) -> Write:
    def write(items: Sequence[Any] | None, append: Append) -> None:
        if items is None:
            append(b"\xff\xff\xff\xff")
            return
        append(_length(_INT32, len(items)))
        for item in items:
            write_one(item, append)

    return write


def _write_bytes(value: bytes | None, append: Append) -> None:
    if value is None:
        append(b"\xff\xff\xff\xff")
        return
    append(_length(_INT32, len(value)))
    append(value)


def _length(size: struct.Struct, length: int) -> bytes:
    try:
        return size.pack(length)
    except struct.error as error:
        text = f"a length of {length} cannot be packed: {error}"
        raise ValueError(text) from error


# ----------------------------------------------------------------- reading


def _schema_reader(schema: Any) -> Read:  # noqa: ANN401
    runs = _runs(schema)
    steps = [(run, run.size if run else 0, _reader(fields[0])) for run, fields in runs]

    def read(data: BytesIO) -> tuple[Any, ...]:
        found: list[Any] = []
        for run, size, one in steps:
            if run is None:
                found.append(one(data))
            else:
                found += _unpack(run, data.read(size))
        return tuple(found)

    return read


def _reader(field: Any) -> Read:  # noqa: ANN401
    """Return how a value of one of the client's types is read."""
    if isinstance(field, types.Schema):
        return _compiled(field)[1]
    if type(field) is types.String:
        return _string_reader(field.encoding)
    if type(field) is types.Array:
        return _array_reader(field.array_of)
    if field is types.Bytes:
        return _read_bytes
    decode: Read = field.decode
    return decode


def _array_reader(field: Any) -> Read:  # noqa: ANN401
    read_one = _reader(field)

    def read(data: BytesIO) -> list[Any] | None:
        (count,) = _unpack(_INT32, data.read(4))
        return None if count == -1 else [read_one(data) for _ in range(count)]

    return read


def _string_reader(encoding: str) -> Read:
    def read(data: BytesIO) -> str | None:
        (length,) = _unpack(_INT16, data.read(2))
        return None if length < 0 else _exactly(data, length).decode(encoding)

    return read


def _read_bytes(data: BytesIO) -> bytes | None:
    (length,) = _unpack(_INT32, data.read(4))
    return None if length < 0 else _exactly(data, length)


def _exactly(data: BytesIO, length: int) -> bytes:
    found = data.read(length)
    if len(found) != length:
        text = f"{length} bytes are announced, {len(found)} are left"
        raise ValueError(text)
    return found


def _unpack(run: struct.Struct, content: bytes) -> tuple[Any, ...]:
    try:
        return run.unpack(content)
    except struct.error as error:
        text = f"{content!r} cannot be unpacked: {error}"
        raise ValueError(text) from error

"""Take JSON apart one level at a time, leaving every value as the bytes that came in.

msgspec does it, but refuses unpaired surrogate escapes. They are legal JSON (RFC 8259, 8.2) and
real: ``JSON.stringify`` writes them for a text that was cut inside an emoji. Such bytes take the
slow way through the standard library, which gives the same result.
"""

import json
import re
from collections.abc import Iterator
from typing import NoReturn

import msgspec
from msgspec import Raw

_FIELDS = msgspec.json.Decoder(dict[str, Raw])
_ELEMENTS = msgspec.json.Decoder(list[Raw])
_ENCODER = msgspec.json.Encoder()
_TEXT = msgspec.json.Decoder(str)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_HALF_OR_PAIR = re.compile(
    rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(\\u[dD][c-fC-F][0-9a-fA-F]{2})?|[c-fC-F][0-9a-fA-F]{2})"
)
_BACKSLASH = 0x5C
_SPACE = re.compile(r"[ \t\n\r]*")
_TEXT_OR_SPACE = re.compile(rb'("(?:[^"\\]|\\.)*")|[ \t\n\r]+')
_INTEGER = re.compile(rb"-?(?:0|[1-9][0-9]*)")

NULL = b"null"
ABSENT = Raw(b"")
"""Stands for a key that is not there; compare with ``is``."""


class JsonError(ValueError):
    """The bytes are not JSON; the text never quotes them."""


class ShapeError(ValueError):
    """The bytes are JSON, but not the object or array asked for."""


def fields(value: bytes) -> dict[str, Raw]:
    """Return an object's keys with their raw values; of a repeated key the last one counts.

    The values are views: they keep all of ``value`` alive. Raises JsonError or ShapeError, and
    RecursionError where the nesting is too deep.
    """
    try:
        return _FIELDS.decode(value)
    except msgspec.ValidationError as error:
        raise ShapeError(str(error)) from None
    except msgspec.DecodeError as error:
        return dict(_members(_lenient(value, error, dict)))


def elements(value: bytes) -> list[Raw]:
    """Return an array's raw elements; views and errors as for ``fields``."""
    try:
        return _ELEMENTS.decode(value)
    except msgspec.ValidationError as error:
        raise ShapeError(str(error)) from None
    except msgspec.DecodeError as error:
        return list(_entries(_lenient(value, error, list)))


def split_values(joined: bytes) -> list[Raw]:
    """Return the raw values of a comma-joined run."""
    return elements(b"[%b]" % joined)


def encode_object(members: dict[str, Raw]) -> bytes:
    """Return the object with these members; their values stay as they are."""
    try:
        return _ENCODER.encode(members)
    except UnicodeEncodeError:  # a key with an unpaired surrogate
        return b"{%b}" % b",".join(b"%b:%b" % (_key(k), v) for k, v in members.items())


def _key(text: str) -> bytes:
    """Return a key with half a surrogate pair, which alone is an escape: never longer than it came.

    ``quote`` is of another form there: window keys are made by it, and those never change.
    """
    return json.dumps(text, ensure_ascii=False).encode(errors="backslashreplace")


def encode_exact(members: dict[str, Raw]) -> bytes:
    """Encode what is going to wait: a copy of its exact size, as encoders shrink large buffers."""
    return bytes(memoryview(encode_object(members)))


def encode_array(values: list[Raw]) -> bytes:
    """Return the array of these values; they stay as they are."""
    return b"[%b]" % b",".join(bytes(value) for value in values)


def quote(text: str) -> bytes:
    """Return a text as a JSON string, with no more escapes than it needs."""
    try:
        return _ENCODER.encode(text)
    except UnicodeEncodeError:
        return json.dumps(text).encode()


def text_of(value: bytes) -> str | None:
    """Return a string's text, or a number's digits as they came; None for anything else."""
    first = value[:1]
    if first == b'"':
        try:
            return _TEXT.decode(value)
        except msgspec.DecodeError:
            return str(json.loads(value))
    return value.decode() if first.isdigit() or first == b"-" else None


def name_token(value: bytes) -> bytes:
    """Return one spelling for equal names: escapes resolved, a number like its text."""
    first = value[:1]
    if first == b'"':
        return quote(text_of(value) or "") if b"\\" in value else value
    return b'"%b"' % value if first.isdigit() or first == b"-" else value


def compact(value: bytes) -> bytes:
    """Return JSON, known to be some, without white space between its values."""
    try:
        return msgspec.json.format(value, indent=-1)
    except msgspec.DecodeError:  # half a surrogate pair
        return _TEXT_OR_SPACE.sub(rb"\1", value)


def repeats_key(value: bytes) -> bool:
    """Tell whether an object has a key twice; see ``repeated_key``."""
    return repeated_key(value) is not None


def repeated_key(value: bytes) -> str | None:
    """Return a key that an object has twice, so that every reader takes the value it likes.

    None: there is none. Deeper levels are not looked at. Errors as for ``fields``.
    """
    try:
        # Without spaces, and encoded again with each key once: keys are never shorter than they
        # are encoded, so an equal length leaves no room for another.
        compact = msgspec.json.format(value, indent=-1)
        if len(_ENCODER.encode(_FIELDS.decode(compact))) == len(compact):
            return None
    except (msgspec.DecodeError, UnicodeEncodeError):
        fields(value)  # raises what is to be raised
    return _find_repeated(value)


def _find_repeated(value: bytes) -> str | None:
    """Return the first key that comes twice, None if none does, by looking at each; slow."""
    return next(iter(repeated_keys(value)), None)


def repeated_keys(value: bytes) -> list[str]:
    """Return every key that an object has more than once, by looking at each; slow."""
    seen: set[str] = set()
    found: dict[str, None] = {}
    for key, _ in _PAIRS.decode(value.decode().strip(" \t\n\r")):
        if key in seen:
            found[key] = None
        seen.add(key)
    return list(found)


def replace_halves(value: bytes) -> bytes:
    """Return JSON with U+FFFD for each half of a surrogate pair, as decoders of UTF-8 have it."""

    def replaced(match: re.Match[bytes]) -> bytes:
        found, low, at = match[0], match[1], match.start()
        while at and value[at - 1] == _BACKSLASH:
            at -= 1
        if (match.start() - at) % 2:  # the first backslash is itself escaped
            return found[:6] + (b"\\ufffd" if low else b"")
        return found if low else b"\\ufffd"

    if b"\\ud" in value or b"\\uD" in value:  # hardly ever
        return _HALF_OR_PAIR.sub(replaced, value)
    return value


def first_member(value: bytes, name: str) -> Raw:
    """Return the first value that an object has under a key, ``ABSENT`` if it has none; slow.

    Elsewhere the last one counts. Errors as for ``fields``.
    """
    fields(value)  # raises what is to be raised
    for key, found in _members(value.decode().strip(" \t\n\r")):
        if key == name:
            return found
    return ABSENT


def is_integer(value: bytes) -> bool:
    """Tell whether the raw value is a number without fraction and exponent."""
    return _INTEGER.fullmatch(value) is not None


def _refuse(_name: str) -> NoReturn:
    message = "NaN and Infinity are not JSON"
    raise ValueError(message)


# Numbers stay text: int() refuses more than 4300 digits.
_STRICT = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse)
_PAIRS = json.JSONDecoder(object_pairs_hook=list, parse_int=str, parse_float=str)


def _lenient(value: bytes, error: Exception, kind: type) -> str:
    """Check bytes that msgspec refused, if an unpaired surrogate may be the cause; as text."""
    if not _SURROGATE.search(value):
        raise JsonError(str(error)) from None
    text = bytes(value).decode().strip(" \t\n\r")
    try:
        whole = _STRICT.decode(text)
    except ValueError as cause:
        raise JsonError(getattr(cause, "msg", "not JSON")) from None
    if not isinstance(whole, kind):
        message = f"Expected `{'object' if kind is dict else 'array'}`"
        raise ShapeError(message)
    return text


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _value(text: str, at: int) -> tuple[Raw, int]:
    """Return the value that begins at or after ``at``, and where what follows it begins."""
    start = _skip(text, at)
    end = _STRICT.raw_decode(text, start)[1]
    return Raw(text[start:end].encode()), _skip(text, end)


def _members(text: str) -> Iterator[tuple[str, Raw]]:
    at = _skip(text, 1)
    while text[at] != "}":
        key, at = _STRICT.raw_decode(text, at)
        value, at = _value(text, _skip(text, at) + 1)
        yield key, value
        at = _skip(text, at + 1) if text[at] == "," else at


def _entries(text: str) -> Iterator[Raw]:
    at = _skip(text, 1)
    while text[at] != "]":
        value, at = _value(text, at)
        yield value
        at = _skip(text, at + 1) if text[at] == "," else at

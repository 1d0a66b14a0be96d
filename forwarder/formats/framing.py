"""What other programs put in front of JSON: a byte order mark, or a schema registry's frame.

Looked at only for a record that is no JSON as it is, so that it costs the others nothing.
"""

_MARK = b"\xef\xbb\xbf"
_OTHER_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_SPACE = b" \t\r\n"
_FRAME = 5
"""Bytes of Confluent's frame: a zero, and the number of the schema in four bytes.

https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/
"""


def strip_framing(value: bytes) -> bytes | None:
    """Return the JSON after a byte order mark or a frame; None: there is neither, or no JSON."""
    framed = _is_framed(value)
    begin = _FRAME if framed else 0
    marked = value[begin : begin + len(_MARK)] == _MARK
    begin += len(_MARK) if marked else 0
    rest = value[begin:] if begin else b""
    return rest if rest.lstrip(_SPACE)[:1] in {b"{", b"["} else None


def framing_cause(value: bytes) -> str:
    """Say what else stands before a record that is no JSON; empty: nothing known."""
    if name := _OTHER_MARKS.get(value[:2]):
        return f"is {name}, write UTF-8"
    if _is_framed(value):
        number = int.from_bytes(value[1:_FRAME], "big")
        return f"has a schema registry's frame (schema {number}) and no JSON in it, write JSON"
    return ""


def _is_framed(value: bytes) -> bool:
    return len(value) > _FRAME and value[0] == 0

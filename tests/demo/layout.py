"""JSON for reading: what fits on a line stays on one, and every number keeps its spelling."""

import json
from typing import Any, NamedTuple

INDENT = 2


class Number(NamedTuple):
    """A JSON number as it is spelled; two are equal if their digits are."""

    digits: str


def exact(document: bytes) -> Any:  # noqa: ANN401  # any JSON
    """Parse JSON and keep the spelling of every number."""
    return json.loads(document, parse_int=Number, parse_float=Number)


def folded(value: Any, width: int, indent: int = 0, used: int = 0) -> str:  # noqa: ANN401  # any JSON
    """Return ``value`` as JSON of lines no longer than ``width``, where that can be.

    ``indent`` is where its closing bracket stands, ``used`` how much of its first line is taken.
    """
    line = flat(value)
    if len(line) + max(used, indent) <= width or not isinstance(value, list | dict) or not value:
        return line
    inner = " " * (indent + INDENT)
    if isinstance(value, dict):
        keys = [f"{json.dumps(key)}: " for key in value]
        parts = list(zip(keys, value.values(), strict=True))
        opening, closing = "{", "}"
    else:
        parts = [("", element) for element in value]
        opening, closing = "[", "]"
    rows = [
        f"{inner}{key}{folded(part, width - 1, indent + INDENT, len(inner) + len(key))}"
        for key, part in parts
    ]
    return "\n".join([opening, ",\n".join(rows), " " * indent + closing])


def flat(value: Any) -> str:  # noqa: ANN401  # any JSON
    """Return ``value`` as JSON on one line."""
    if isinstance(value, Number):
        return value.digits
    if isinstance(value, dict):
        pairs = (f"{json.dumps(key)}: {flat(part)}" for key, part in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flat, value)) + "]"
    return json.dumps(value, ensure_ascii=False)

"""Reads and writes JSON for the corpus as it is spelled.

Python's own reading takes ``true`` for ``1``, ``1.10`` for ``1.1`` and the last of two values under
one key for both: a comparison through it sees less than the readers of a document do.
"""

import json
from dataclasses import dataclass
from typing import Any

from tests.oracle import Number


@dataclass(frozen=True)
class Twice:
    """An object that has a key twice, as what nobody reads is passed through."""

    pairs: tuple[tuple[str, object], ...]


def exact(text: bytes | str) -> Any:  # noqa: ANN401  # any JSON value
    """Return a JSON value with its numbers as text; raises ValueError."""
    return json.loads(
        text,
        parse_int=Number,
        parse_float=Number,
        parse_constant=_refused,
        object_pairs_hook=_object,
    )


def written(value: object, indent: int = 0) -> str:
    """Return what was read, as JSON for people, with every number as it was."""
    if isinstance(value, Number):
        return value.text
    if not value or not isinstance(value, dict | list | Twice):
        return json.dumps(value, ensure_ascii=False)
    inner, end = "\n" + " " * (indent + 1), "\n" + " " * indent
    if isinstance(value, list):
        parts = [written(one, indent + 1) for one in value]
        return f"[{inner}{f',{inner}'.join(parts)}{end}]"
    pairs = value.pairs if isinstance(value, Twice) else value.items()
    parts = [f"{written(key)}: {written(one, indent + 1)}" for key, one in pairs]
    return f"{{{inner}{f',{inner}'.join(parts)}{end}}}"


def _object(pairs: list[tuple[str, object]]) -> dict[str, object] | Twice:
    found = dict(pairs)
    return found if len(found) == len(pairs) else Twice(tuple(pairs))


def _refused(name: str) -> None:
    msg = f"{name} is no JSON"
    raise ValueError(msg)

"""Inputs that once came out wrong, or might, with what is expected of each.

An entry is a folder in ``tests/data/corpus``: ``connection.yaml``, ``input.ndjson`` and
``expected.json``. ``python -m tests.corpus NAME`` runs one and prints what comes out.
"""

import base64
from pathlib import Path
from typing import Any

from forwarder import app
from forwarder.config import loader
from tests.corpus.reading import Twice, exact
from tests.oracle import Number

CORPUS = Path(__file__).parent.parent / "data" / "corpus"

DERIVED = ("message_id", "message_type", "schema_version", "batch_id")
"""Keys that every document has whatever came in: left out of what is expected."""


def entries() -> list[Path]:
    """Return the folders of all entries, by name."""
    return sorted(path for path in CORPUS.iterdir() if path.is_dir())


async def outcome(entry: Path, out: Path) -> dict[str, Any]:
    """Run one entry through the program, into the folder ``out``; return what came of it.

    ``documents`` in their order without the derived keys, ``dropped``: events left out by
    setting, ``dead_letters``: reason and bytes, read as JSON where they are. Numbers stand as they
    are spelled; raises ValueError for a document that has a key twice at its top.
    """
    source = next(entry.glob("input.*"))
    loaded = loader.load_connection(entry / "connection.yaml", offline=True)
    tally = await app.run_file([loaded.connection], str(source), out)
    documents = [exact(line) for line in _lines(out / f"{loaded.connection.name}.ndjson")]
    dropped: dict[str, int] = {}
    for (_, setting), count in tally.filtered.items():
        dropped[setting] = dropped.get(setting, 0) + count
    letters = [exact(line) for line in _lines(out / "dead-letters.ndjson")]
    return {
        "documents": [_without_derived(document) for document in documents],
        "dropped": {setting: Number(str(count)) for setting, count in dropped.items()},
        "dead_letters": [{"reason": one["reason"], "value": _readable(one)} for one in letters],
    }


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n")[:-1]


def _without_derived(document: dict[str, Any] | Twice) -> dict[str, Any]:
    if isinstance(document, Twice):
        msg = f"a key is twice in {document}"
        raise ValueError(msg)  # noqa: TRY004  # it is what was made that is wrong
    return {key: value for key, value in document.items() if key not in DERIVED}


def _readable(letter: dict[str, Any]) -> object:
    """Return a dead letter's bytes as JSON, else as text, what is no UTF-8 replaced."""
    value = base64.b64decode(letter["value_base64"])
    try:
        return exact(value)
    except (ValueError, RecursionError):
        return value.decode(errors="replace")

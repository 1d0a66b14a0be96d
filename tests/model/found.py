"""Histories known to find the mutations, kept in ``found.json``."""

from pathlib import Path

import msgspec

from tests.model.world import Action, Setting

FILE = Path(__file__).with_name("found.json")


class Found(msgspec.Struct):
    """A history, what it breaks, and the seed it was shrunk from."""

    seed: int
    fault: str
    setting: Setting
    actions: list[Action]


def load() -> dict[str, Found]:
    """Return the histories by the mutations' names."""
    return msgspec.json.decode(FILE.read_bytes(), type=dict[str, Found])


def store(name: str, one: Found) -> None:
    """Keep a history."""
    known = load() if FILE.exists() else {}
    known[name] = one
    ordered = dict(sorted(known.items()))
    lines = [f'"{n}": {msgspec.json.encode(f).decode()}' for n, f in ordered.items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")

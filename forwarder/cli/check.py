"""``forwarder check``: every fault in one run, or the settings as the worker will see them."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from forwarder.cli import output
from forwarder.config import describe, loader


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare which files to check."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--config", type=Path, metavar="FILE", help="forwarder.yaml; its connections too"
    )
    which.add_argument("--connection", type=Path, metavar="FILE", help="a single connection file")


def run(args: argparse.Namespace) -> int:
    """Print effective settings and notes; raises ConfigurationError with every fault."""
    lines = _configuration(args.config) if args.config else _connection(args.connection)
    output.show("\n".join(lines) + "\n")
    return 0


def _configuration(path: Path) -> Iterator[str]:
    loaded = loader.load(path)
    yield from describe.worker_lines(loaded.worker_sheet)
    connections = loaded.configuration.connections
    for sheet, connection in zip(loaded.connection_sheets, connections, strict=True):
        yield ""
        yield from describe.connection_lines(sheet, connection)
    yield from _closing(len(connections), loaded.notes)


def _connection(path: Path) -> Iterator[str]:
    loaded = loader.load_connection(path)
    yield from describe.connection_lines(loaded.sheet, loaded.connection)
    yield from _closing(1, loaded.notes)


def _closing(connections: int, notes: tuple[str, ...]) -> Iterator[str]:
    yield ""
    for note in notes:
        yield f"note: {note}"
    plural = "" if connections == 1 else "s"
    yield f"ok: {connections} connection{plural}, no faults"

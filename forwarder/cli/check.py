"""``forwarder check``: every fault in one run, or the settings as the worker will see them."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from forwarder.cli import output
from forwarder.config import describe, loader, masking
from forwarder.config.connection import Connection
from forwarder.config.gateway import Gateway
from forwarder.config.load_run import ConfigFaultsError
from forwarder.config.loader import LoadedConfiguration, LoadedConnection
from forwarder.config.yaml.faults import ConfigFault
from forwarder.config.yaml.sections import SectionValues


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare which files to check, and how to say what is found."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "file",
        type=Path,
        nargs="?",
        metavar="FILE",
        help="a forwarder.yaml with its connections, or a single connection file",
    )
    which.add_argument(
        "--config", type=Path, metavar="FILE", help="forwarder.yaml; its connections too"
    )
    which.add_argument("--connection", type=Path, metavar="FILE", help="a single connection file")
    parser.add_argument(
        "--no-secrets",
        action="store_true",
        help="variables and files that are not here are notes, as where the worker does not run",
    )
    parser.add_argument(
        "--quiet", action="store_true", help="print faults and notes only, no settings"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON document with faults and notes"
    )


def run(args: argparse.Namespace) -> int:
    """Print effective settings and notes; raises ConfigurationError with every fault.

    With ``--json`` the faults are in the document, and 2 is returned.
    """
    try:
        loaded = _load(args)
    except ConfigFaultsError as error:
        if not args.json:
            raise
        output.print_json(_document(error.found, error.noted, [], None))
        return 2
    output.hide_suspects(loaded.suspects)
    if args.json:
        output.print_json(_document([], loaded.noted, loaded.written, loaded.gateway))
    elif text := "\n".join(_lines(loaded, quiet=args.quiet)):
        output.print_text(f"{text}\n")
    return 0


def _load(args: argparse.Namespace) -> LoadedConfiguration | LoadedConnection:
    if args.file:
        return loader.load_either(args.file, elsewhere=args.no_secrets)
    if args.config:
        return loader.load_everything(args.config, elsewhere=args.no_secrets)
    return loader.load_connection(args.connection, elsewhere=args.no_secrets)


def _lines(loaded: LoadedConfiguration | LoadedConnection, *, quiet: bool) -> Iterator[str]:
    notes = [f"note: {note}" for note in loaded.notes]
    if quiet:
        yield from notes
        return
    if loaded.worker_section is not None:
        yield from describe.worker_lines(loaded.worker_section)
        yield ""
    for section, connection in loaded.written:
        yield from describe.connection_lines(section, connection)
        yield ""
    yield from notes
    count = len(loaded.written)
    plural = "" if count == 1 else "s"
    served = "a gateway, " if loaded.gateway else ""
    yield f"ok: {served}{count} connection{plural}, no faults"


def _document(
    faults: Sequence[ConfigFault],
    notes: Sequence[ConfigFault],
    written: Sequence[tuple[SectionValues, Connection]],
    gateway: Gateway | None,
) -> dict[str, Any]:
    return {
        "faults": list(map(_place, faults)),
        "notes": list(map(_place, notes)),
        "connections": [
            {
                "name": masking.mask(connection.name),
                "file": masking.mask_line(section.node.file.name),
                "status": str(connection.status),
                "sink": section.get("sink").value_or_placeholder("type"),
                "mode": str(connection.mode),
                "about": list(describe.summary_lines(connection)),
            }
            for section, connection in written
        ],
        **_gateway(gateway),
    }


def _gateway(gateway: Gateway | None) -> dict[str, Any]:
    """Say what a gateway serves, where there is one."""
    if gateway is None:
        return {}
    about = map(masking.mask_line, describe.gateway_summary(gateway))
    return {"gateway": {"about": list(about)}}


def _place(fault: ConfigFault) -> dict[str, Any]:
    return {"file": fault.file, "line": fault.line, "key": fault.key, "message": fault.text}

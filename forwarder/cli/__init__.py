"""The command line: which commands there are, and what their exit codes mean."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module, metadata
from typing import Protocol, cast

from forwarder.cli import output
from forwarder.errors import ConfigurationError, ForwarderError

OK, RUNTIME, CONFIGURATION = 0, 1, 2
"""Exit codes; wrong arguments count as configuration."""

# name -> (module, what it does). A module is imported once its command is chosen, so that `check`
# does not wait for the clients of Kafka and AWS.
COMMANDS = {
    "run": ("forwarder.cli.run", "forward events until stopped"),
    "check": (
        "forwarder.cli.check",
        "report every fault of the configuration, or show its settings",
    ),
    "doctor": ("forwarder.cli.doctor", "try Kafka and every connection for real"),
    "iam": ("forwarder.cli.iam", "print the IAM policies that are enough for a connection"),
    "schema": ("forwarder.cli.schema", "print the JSON Schema of connection files"),
    "status": (
        "forwarder.cli.status",
        "show how partitions and connections stand, from Kafka alone",
    ),
    "outbox": ("forwarder.cli.outbox", "show what is stored for a connection"),
    "replay": ("forwarder.cli.replay", "send stored batches once more, touching no cursor"),
    "dead-letters": (
        "forwarder.cli.dead_letters",
        "list dead letters, show one, or send them back once the cause is mended",
    ),
    "reset": ("forwarder.cli.reset", "move where the group collects, while no worker runs"),
    "accept-loss": (
        "forwarder.cli.accept_loss",
        "let a partition or a connection go on without what is lost",
    ),
}


class Command(Protocol):
    """What a command's module offers."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare its arguments."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it; return the exit code. ForwarderError is for ``main`` to print."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0, 1 (runtime) or 2 (configuration)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = _parser(next((word for word in arguments if word in COMMANDS), "")).parse_args(arguments)
    try:
        return _module(args.command).run(args)
    except ConfigurationError as error:
        return _failed(args, CONFIGURATION, str(error), str(error))
    except ForwarderError as error:
        return _failed(args, RUNTIME, str(error), f"forwarder: {error}")
    except KeyboardInterrupt:
        return _failed(args, RUNTIME, "stopped", "forwarder: stopped")


def _failed(args: argparse.Namespace, code: int, error: str, line: str) -> int:
    """Say why on stderr, and with ``--json`` on stdout as well: whoever parses it gets JSON."""
    if getattr(args, "json", False):
        output.document({"error": error})
    sys.stderr.write(f"{line}\n")
    return code


def _parser(chosen: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="forwarder",
        description="Forward app events from Kafka into Kinesis, in batches per device.",
    )
    parser.add_argument("--version", action="version", version=f"forwarder {_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (_, about) in COMMANDS.items():
        command = commands.add_parser(
            name, help=about, description=f"{about[0].upper()}{about[1:]}."
        )
        if name == chosen:
            _module(name).add_arguments(command)
    return parser


def _version() -> str:
    try:
        return metadata.version("forwarder")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _module(name: str) -> Command:
    return cast("Command", import_module(COMMANDS[name][0]))

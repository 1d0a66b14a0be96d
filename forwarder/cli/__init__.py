"""The command line: which commands there are, and what their exit codes mean."""

import argparse
import contextlib
import difflib
import re
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, NoReturn, Protocol, cast

from forwarder import native
from forwarder.cli import output
from forwarder.config import masking
from forwarder.errors import ConfigurationError, ForwarderError
from forwarder.ops import log_writer
from forwarder.ops.version import version

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

OK, RUNTIME, CONFIGURATION, INTERRUPTED = 0, 1, 2, 128 + signal.SIGINT
"""Exit codes; wrong arguments count as configuration. Shells say 130 of what Ctrl-C ended."""


class _CommandEntry(NamedTuple):
    """The module of a command, and what it does, for people."""

    module: str
    about: str


# A module is imported once its command is chosen, so that `check` does not wait for the clients of
# Kafka and AWS.
COMMANDS = {
    "run": _CommandEntry("forwarder.cli.run", "forward events until stopped"),
    "gateway": _CommandEntry(
        "forwarder.cli.gateway", "serve Pinpoint's events API and mParticle's, until stopped"
    ),
    "check": _CommandEntry(
        "forwarder.cli.check", "report every fault of the configuration, or show its settings"
    ),
    "doctor": _CommandEntry("forwarder.cli.doctor", "try Kafka and every connection for real"),
    "iam": _CommandEntry(
        "forwarder.cli.iam", "print the IAM policies that are enough for a connection"
    ),
    "import": _CommandEntry(
        "forwarder.cli.imports", "make connection files of event streams of Pinpoint"
    ),
    "schema": _CommandEntry(
        "forwarder.cli.schema", "print the JSON Schema of connection files, or of the worker's"
    ),
    "status": _CommandEntry(
        "forwarder.cli.status", "show how partitions and connections stand, from Kafka alone"
    ),
    "outbox": _CommandEntry("forwarder.cli.outbox", "show what is stored for a connection"),
    "replay": _CommandEntry(
        "forwarder.cli.replay", "send stored batches once more, touching no cursor"
    ),
    "dead-letters": _CommandEntry(
        "forwarder.cli.dead_letters",
        "list dead letters, show one, or send them back once the cause is mended",
    ),
    "reset": _CommandEntry(
        "forwarder.cli.reset", "move where the group collects, while no worker runs"
    ),
    "accept-loss": _CommandEntry(
        "forwarder.cli.accept_loss", "let a partition or a connection go on without what is lost"
    ),
}


class Command(Protocol):
    """What a command's module offers."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare its arguments."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it; return the exit code. ForwarderError is for ``main`` to print."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0, 1 (runtime), 2 (configuration) or 130 (interrupted).

    What it prints on stderr goes through the log's queue: neither a reader that is gone nor a full
    disk ends a command or changes its exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    log_writer.install()
    output.hide_suspects(())
    try:
        return _run_reporting_errors(arguments)
    finally:
        log_writer.uninstall()


def _run_reporting_errors(arguments: list[str]) -> int:
    """Run a command, say on stderr what went wrong, and return the exit code."""
    args = argparse.Namespace()
    try:
        try:
            return _run(arguments, args)
        finally:
            output.flush_stdout()
    except ConfigurationError as error:
        return _print_error(args, CONFIGURATION, str(error), str(error))
    except ForwarderError as error:
        text = str(error)
        line = f"forwarder: {text}"
        return _print_error(args, RUNTIME, text, line if "\n" in text else output.wrap_text(line))
    except KeyboardInterrupt:
        return _print_error(args, INTERRUPTED, "stopped", "forwarder: stopped")
    except Exception as error:  # noqa: BLE001  # logged with its traceback; the exit code is kept
        from forwarder.ops import logs  # noqa: PLC0415  # `schema` needs no log

        logs.crashed(error)
        kind = type(error).__name__
        return _print_error(args, RUNTIME, kind, f"forwarder: a fault of the program ({kind})")


def _run(arguments: list[str], args: argparse.Namespace) -> int:
    """Do what the arguments say, which are put into ``args``; without any, print the help."""
    parser = _parser(next((word for word in arguments if word in COMMANDS), ""))
    if not arguments:
        parser.print_help()
        return OK
    parser.parse_args(arguments, args)
    command = _module(args.command)
    before = signal.getsignal(signal.SIGINT)
    if callable(before):
        # From here on there is something to clean up: __main__.py's handler ends at once.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return command.run(args)
    finally:
        if callable(before):
            signal.signal(signal.SIGINT, before)


def _print_error(args: argparse.Namespace, code: int, error: str, line: str) -> int:
    """Say why on stderr, and with ``--json`` on stdout as well: its reader gets JSON."""
    error, line = map(masking.mask_line, map(output.mask_suspects, (error, line)))
    with contextlib.suppress(ForwarderError):  # stdout takes nothing
        if getattr(args, "json", False):
            output.print_json({"error": error})
    sys.stderr.write(f"{line}\n")
    return code


class _Parser(argparse.ArgumentParser):
    """A parser that says what a mistyped command was meant to be, and whether it could print."""

    def print_help(self, file: "SupportsWrite[str] | None" = None) -> None:
        """Print the help; raises ForwarderError where argparse would pass over a full disk."""
        if file is None:
            output.print_text(self.format_help())
        else:
            super().print_help(file)

    def error(self, message: str) -> NoReturn:
        """Print usage and message, and end with 2."""
        # A secret may stand where an option or a value is expected.
        super().error(masking.mask(message) + _suggestion(message))


class _VersionAction(argparse.Action):
    """Print the version and which core runs, and end."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        output.print_text(f"forwarder {version()} (core: {native.name()})\n")
        parser.exit()


def _suggestion(message: str) -> str:
    """Return what a choice that does not exist may have meant, or nothing."""
    found = re.search(r"invalid choice: '(.*)' \(choose from (.*?)\)$", message)
    if found is None:
        return ""
    known = [word.strip("' ") for word in found[2].split(",")]
    close = difflib.get_close_matches(found[1].lower(), known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _parser(chosen: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="forwarder",
        description="Forward app events from Kafka into Kinesis, in batches per device.",
    )
    parser.add_argument(
        "--version", action=_VersionAction, nargs=0, help="show program's version number and exit"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, entry in COMMANDS.items():
        command = commands.add_parser(
            name, help=entry.about, description=f"{entry.about[0].upper()}{entry.about[1:]}."
        )
        if name == chosen:
            _module(name).add_arguments(command)
    return parser


def _module(name: str) -> Command:
    return cast("Command", import_module(COMMANDS[name].module))

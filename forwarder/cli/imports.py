"""``forwarder import event-stream``: connection files out of event streams of Pinpoint."""

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from forwarder.aws import iam
from forwarder.cli import output
from forwarder.config import masking
from forwarder.config.yaml.files import read_bounded
from forwarder.errors import ConfigurationError, ForwarderError
from forwarder.imports import connection_file, reading
from forwarder.imports.connection_file import ImportedConnection, ImportOptions
from forwarder.imports.event_stream import ACCOUNT, REGION, EventStream, as_written, is_resolved

MAX_SOURCE_BYTES = 64 * 1024 * 1024
"""The largest file: a Terraform state of a whole company has some tens of MiB."""

STDIN = Path("/dev/stdin")

_ACCOUNT = re.compile(r"[0-9]{12}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the source, and what may be said beside it."""
    kinds = parser.add_subparsers(dest="kind", metavar="WHAT", required=True)
    one = kinds.add_parser(
        "event-stream",
        help="an event stream of Pinpoint",
        description="Print the connection file that carries an event stream of Pinpoint on, and "
        f"the trust policy of its role. FILE is {reading.KNOWN}.",
    )
    one.add_argument("file", metavar="FILE", help="what declares it; - for stdin")
    one.add_argument("--app", metavar="ID", help="the app's id: of several the one meant")
    one.add_argument("--name", metavar="NAME", help="the connection's name")
    one.add_argument("--destination", metavar="ARN", help="the stream, where FILE does not tell it")
    one.add_argument("--role", metavar="ARN", help="the role, where FILE does not tell it")
    one.add_argument("--region", metavar="REGION", help="the region, where FILE does not tell it")
    one.add_argument("--account", metavar="ID", help="the account, where FILE does not tell it")
    one.add_argument(
        "--parameter",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="a parameter of a template, a variable of Terraform; may be repeated",
    )
    one.add_argument("--external-id", metavar="ID", help="default: pinpoint:ACCOUNT")
    one.add_argument("--topic", metavar="T", help="match.topic: only events of this topic")
    one.add_argument(
        "--principal", metavar="ARN", help="who the worker runs as, for the trust policy"
    )
    one.add_argument("--trust", metavar="FILE", type=Path, help="write the trust policy into FILE")
    one.add_argument(
        "--into", metavar="DIR", type=Path, help="write NAME.yaml into DIR; none is overwritten"
    )
    one.add_argument("--json", action="store_true", help="print one JSON document")
    one.epilog = "Nothing is asked of AWS, and nothing is changed there."


def run(args: argparse.Namespace) -> int:
    """Print or write them; raises ConfigurationError for what is no such source."""
    options = ImportOptions(args.name, args.role, args.external_id, args.topic)
    source = "stdin" if args.file == "-" else args.file
    streams = _chosen(_streams(args, options), args)
    if args.name and len(streams) > 1:
        text = f"--name: {source} holds {len(streams)} event streams; choose one with --app"
        raise ConfigurationError([text])
    found = connection_file.connection_files(streams, options, masking.mask_line(source))
    principal = args.principal or iam.PRINCIPAL_PLACEHOLDER
    if args.trust:
        _write_trust(args.trust, found, principal)
    if args.into:
        _write_files(args.into, found)
    if args.json:
        output.print_json({"connections": [_document(one, principal) for one in found]})
    elif not args.into:
        output.print_text("\n".join(_text(one, principal) for one in found))
    if not args.json:
        for line in _notes(found, args):
            sys.stderr.write(f"note: {output.wrap_text(line)}\n")
    return 0


def _streams(args: argparse.Namespace, options: ImportOptions) -> list[EventStream]:
    """Read the source; every complaint names it."""
    complaints = list(connection_file.complaints(options))
    if args.account and not _ACCOUNT.fullmatch(args.account):
        complaints.append("--account must be an AWS account id, twelve digits")
    given = {}
    for one in args.parameter:
        name, equals, value = one.partition("=")
        if not equals:
            complaints.append("--parameter must be NAME=VALUE")
        given[name] = value
    if complaints:
        raise ConfigurationError(complaints)
    pseudo = {REGION: args.region, ACCOUNT: args.account}
    given |= {name: value for name, value in pseudo.items() if value}
    try:
        return reading.event_streams(_read(args.file), given, args.destination)
    except ConfigurationError as error:
        name = "stdin" if args.file == "-" else args.file
        raise ConfigurationError([f"{name}: {fault}" for fault in error.faults]) from error


def _read(file: str) -> str:
    path = STDIN if file == "-" else Path(file)
    try:
        content = read_bounded(path, MAX_SOURCE_BYTES, pipes=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise ConfigurationError([f"cannot be read ({reason}); check the path"]) from error
    if len(content) > MAX_SOURCE_BYTES:
        text = f"is larger than {MAX_SOURCE_BYTES >> 20} MiB; give the event stream alone"
        raise ConfigurationError([text])
    encoding = "utf-16" if content[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig"
    try:
        return content.decode(encoding)  # PowerShell writes UTF-16
    except UnicodeDecodeError as error:
        raise ConfigurationError(["is not UTF-8; save it as UTF-8"]) from error


def _chosen(streams: list[EventStream], args: argparse.Namespace) -> list[EventStream]:
    """Return the streams of the app meant; one whose app is not known is taken for it."""
    if args.app is None:
        return streams
    named = [one for one in streams if one.application == args.app]
    unnamed = [one for one in streams if not is_resolved(one.application)]
    if named:
        return named
    if len(unnamed) == 1:
        [one] = unnamed
        return [EventStream(one.label, args.app, one.destination, one.role)]
    # Ids of apps look like keys, and so would not be shown.
    known = ", ".join(as_written(one.destination.name) for one in streams)
    raise ConfigurationError(
        [f"--app: no event stream is of that app; there are those into {known}"]
    )


def _trust(one: ImportedConnection, principal: str) -> iam.Document:
    known = one.external_id.replace("${AWS_ACCOUNT_ID}", iam.ACCOUNT_PLACEHOLDER)
    return iam.trust_policy(known, principal)


def _write_trust(path: Path, found: Sequence[ImportedConnection], principal: str) -> None:
    policies = {one.external_id: _trust(one, principal) for one in found}
    if len(policies) > 1:
        text = "--trust: the streams are of several accounts; choose one with --app"
        raise ConfigurationError([text])
    [policy] = policies.values()
    _write(path, output.json_text(policy) + "\n", overwrite=True)


def _write_files(folder: Path, found: Sequence[ImportedConnection]) -> None:
    there = [one.name for one in found if (folder / f"{one.name}.yaml").exists()]
    if there:
        named = ", ".join(f"{folder / name}.yaml" for name in there)
        raise ConfigurationError([f"--into: there is already {named}; remove it, or give --name"])
    for one in found:
        _write(folder / f"{one.name}.yaml", one.text, overwrite=False)
        sys.stderr.write(f"wrote {folder / one.name}.yaml\n")


def _write(path: Path, text: str, *, overwrite: bool) -> None:
    try:
        with path.open("w" if overwrite else "x", encoding="utf-8") as opened:
            opened.write(text)
    except OSError as error:
        what = f"{path} cannot be written ({error.strerror}); make its folder, or correct the path"
        raise ForwarderError(what) from error


def _document(one: ImportedConnection, principal: str) -> dict[str, object]:
    return {
        "name": one.name,
        "file": f"{one.name}.yaml",
        "text": one.text,
        "role": one.role,
        "trust": _trust(one, principal),
        "variables": dict(one.variables),
    }


def _text(one: ImportedConnection, principal: str) -> str:
    """Return the file, and below it as comments the trust policy: all of it is one YAML file."""
    policy = output.json_text(_trust(one, principal)).splitlines()
    holder = one.role or "the role"
    head = [
        "",
        f"Trust policy of {holder}: in place of the statement for pinpoint.amazonaws.com.",
        "Its permission policy stays as it is.",
    ]
    return one.text + "\n".join(f"# {line}".rstrip() for line in (*head, *policy)) + "\n"


def _notes(found: Sequence[ImportedConnection], args: argparse.Namespace) -> Iterator[str]:
    for one in found:
        for name, stands_for in one.variables.items():
            what = (
                f"{one.name} takes ${{{name}}} from the environment: what {stands_for} is does not"
            )
            yield masking.mask_line(
                f"{what} stand in {args.file}; set it, or write it in its place"
            )
    if args.principal is None:
        placeholder = iam.PRINCIPAL_PLACEHOLDER
        who = "the ARN of the role or user that the worker runs as (--principal ARN)"
        yield f"replace {placeholder} in the trust policy by {who}"
    if len(found) > 1 and not args.into:
        yield "these are several files: --into DIR writes each into one of its own"

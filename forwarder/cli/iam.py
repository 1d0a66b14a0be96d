"""``forwarder iam``: the policies that are exactly enough for a connection."""

import argparse
import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

from forwarder.aws import iam, identity
from forwarder.aws.iam import Document, IamPolicies
from forwarder.aws.session import AwsSession
from forwarder.cli import output
from forwarder.clock import SystemClock
from forwarder.config import aws_regions, loader
from forwarder.config.connection import Connection
from forwarder.config.loader import LoadedConfiguration
from forwarder.errors import ConfigurationError, ForwarderError
from forwarder.ops import logs

_ASK = "ask"
_ARN = re.compile(r"arn:aws[a-z-]*:(iam|sts)::[0-9]{12}:\S+")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare whose policies, and who the worker is."""
    parser.add_argument("name", metavar="NAME", help="the connection")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", required=True, help="forwarder.yaml, as for run"
    )
    parser.add_argument(
        "--principal",
        metavar="ARN",
        nargs="?",
        const=_ASK,
        help="who the worker runs as; without ARN: ask AWS, with the credentials found here",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.epilog = "Nothing is changed, and without --principal nobody is asked."


def run(args: argparse.Namespace) -> int:
    """Print them; raises ForwarderError where there are none."""
    loaded = loader.load_configuration(args.config, offline=args.principal != _ASK)
    logs.configure("warning", "console", loaded.secrets)
    connection = find_connection(loaded, args.name)
    role = connection.credentials.role
    output.hide_suspects(
        loaded.suspects - {role.external_id if role else None}
    )  # no secret to AWS, and policies need it as it is
    found = _policies(connection, args.principal)
    if args.json:
        output.print_json({"connection": connection.name, **_document(found)})
    else:
        output.print_text("\n".join(_lines(connection, found)) + "\n")
    return 0


def find_connection(loaded: LoadedConfiguration, name: str) -> Connection:
    """Return a connection by its name; raises ConfigurationError for one that is not there."""
    known = {connection.name: connection for connection in loaded.configuration.connections}
    if name not in known:
        complaint = f"{name} is not configured; give one of {', '.join(known) or 'none'}"
        raise ConfigurationError([complaint])
    return known[name]


def _policies(connection: Connection, principal: str | None) -> IamPolicies:
    sink = connection.sink
    if sink.folder:
        text = f"{connection.name} writes into {sink.folder}, for which AWS has no policies"
        raise ForwarderError(text)
    if principal == _ASK:
        principal = identity.trust_principal(asyncio.run(_caller(connection, sink.region)))
    elif principal is not None:
        if not _ARN.fullmatch(principal):
            wanted = "an ARN such as arn:aws:iam::111122223333:role/NAME"
            raise ConfigurationError([f"--principal: must be {wanted}, is {principal}"])
        principal = identity.trust_principal(principal)  # a session's would trust that one alone
        if connection.credentials.secrets:
            principal = None  # whom the keys are of is another matter, and so is the account
    found = iam.iam_policies(connection, aws_regions.partition_name(sink.region), principal)
    assert found is not None  # noqa: S101  # of a file alone there are none
    return found


async def _caller(connection: Connection, region: str) -> str:
    """Ask who signs: for a role, who assumes it."""
    aws = AwsSession(SystemClock())
    try:
        return await identity.caller_arn(
            aws, aws.make_keyring(connection.credentials.signer, region, connection.name), region
        )
    except identity.UnknownIdentityError as unknown:
        raise ForwarderError(str(unknown)) from unknown
    finally:
        await aws.close()


def _document(found: IamPolicies) -> dict[str, object]:
    return {
        "holder": found.holder,
        "permission": found.permission,
        "trust": found.trust,
        "worker": found.worker,
        "notes": list(found.notes),
    }


def _lines(connection: Connection, found: IamPolicies) -> Iterator[str]:
    yield f"# Permission policy of {found.holder}:"
    yield _json(found.permission)
    if found.trust is not None:
        yield f"# Trust policy of {found.holder}:"
        yield _json(found.trust)
    if found.worker is not None:
        yield "# Permission policy of the worker, which assumes that role:"
        yield _json(found.worker)
    for note in found.notes:
        yield f"# {connection.name}: {note}"


def _json(document: Document) -> str:
    return output.json_text(document)

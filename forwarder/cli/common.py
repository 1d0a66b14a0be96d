"""What the commands that ask Kafka share: their options, their connections, and consent.

The composition root of these commands: the one module of them that names the concrete survey.
"""

import argparse
import asyncio
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeVar

from forwarder.admin.contract import GroupSurvey
from forwarder.admin.kafka_survey import KafkaSurvey
from forwarder.cli import output
from forwarder.collect.keying import keying_rule
from forwarder.config import gateway_loader, loader, masking
from forwarder.config.gateway_loader import LoadedGateway
from forwarder.config.loader import LoadedConfiguration
from forwarder.errors import ConfigurationError, ForwarderError, StartupError
from forwarder.kafka import client, patches
from forwarder.model import Partition
from forwarder.ops import logs

T = TypeVar("T")


def add_common(parser: argparse.ArgumentParser) -> None:
    """Declare what each of them takes."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", required=True, help="forwarder.yaml, as for run"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON document instead of tables"
    )


def add_topics(parser: argparse.ArgumentParser) -> None:
    """Declare which input topics are meant."""
    parser.add_argument(
        "--topic", metavar="T", action="append", help="only this input topic; may be repeated"
    )


def add_partition(parser: argparse.ArgumentParser) -> None:
    """Declare which partition is meant."""
    parser.add_argument("--partition", type=int, metavar="N", help="only this partition")


def add_consent(parser: argparse.ArgumentParser) -> None:
    """Declare how to agree."""
    parser.add_argument("--yes", action="store_true", help="do it without asking")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")


def load_for_command(config: Path) -> LoadedConfiguration:
    """Load the configuration, and let nothing that is logged show its secrets."""
    loaded = loader.load_configuration(config)
    logs.configure("warning", "console", loaded.secrets)
    output.hide_suspects(loaded.suspects)
    client.quiet_client_log(entirely=True)  # what it could not do is an error here, with its cause
    patches.install(loaded.configuration.kafka.max_unpacked_batch)
    return loaded


def load_gateway_for_command(config: Path, also: Iterable[str] = ()) -> LoadedGateway:
    """Load what a gateway is told; neither its secrets nor ``also`` are shown by what is logged."""
    loaded = gateway_loader.load_gateway(config)
    logs.configure("warning", "console", loaded.secrets.union(also))
    output.hide_suspects(loaded.suspects)
    client.quiet_client_log(entirely=True)
    patches.install()
    return loaded


def run_query(loaded: LoadedConfiguration, question: Callable[[GroupSurvey], Awaitable[T]]) -> T:
    """Run a question against the group of a configuration."""
    return asyncio.run(query_survey(loaded, question))


async def query_survey(
    loaded: LoadedConfiguration, question: Callable[[GroupSurvey], Awaitable[T]]
) -> T:
    """Run a question against the group of a configuration, over connections of its own."""
    client_id = f"forwarder-command-{socket.gethostname()}-{os.getpid()}"
    survey = KafkaSurvey(loaded.configuration, client_id)
    try:
        return await question(survey)
    except ForwarderError as error:
        known = error.remedy or isinstance(error, StartupError)
        if known or "AuthorizationFailed" not in str(error):
            raise
        text = f"{error}; grant the principal what docs/commands.md lists"
        raise ForwarderError(text) from error
    finally:
        await survey.close()


async def selected_partitions(
    survey: GroupSurvey, topics: list[str] | None, number: int | None
) -> list[Partition]:
    """Return the partitions meant; raises ConfigurationError for one that is not there."""
    partitions = await survey.partitions(topics or ())
    if number is None:
        return partitions
    if found := [partition for partition in partitions if partition.number == number]:
        return found
    complaint = f"--partition: no topic meant has a partition {number}"
    raise ConfigurationError([complaint])


def keying_rules(loaded: LoadedConfiguration) -> dict[str, str]:
    """Return the keying rule of every configured connection."""
    connections = loaded.configuration.connections
    return {one.name: keying_rule(one.mode) for one in connections}


def note_unknown(loaded: LoadedConfiguration, name: str) -> None:
    """Say on stderr that nothing is known of a connection: its name may be misspelt."""
    names = ", ".join(one.name for one in loaded.configuration.connections) or "none"
    if name not in names.split(", "):
        shown = masking.mask(name)
        names = output.mask_suspects(names)
        sys.stderr.write(f"{shown} is not configured, and nothing is stored; configured: {names}\n")


def confirm(args: argparse.Namespace) -> bool:
    """Ask unless ``--yes`` was given; raises ConfigurationError without a terminal to ask on."""
    if args.yes:
        return True
    # A closed stdin is none at all.
    if not (sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()):
        complaint = "nothing was changed: add --yes to do it, or --dry-run to look only"
        raise ConfigurationError([complaint])
    sys.stderr.write("Do it? Type yes: ")
    sys.stderr.flush()
    return sys.stdin.readline().strip() == "yes"

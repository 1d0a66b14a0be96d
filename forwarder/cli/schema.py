"""``forwarder schema``: what an editor needs to know about connection files."""

import argparse

from forwarder.cli import output
from forwarder.config.schema import connection_schema_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare no argument: there is one schema."""
    parser.epilog = (
        "Store it, and point to it: # yaml-language-server: $schema=connection.schema.json"
    )


def run(args: argparse.Namespace) -> int:  # noqa: ARG001  # every command is called alike
    """Print the schema."""
    output.show(connection_schema_text())
    return 0

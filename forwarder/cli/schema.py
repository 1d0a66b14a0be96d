"""``forwarder schema``: what an editor needs to know about configuration files."""

import argparse

from forwarder.cli import output
from forwarder.config import schema


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare which file's schema is wanted."""
    parser.add_argument(
        "--worker", action="store_true", help="that of forwarder.yaml, not of connection files"
    )
    parser.epilog = (
        "Store it, and point to it: # yaml-language-server: $schema=connection.schema.json"
    )


def run(args: argparse.Namespace) -> int:
    """Print the schema of connection files, or that of forwarder.yaml."""
    made = schema.worker_schema() if args.worker else schema.connection_schema()
    output.print_text(schema.schema_text(made))
    return 0

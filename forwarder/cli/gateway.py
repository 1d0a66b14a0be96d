"""``forwarder gateway``: Pinpoint's events API and mParticle's, written to Kafka."""

import argparse
import asyncio
from pathlib import Path

import structlog

from forwarder.config import gateway_loader, masking
from forwarder.errors import ForwarderError
from forwarder.gateway import gateway
from forwarder.ops import logs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the configuration."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", required=True, help="forwarder.yaml, with gateway"
    )


def run(args: argparse.Namespace) -> int:
    """Run until stopped; raises ForwarderError."""
    loaded = gateway_loader.load_gateway(args.config)
    log = loaded.configuration.log
    logs.configure(log.level, log.format, loaded.secrets)
    for one in loaded.noted:
        at = {"file": one.file, "line": one.line, "key": one.key}
        structlog.get_logger().warning("configuration.note", note=one.text, **at)
    try:
        return asyncio.run(gateway.run_gateway(loaded.configuration))
    except ForwarderError as error:
        # In the log as well: what reads it takes lines of JSON, and nothing else.
        what, remedy = map(masking.mask_line, (error.what, error.remedy))
        structlog.get_logger().error("gateway.failed", error=what, remedy=remedy)
        raise

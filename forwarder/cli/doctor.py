"""``forwarder doctor``: try Kafka and every connection for real, and say what to mend."""

import argparse
import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from forwarder import app
from forwarder.admin import status
from forwarder.admin.gateway_checkup import GatewayCheckup
from forwarder.admin.kafka_checkup import KafkaCheckup
from forwarder.admin.retired_topics import left_topics
from forwarder.aws import identity
from forwarder.aws.session import AwsSession
from forwarder.cli import common, iam, output
from forwarder.clock import SystemClock
from forwarder.config import gateway_loader
from forwarder.config.connection import Connection
from forwarder.config.credentials import AssumedRole, DefaultCredentials
from forwarder.config.gateway_loader import LoadedGateway
from forwarder.config.loader import LoadedConfiguration
from forwarder.config.settings import Configuration, Mechanism
from forwarder.errors import ConfigurationError, ForwarderError
from forwarder.formats import registry
from forwarder.gateway.endpoints.checkup import store_findings
from forwarder.model import Batch, CloseReason, Outcome, OutcomeKind
from forwarder.ops.diagnosis import Finding, FindingGrade, fail, note, ok

CONCURRENT_CONNECTIONS = 32
"""Connections looked at at a time."""

DoctorReport = dict[str, list[Finding]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare which connections, and how far to go."""
    common.add_common(parser)
    parser.add_argument(
        "--connection", metavar="NAME", action="append", help="only this one; may be repeated"
    )
    parser.add_argument(
        "--put", action="store_true", help="put a record that says it is a test, one per action"
    )
    parser.add_argument(
        "--gateway",
        action="store_true",
        help="only what a gateway needs, as where its secrets are and the worker's are not",
    )
    parser.set_defaults(usage=parser.error)
    parser.epilog = (
        "Runs beside live workers: it joins no group, fences nobody and moves nothing. In Kafka it "
        "leaves a transaction that was aborted. Without --put no destination gets anything."
    )


def run(args: argparse.Namespace) -> int:
    """Print what was found; return 1 if anything has to be mended."""
    if args.gateway or gateway_loader.is_gateways_file(args.config):
        if args.connection or args.put:
            args.usage("--connection and --put are of a worker's configuration")
        report = asyncio.run(gateway_report(common.load_gateway_for_command(args.config)))
    else:
        report = asyncio.run(_worker_report(args))
    failures = [one for found in report.values() for one in found if one.grade is FindingGrade.FAIL]
    if args.json:
        output.print_json(_document(report, len(failures)))
    else:
        output.print_text("\n".join(_lines(report, len(failures))) + "\n")
    return 1 if failures else 0


async def _worker_report(args: argparse.Namespace) -> DoctorReport:
    """Look at all that a worker needs, and at a gateway of the same file as far as it can be."""
    loaded = common.load_for_command(args.config)
    wanted = [iam.find_connection(loaded, name) for name in args.connection or ()]
    connections = wanted or list(loaded.configuration.connections)
    report = await _report(loaded, connections, put=args.put)
    if not loaded.worker_section.has("gateway") or wanted:
        return report
    try:
        gateway = common.load_gateway_for_command(args.config, also=loaded.secrets)
    except ConfigurationError as error:
        first = error.faults[0]
        what = f"it was not looked at: {len(error.faults)} faults here, the first: {first}"
        told = note(f"{what}; run doctor --gateway where the gateway runs")
        return {**report, "gateway": [told]}
    return {**report, **await gateway_report(gateway)}


async def gateway_report(loaded: LoadedGateway) -> DoctorReport:
    """Look at what a gateway needs: brokers, topics, rights, and where endpoints are kept."""
    configuration = loaded.configuration
    client_id = f"forwarder-doctor-{socket.gethostname()}-{os.getpid()}"
    checkup = GatewayCheckup(configuration.kafka, configuration.gateway, client_id)
    api = configuration.gateway.pinpoint
    found = {"gateway": await checkup.findings()}
    return found if api is None else {**found, "endpoints": await store_findings(api.endpoints)}


async def _report(
    loaded: LoadedConfiguration, connections: Sequence[Connection], *, put: bool
) -> DoctorReport:
    aws = AwsSession(SystemClock())
    slots = asyncio.Semaphore(CONCURRENT_CONNECTIONS)

    async def examined(connection: Connection) -> list[Finding]:
        async with slots:
            return await _connection_findings(aws, connection, put=put)

    client_id = f"forwarder-doctor-{socket.gethostname()}-{os.getpid()}"
    try:
        kafka, own, *found = await asyncio.gather(
            kafka_findings(aws, loaded.configuration, client_id),
            _worker_findings(aws, connections),
            *map(examined, connections),
        )
    finally:
        await aws.close()
    if all(one.grade is not FindingGrade.FAIL for one in kafka):
        kafka += await _left_topics(loaded)
    names = [f"connection {connection.name}" for connection in connections]
    report = {"kafka": kafka, "worker": own, **dict(zip(names, found, strict=True))}
    return {where: findings for where, findings in report.items() if findings}


async def kafka_findings(
    aws: AwsSession, configuration: Configuration, client_id: str
) -> list[Finding]:
    """Say whether Kafka is as a worker needs it, and who signs for it where AWS does."""
    security, found = configuration.kafka.security, []
    if security.mechanism is Mechanism.AWS_MSK_IAM and security.region is not None:
        arn = security.role_arn
        role = AssumedRole(arn, None) if arn else DefaultCredentials()
        found.append(await identity.identity_finding(aws, role, security.region, "kafka"))
    try:
        return found + await KafkaCheckup(configuration, client_id).findings()
    except ForwarderError as error:  # certificates that cannot be used: nothing was asked yet
        return [*found, fail(str(error), "check the files that kafka.security names")]


async def _left_topics(loaded: LoadedConfiguration) -> list[Finding]:
    """Say what is left of input topics that are not configured: a worker would not start."""
    rules, now = common.keying_rules(loaded), SystemClock().wall_ms()
    try:
        listed = await common.query_survey(
            loaded, lambda survey: status.left_out(survey, rules, now)
        )
    except ForwarderError as error:
        return [note(f"what is left of topics that are not configured is not known: {error}")]
    retired = loaded.configuration.journal.retired_topics
    return [rest.finding(retired=rest.topic in retired) for rest in left_topics(listed)]


async def _worker_findings(aws: AwsSession, connections: Sequence[Connection]) -> list[Finding]:
    """Say who assumes the roles, once for all of them."""
    regions = [each.sink.region for each in connections if each.credentials.role]
    region = next(filter(None, regions), None)
    return (
        [await identity.identity_finding(aws, DefaultCredentials(), region, "worker")]
        if region
        else []
    )


async def _connection_findings(
    aws: AwsSession, connection: Connection, *, put: bool
) -> list[Finding]:
    sink = connection.sink
    if sink.folder:
        return [folder_finding(Path(sink.folder))]
    who = await identity.identity_finding(aws, connection.credentials, sink.region, connection.name)
    if who.grade is FindingGrade.FAIL:
        return [who]
    if not put:
        return [who, note("no record was put: --put tries it")]
    return [who, *await put_findings(connection)]


def folder_finding(path: Path) -> Finding:
    """Say whether the folder of a file sink can be written, or made."""
    there = next(folder for folder in (path, *path.parents) if os.path.exists(folder))  # noqa: PTH110  # pathlib's own raises where this user may not look
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return ok(f"{path} can be written")
    return fail(f"{path} cannot be written", f"give this user the right to write in {there}")


async def put_test_record(connection: Connection) -> Outcome:
    """Put a test record into a connection's destination; return what the sink answered."""
    async with app.open_sinks([connection]) as sinks:
        [outcome] = await sinks[connection.name].put([test_record(connection)])
        return outcome


async def put_findings(
    connection: Connection, put: Callable[[Connection], Awaitable[Outcome]] = put_test_record
) -> list[Finding]:
    """Put a test record by each action that may be used; one that works is enough for ``auto``."""
    if not (choice := connection.sink.alternatives):
        outcome = await put(connection)
        return [_put_finding(outcome, "a test record was put")]
    by_action = {
        action: await put(replace(connection, sink=sink)) for action, sink in choice.items()
    }
    works = any(outcome.kind is OutcomeKind.DELIVERED for outcome in by_action.values())
    told = [_put_finding(outcome, f"{action} is allowed") for action, outcome in by_action.items()]
    if not works:
        # Refused alike, one line says it; else the second is what really is in the way: a policy
        # need not have PutRecords at all.
        alike = len({(outcome.code, outcome.remedy) for outcome in by_action.values()}) == 1
        return told[:1] if alike else told
    return [
        one if one.grade is FindingGrade.OK else note(f"{one.what}: the other action is used")
        for one in told
    ]


def _put_finding(outcome: Outcome, success: str) -> Finding:
    if outcome.kind is OutcomeKind.DELIVERED:
        return ok(success)
    return identity.failed_finding(
        outcome, "look again: this passes by itself, or AWS is out of order"
    )


def test_record(connection: Connection) -> Batch:
    """Return a test record that readers can tell from a batch, in the format of the sink."""
    now = SystemClock().wall_ms()
    name = f"forwarder-doctor-{now}"
    sent_at = datetime.fromtimestamp(now / 1000, UTC).isoformat(timespec="seconds")
    return Batch(
        lane=connection.name,
        id=name,
        key=bytes(16),
        window_key=bytes(16),
        first=(0, 0),
        last=(0, 0),
        count=0,
        closed_at=now,
        record_ms=now,
        mpid="",
        reason=CloseReason.SINGLE,
        payload=registry.PROBES[connection.sink.format](connection, name, now, sent_at),
    )


def _document(report: DoctorReport, failures: int) -> dict[str, object]:
    return {
        "ok": failures == 0,
        "findings": [
            {"where": where, "grade": one.grade.lower(), "what": one.what, "remedy": one.remedy}
            for where, found in report.items()
            for one in found
        ],
    }


def _lines(report: Mapping[str, Sequence[Finding]], failures: int) -> Iterator[str]:
    for where, found in report.items():
        yield where
        for one in found:
            yield f"  {one.grade.value:<4}  {one.what}"
            if one.remedy:
                yield f"        {one.remedy}"
    yield ""
    yield f"{failures} to mend" if failures else "nothing to mend"

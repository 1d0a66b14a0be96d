"""The policies that ``forwarder iam`` prints are enough, and every action in them is needed."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from forwarder.aws.iam import Document, IamPolicies, iam_policies
from forwarder.aws.session import AwsSession
from forwarder.clock import SystemClock
from forwarder.config.connection import Connection
from forwarder.config.credentials import AssumedRole
from forwarder.config.targets import FirehoseTarget, KinesisTarget, PutMode
from forwarder.model import Outcome, OutcomeKind
from forwarder.sinks.firehose import FirehoseSink
from forwarder.sinks.kinesis import KinesisSink
from tests.services.fake_kinesis import LOADER, batch
from tests.services.ministack import (
    CUSTOMER_ACCOUNT,
    HOME_ACCOUNT,
    REGION,
    Keys,
    MiniStack,
    root_of,
)

STREAM, WORKER, BUCKET = "policies", "policies-worker", "policies-bucket"


def role(name: str) -> AssumedRole:
    return AssumedRole(f"arn:aws:iam::{CUSTOMER_ACCOUNT}:role/{name}", "orgid:1")


def kinesis(mode: PutMode) -> Connection:
    name = f"policies-{mode}"
    return Connection(name, KinesisTarget(STREAM, REGION, put=mode), credentials=role(name))


def firehose() -> Connection:
    name = "policies-firehose"
    return Connection(name, FirehoseTarget(STREAM, REGION), credentials=role(name))


def attach(ministack: MiniStack, name: str, document: Document) -> None:
    iam = ministack.client("iam", root_of(CUSTOMER_ACCOUNT))
    iam.put_role_policy(RoleName=name, PolicyName="put", PolicyDocument=json.dumps(document))


def paste(ministack: MiniStack, name: str, found: IamPolicies) -> None:
    """Make the role and let the worker assume it, by nothing but what was printed."""
    iam = ministack.client("iam", root_of(CUSTOMER_ACCOUNT))
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(found.trust))
    attach(ministack, name, found.permission)
    ministack.client("iam").put_user_policy(
        UserName=WORKER, PolicyName="assume", PolicyDocument=json.dumps(found.worker)
    )


def without(document: Document, action: str) -> Document:
    [statement] = document["Statement"]
    left = [one for one in statement["Action"] if one != action] or ["kinesis:ListStreams"]
    return {**document, "Statement": [{**statement, "Action": left}]}


async def put(connection: Connection, number: int = 1) -> Outcome:
    aws = AwsSession(SystemClock(), LOADER)
    kind = KinesisSink if isinstance(connection.sink, KinesisTarget) else FirehoseSink
    sink = kind(connection, connection.sink, aws)  # type: ignore[arg-type]  # of its own kind
    [outcome] = await sink.put([batch(number)])
    await sink.close()
    await aws.close()
    return outcome


@pytest.fixture
def worker(ministack: MiniStack, monkeypatch: pytest.MonkeyPatch) -> str:
    """Be a user of the home account who may do nothing yet; return its ARN."""
    iam = ministack.client("iam")
    if WORKER not in [user["UserName"] for user in iam.list_users()["Users"]]:
        iam.create_user(UserName=WORKER)
    made = iam.create_access_key(UserName=WORKER)["AccessKey"]
    keys = Keys(made["AccessKeyId"], made["SecretAccessKey"])
    for name, value in ministack.variables(keys).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return f"arn:aws:iam::{HOME_ACCOUNT}:user/{WORKER}"


def prepare_streams(ministack: MiniStack) -> None:
    owner = root_of(CUSTOMER_ACCOUNT)
    ministack.make_stream(STREAM)
    ministack.client("s3", owner).create_bucket(Bucket=BUCKET)
    ministack.client("firehose", owner).create_delivery_stream(
        DeliveryStreamName=STREAM,
        S3DestinationConfiguration={
            "RoleARN": f"arn:aws:iam::{CUSTOMER_ACCOUNT}:role/any",
            "BucketARN": f"arn:aws:s3:::{BUCKET}",
        },
    )


MAKERS: list[Callable[[], Connection]] = [
    lambda: kinesis(PutMode.RECORD),
    lambda: kinesis(PutMode.RECORDS),
    firehose,
]


async def test_what_is_printed_is_enough_and_nothing_of_it_can_be_left_out(
    ministack: MiniStack, worker: str
) -> None:
    await asyncio.to_thread(prepare_streams, ministack)
    for make in MAKERS:
        connection = make()
        found = iam_policies(connection, "aws", worker)
        assert found is not None
        await asyncio.to_thread(paste, ministack, connection.name, found)
        assert OutcomeKind.DELIVERED is (await put(connection)).kind, connection.name
        [action] = found.permission["Statement"][0]["Action"]
        less = without(found.permission, action)
        await asyncio.to_thread(attach, ministack, connection.name, less)
        refused = await put(connection)
        assert (OutcomeKind.CONFIGURATION, "AccessDenied") == (refused.kind, refused.code)
        assert action in refused.remedy
    await either_action_is_enough_for_auto(ministack, worker)
    await a_role_of_pinpoint_is_enough_as_it_is(ministack, worker)


async def a_role_of_pinpoint_is_enough_as_it_is(ministack: MiniStack, worker: str) -> None:
    """Its policy has neither PutRecord nor ListShards."""
    target = KinesisTarget(STREAM, REGION, format="pinpoint")
    connection = Connection("policies-pinpoint", target, credentials=role("policies-pinpoint"))
    found = iam_policies(connection, "aws", worker)
    assert found is not None
    [statement] = found.permission["Statement"]
    assert ["kinesis:PutRecords"] == statement["Action"]
    given = {**statement, "Action": ["kinesis:PutRecords", "kinesis:DescribeStream"]}
    theirs = replace_permission(found, {**found.permission, "Statement": [given]})
    await asyncio.to_thread(paste, ministack, connection.name, theirs)
    assert OutcomeKind.DELIVERED is (await put(connection)).kind


def replace_permission(found: IamPolicies, permission: Document) -> IamPolicies:
    return IamPolicies(found.holder, permission, found.trust, found.worker, found.notes)


async def either_action_is_enough_for_auto(ministack: MiniStack, worker: str) -> None:
    connection = kinesis(PutMode.AUTO)
    found = iam_policies(connection, "aws", worker)
    assert found is not None
    await asyncio.to_thread(paste, ministack, connection.name, found)
    assert OutcomeKind.DELIVERED is (await put(connection)).kind
    for action in ("kinesis:PutRecord", "kinesis:PutRecords"):
        less = without(found.permission, action)
        await asyncio.to_thread(attach, ministack, connection.name, less)
        assert OutcomeKind.DELIVERED is (await put(connection)).kind, f"without {action}"
    wrong = replace(connection, credentials=AssumedRole(role(connection.name).role_arn, "orgid:2"))
    refused = await put(wrong)
    assert (OutcomeKind.CONFIGURATION, "AccessDenied") == (refused.kind, refused.code)
    assert "ExternalId orgid:2" in refused.error

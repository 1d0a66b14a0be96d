"""Nothing that leaves on the open port names a role, an account, an ExternalId or a secret."""

import dataclasses
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.aws import error_codes as codes
from forwarder.aws import errors
from forwarder.aws.errors import AwsFailure
from forwarder.config.connection import Connection
from forwarder.config.credentials import AssumedRole, DefaultCredentials
from forwarder.config.targets import KinesisTarget
from forwarder.kafka import error_codes
from forwarder.ops import health, logs
from forwarder.ops.public import PublicView
from tests.builders import connection

ACCOUNT = "111122223333"
OWN = "444455556666"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/teams/mparticle-kinesis-role"
EXTERNAL_ID = "orgid:5811"
SESSION = f"arn:aws:sts::{OWN}:assumed-role/forwarder/pod-7"
STREAM = f"arn:aws:kinesis:us-east-1:{ACCOUNT}:stream/acme"
PRIVATE = re.compile(rf"{ACCOUNT}|{OWN}|{EXTERNAL_ID}|5811|mparticle-kinesis-role|pod-7|AKIA")

MESSAGES = [
    f"User: {SESSION} is not authorized to perform: kinesis:PutRecords on resource: {STREAM}",
    f"User: {SESSION} is not authorized to perform: sts:AssumeRole on resource: {ROLE}",
    f"Stream acme under account {ACCOUNT} not found.",
    f"Rate exceeded for stream acme under account {ACCOUNT}.",
    f"Shard shardId-000000000003 of account {ACCOUNT}",
    f'"{ROLE}" ({SESSION}) <{STREAM}>',
    f"the key AKIAIOSFODNN7EXAMPLE of {OWN}",
]
OPERATIONS = [*codes.PUT_OPERATIONS, "AssumeRole", "GetCallerIdentity"]


def through(role: AssumedRole) -> Connection:
    return dataclasses.replace(connection(), credentials=role)


@pytest.fixture
def public() -> PublicView:
    return PublicView([through(AssumedRole(ROLE, EXTERNAL_ID))])


def seen(public: PublicView, value: Any) -> str:  # noqa: ANN401  # what JSON can hold
    return json.dumps(public(value))


@pytest.mark.parametrize("code", sorted({*codes.AWS_ERRORS, "NobodyKnowsThis", ""}))
@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_answer_of_aws_shows_who_or_whose(public: PublicView, operation: str, code: str) -> None:
    for message in MESSAGES:
        for status in (200, 400, 403, 500):
            failure = AwsFailure(operation, code, status, message)
            outcomes = [
                errors.failure_outcome(failure, f"stream {STREAM} in us-east-1"),
                errors.role_refused(failure, ROLE, EXTERNAL_ID),
            ]
            for one in outcomes:
                assert not PRIVATE.search(seen(public, {"reason": one.error, "r": one.remedy}))


def test_what_an_operator_needs_is_left(public: PublicView) -> None:
    denied = AwsFailure("PutRecords", "AccessDeniedException", 400, MESSAGES[0])
    text = public(errors.failure_outcome(denied, "stream acme in us-east-1").error)
    assert "PutRecords on stream acme in us-east-1: AccessDenied" in text
    assert "arn:aws:kinesis:us-east-1:(account):stream/acme" in text
    assert "; allow kinesis:PutRecord" in text
    refused = errors.role_refused(AwsFailure("AssumeRole", "AccessDenied", 403), ROLE, EXTERNAL_ID)
    assert "cannot assume (ARN) with ExternalId (ExternalId): AccessDenied; " in public(
        refused.error
    )


def test_what_to_do_is_shown_as_it_is(public: PublicView) -> None:
    remedies = [
        *health.STATE_REMEDIES.values(),
        *(rule.remedy for rule in codes.AWS_ERRORS.values()),
        *codes.ROLE_REMEDIES.values(),
        *(rule.remedy for rule in error_codes.TABLE.values()),
    ]
    assert remedies == [public(remedy) for remedy in remedies]


@pytest.mark.parametrize(
    "text",
    [
        "shardId-000000000003",
        "offset 1700000000000",
        "2026-01-31T12:00:00+00:00",
        "raw-events/3",
        "records 12 to 999999 of the input were deleted",
        "b-1.events.abc123.c2.kafka.eu-west-1.amazonaws.com:9098",
    ],
)
def test_what_names_nobody_stays_as_it_is(public: PublicView, text: str) -> None:
    assert text == public(text)


@pytest.mark.parametrize("external_id", ["x1", "short", "some/Long+id=9,@.:-", "orgid:1"])
def test_an_external_id_of_any_form_is_hidden(external_id: str) -> None:
    role = AssumedRole(f"arn:aws-us-gov:iam::{ACCOUNT}:role/r", external_id)
    refused = errors.role_refused(
        AwsFailure("AssumeRole", "AccessDenied", 403), role.role_arn, role.external_id
    )
    text = PublicView([through(role)])(refused.error)
    assert "cannot assume (ARN) with ExternalId (ExternalId): AccessDenied; " in text


def test_secrets_that_the_log_knows_are_hidden(
    monkeypatch: pytest.MonkeyPatch, public: PublicView
) -> None:
    monkeypatch.setattr(logs, "_REDACTION", logs.Redaction(["hunter2"]))
    assert {"reason": ["with ****", 3, None, True]} == public(
        {"reason": ["with hunter2", 3, None, True]}
    )


def test_what_looks_like_a_secret_is_hidden_and_names_stay_as_the_metrics_have_them(
    public: PublicView,
) -> None:
    key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    assert {key: "with ****"} == public({key: f"with {key}"})


@pytest.mark.parametrize(
    "credentials", [DefaultCredentials(), AssumedRole(ROLE.replace(ACCOUNT, OWN), None)]
)
def test_the_account_of_a_stream_is_hidden_in_its_name_too(
    credentials: AssumedRole | DefaultCredentials,
) -> None:
    name = f"events-{ACCOUNT}-us-east-1"
    target = KinesisTarget(f"arn:aws:kinesis:us-east-1:{ACCOUNT}:stream/{name}", "us-east-1")
    public = PublicView([dataclasses.replace(connection(), sink=target, credentials=credentials)])
    text = f"stream {name} in us-east-1: Stream {name} under account {ACCOUNT} not found"
    assert text.replace(ACCOUNT, "(account)") == public(text)


@given(st.text(), st.text(), st.sampled_from([ACCOUNT, ROLE, EXTERNAL_ID]))
def test_no_text_around_it_brings_it_back(before: str, after: str, name: str) -> None:
    public = PublicView([through(AssumedRole(ROLE, EXTERNAL_ID))])
    assert name not in public(before + name + after)

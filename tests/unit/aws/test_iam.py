"""The IAM policies of a connection name its actions, its stream and its role, and nothing else."""

import json
from pathlib import Path

import pytest
import yaml

from forwarder import cli
from forwarder.aws import identity
from forwarder.aws.iam import IamPolicies, iam_policies
from forwarder.config.connection import Connection
from forwarder.config.credentials import AccessKeys, AssumedRole
from forwarder.config.targets import FileTarget, FirehoseTarget, KinesisTarget, PutMode
from forwarder.ops import logs

ROLE = AssumedRole("arn:aws:iam::111122223333:role/team/writer", "orgid:1")
WORKER = "arn:aws:iam::222233334444:role/forwarder"
TARGETS = [
    (PutMode.AUTO, ["kinesis:PutRecord", "kinesis:PutRecords"]),
    (PutMode.RECORD, ["kinesis:PutRecord"]),
    (PutMode.RECORDS, ["kinesis:PutRecords"]),
]


def made(
    connection: Connection, partition: str = "aws", principal: str | None = WORKER
) -> IamPolicies:
    found = iam_policies(connection, partition, principal)
    assert found is not None
    return found


def kinesis(put: PutMode = PutMode.AUTO, region: str = "us-east-1") -> KinesisTarget:
    return KinesisTarget("events", region, put=put)


@pytest.mark.parametrize(("put", "actions"), TARGETS)
def test_a_stream_is_put_into_by_the_actions_of_its_setting_alone(
    put: PutMode, actions: list[str]
) -> None:
    [statement] = made(Connection("acme", kinesis(put), credentials=ROLE)).permission["Statement"]
    assert {
        "Effect": "Allow",
        "Action": actions,
        "Resource": "arn:aws:kinesis:us-east-1:111122223333:stream/events",
    } == statement


@pytest.mark.parametrize(
    ("put", "actions"),
    [
        (PutMode.AUTO, ["kinesis:PutRecords"]),
        (PutMode.RECORDS, ["kinesis:PutRecords"]),
        (PutMode.RECORD, ["kinesis:PutRecord"]),
    ],
)
def test_a_role_of_pinpoint_keeps_its_permissions_and_trusts_the_worker_instead(
    put: PutMode, actions: list[str]
) -> None:
    target = KinesisTarget("events", "us-east-1", put=put, format="pinpoint")
    found = made(Connection("acme", target, credentials=ROLE))
    [permission] = found.permission["Statement"]
    assert actions == permission["Action"]
    assert found.trust is not None
    assert {"AWS": WORKER} == found.trust["Statement"][0]["Principal"]
    assert [True] == [True for note in found.notes if "for pinpoint.amazonaws.com" in note]


def test_a_delivery_stream_is_put_into_by_one_action() -> None:
    target = FirehoseTarget("events", "eu-west-1")
    found = made(Connection("acme", target, credentials=ROLE))
    [statement] = found.permission["Statement"]
    assert ["firehose:PutRecordBatch"] == statement["Action"]
    expected = "arn:aws:firehose:eu-west-1:111122223333:deliverystream/events"
    assert expected == statement["Resource"]
    assert () == found.notes


@pytest.mark.parametrize(
    ("region", "partition"), [("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")]
)
def test_arns_are_of_the_partition_of_the_region(region: str, partition: str) -> None:
    role = AssumedRole(f"arn:{partition}:iam::111122223333:role/r", None)
    found = made(Connection("acme", kinesis(region=region), credentials=role), partition)
    [statement] = found.permission["Statement"]
    assert f"arn:{partition}:kinesis:{region}:111122223333:stream/events" == statement["Resource"]


def test_a_role_trusts_the_worker_with_its_external_id_and_the_worker_may_assume_it() -> None:
    found = made(Connection("acme", kinesis(), credentials=ROLE))
    assert found.trust is not None
    assert found.worker is not None
    [trust], [worker] = found.trust["Statement"], found.worker["Statement"]
    assert {"AWS": WORKER} == trust["Principal"]
    assert {"StringEquals": {"sts:ExternalId": "orgid:1"}} == trust["Condition"]
    assert ("sts:AssumeRole", ROLE.role_arn) == (worker["Action"], worker["Resource"])


def test_a_role_without_an_external_id_is_noted() -> None:
    role = AssumedRole(ROLE.role_arn, None)
    found = made(Connection("acme", kinesis(), credentials=role))
    assert found.trust is not None
    assert "Condition" not in found.trust["Statement"][0]
    assert any("no ExternalId" in note for note in found.notes)


def test_what_nobody_knows_is_a_placeholder_that_is_noted() -> None:
    found = made(Connection("acme", kinesis(), credentials=ROLE), principal=None)
    assert found.trust is not None
    assert {"AWS": "PRINCIPAL_ARN"} == found.trust["Statement"][0]["Principal"]
    assert any("PRINCIPAL_ARN" in note for note in found.notes)
    keys = AccessKeys("AKIA", "secret")
    found = made(Connection("acme", kinesis(), credentials=keys), principal=None)
    assert ":ACCOUNT_ID:" in found.permission["Statement"][0]["Resource"]
    assert (None, None) == (found.trust, found.worker)
    assert any("ACCOUNT_ID" in note for note in found.notes)


def test_the_key_of_an_encrypted_stream_is_noted_by_its_action() -> None:
    assert "kms:GenerateDataKey" in made(Connection("acme", kinesis(), credentials=ROLE)).notes[0]


def test_a_file_needs_none() -> None:
    assert iam_policies(Connection("acme", FileTarget("/out")), "aws") is None


@pytest.mark.parametrize(
    ("caller", "expected"),
    [
        ("arn:aws:iam::1:user/team/me", "arn:aws:iam::1:user/team/me"),
        ("arn:aws:sts::1:assumed-role/forwarder/pod-1", "arn:aws:iam::1:role/forwarder"),
        ("arn:aws-cn:sts::1:assumed-role/f/a/b", "arn:aws-cn:iam::1:role/f"),
        ("arn:aws:sts::1:federated-user/me", "arn:aws:sts::1:federated-user/me"),
    ],
)
def test_a_session_of_a_role_stands_for_the_role(caller: str, expected: str) -> None:
    assert expected == identity.trust_principal(caller)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a configuration with a role, and with keys that are not there."""
    monkeypatch.setattr(logs, "configure", lambda *_: None)
    (tmp_path / "connections").mkdir()
    sink = {"type": "kinesis", "stream_name": "events", "region": "us-east-1"}
    keys = {"access_key_id": "${NOWHERE}", "secret_access_key": "${NOWHERE}"}
    role = {"aws_account_id": "111122223333", "org_id": "1"}
    for name, credentials in (("by-role", role), ("by-keys", keys)):
        content = {"name": name, "sink": sink, "credentials": credentials}
        (tmp_path / "connections" / f"{name}.yaml").write_text(yaml.safe_dump(content))
    to_file = {"name": "to-file", "sink": {"type": "file", "path": "out"}}
    (tmp_path / "connections" / "to-file.yaml").write_text(yaml.safe_dump(to_file))
    kafka = {"bootstrap_servers": ["127.0.0.1:1"], "topics": ["raw-events"]}
    path = tmp_path / "forwarder.yaml"
    path.write_text(yaml.safe_dump({"kafka": kafka}))
    return path


def test_the_command_prints_them_for_people_and_for_programs(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["iam", "by-role", "--config", str(config), "--principal", WORKER]
    assert 0 == cli.main(words)
    printed = capsys.readouterr().out
    assert 3 == printed.count('"Version": "2012-10-17"')
    assert WORKER in printed
    assert 0 == cli.main([*words, "--json"])
    document = json.loads(capsys.readouterr().out)
    assert "arn:aws:iam::111122223333:role/mparticle-kinesis-role" == document["holder"]
    assert {"AWS": WORKER} == document["trust"]["Statement"][0]["Principal"]


def test_of_a_session_that_is_given_the_role_is_trusted(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is what `aws sts get-caller-identity` prints; another session has another name."""
    session = "arn:aws:sts::222233334444:assumed-role/forwarder/pod-7"
    words = ["iam", "by-role", "--json", "--config", str(config), "--principal", session]
    assert 0 == cli.main(words)
    [statement] = json.loads(capsys.readouterr().out)["trust"]["Statement"]
    assert {"AWS": "arn:aws:iam::222233334444:role/forwarder"} == statement["Principal"]


def test_the_account_of_keys_is_not_taken_from_who_the_worker_is(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["iam", "by-keys", "--json", "--config", str(config), "--principal", WORKER]
    assert 0 == cli.main(words)
    document = json.loads(capsys.readouterr().out)
    assert ":ACCOUNT_ID:" in document["permission"]["Statement"][0]["Resource"]
    assert "replace ACCOUNT_ID" in document["notes"][0]


def test_keys_need_not_be_there_as_long_as_nobody_is_asked(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 0 == cli.main(["iam", "by-keys", "--config", str(config)])
    assert "# Permission policy of the identity of" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (("iam", "gone"), 2, "gone is not configured; give one of by-keys, by-role, to-file"),
        (("iam", "to-file"), 1, "for which AWS has no policies"),
        (("iam", "by-role", "--principal", "me"), 2, "--principal: must be an ARN"),
    ],
)
def test_what_has_no_policies_is_said(
    words: tuple[str, ...], code: int, error: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code == cli.main([*words, "--config", str(config)])
    assert error in " ".join(capsys.readouterr().err.split())


ARN = "arn:aws:kinesis:us-east-1:333344445555:stream/events"


def test_a_stream_given_by_its_arn_is_that_resource_whoever_signs() -> None:
    target = KinesisTarget(ARN, "us-east-1")
    for connection in (Connection("acme", target, credentials=ROLE), Connection("acme", target)):
        found = made(connection)
        assert ARN == found.permission["Statement"][0]["Resource"]
        assert any("resource policy" in note for note in found.notes)
    unknown = made(Connection("acme", target), principal=None)
    assert not any("replace" in note for note in unknown.notes)

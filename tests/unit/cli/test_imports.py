"""``forwarder import event-stream``: what it prints is a connection file, and loads as one."""

import json
from pathlib import Path

import pytest
import yaml

from forwarder.cli import main
from forwarder.config.connection import Connection
from forwarder.config.credentials import AssumedRole
from forwarder.config.loader import load_connection
from forwarder.config.targets import FirehoseTarget, KinesisTarget, PartitionKey, PutMode

Capture = pytest.CaptureFixture[str]

APP, OTHER = "810c7aab86d42fb2b56c8c966a1b2c3d", "1f4e9d20c7b84a53a6e2d1c09b8f7e6d"
ARN = "arn:aws:kinesis:us-east-1:111122223333:stream/shop-pinpoint"
ROLE = "arn:aws:iam::111122223333:role/service-role/pinpoint"
WORKER = "arn:aws:iam::222233334444:role/forwarder"


def answer(app: str = APP, arn: str = ARN, role: str = ROLE) -> str:
    stream = {"ApplicationId": app, "DestinationStreamArn": arn, "RoleArn": role}
    return json.dumps({"EventStream": stream})


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the answer of one app in a file, in the working directory."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "stream.json"
    file.write_text(answer())
    return file


def printed(capsys: Capture, *arguments: str, code: int = 0) -> tuple[str, str]:
    assert code == main(["import", "event-stream", *arguments])
    return capsys.readouterr()


def loaded(text: str, folder: Path, **environ: str) -> Connection:
    (folder / "made.yaml").write_text(text)
    found = load_connection(folder / "made.yaml", environ=environ)
    assert () == found.notes
    return found.connection


def test_what_is_printed_is_a_connection_file_with_the_trust_policy_below(
    source: Path, capsys: Capture
) -> None:
    out, err = printed(capsys, source.name, "--principal", WORKER)
    found = loaded(out, source.parent)
    assert "shop-pinpoint" == found.name
    assert frozenset({APP}) == found.match.application
    assert AssumedRole(ROLE, "pinpoint:111122223333") == found.credentials
    assert found.sink == KinesisTarget(
        ARN,
        "us-east-1",
        partition_key=PartitionKey.MPID,
        put=PutMode.RECORDS,
        format="pinpoint",
        app_id=APP,
        aws_account_id="111122223333",
    )
    comments = [line[2:] for line in out.splitlines() if line.startswith("# ")]
    policy = json.loads("\n".join(comments[comments.index("{") :]))
    [statement] = policy["Statement"]
    assert {"AWS": WORKER} == statement["Principal"]
    assert {"StringEquals": {"sts:ExternalId": "pinpoint:111122223333"}} == statement["Condition"]
    assert "" == err


def test_a_firehose_is_a_connection_of_its_own_type(source: Path, capsys: Capture) -> None:
    arn = "arn:aws:firehose:eu-west-1:111122223333:deliverystream/shop"
    source.write_text(answer(arn=arn))
    found = loaded(printed(capsys, source.name)[0], source.parent)
    assert found.sink == FirehoseTarget(
        "shop", "eu-west-1", format="pinpoint", app_id=APP, aws_account_id="111122223333"
    )


def test_stdin_is_read(source: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forwarder.cli.imports.STDIN", Path(source))
    out, _ = printed(capsys, "-", "--principal", WORKER)
    assert out.startswith("# An event stream of Pinpoint, from stdin\n")


def test_what_the_source_does_not_tell_comes_from_the_environment(
    source: Path, capsys: Capture
) -> None:
    source.write_text("""\
resource "aws_pinpoint_event_stream" "shop" {
  application_id         = aws_pinpoint_app.shop.application_id
  destination_stream_arn = aws_kinesis_stream.shop.arn
  role_arn               = aws_iam_role.shop.arn
}
""")
    out, err = printed(capsys, source.name)
    found = loaded(
        out,
        source.parent,
        PINPOINT_APP_ID="a1b2c3",
        EVENT_STREAM_NAME="shop",
        EVENT_STREAM_ROLE_ARN=ROLE,
        AWS_REGION="eu-west-1",
        AWS_ACCOUNT_ID="111122223333",
    )
    assert (frozenset({"a1b2c3"}), AssumedRole(ROLE, "pinpoint:111122223333")) == (
        found.match.application, found.credentials
    )  # fmt: skip
    assert ("shop", "eu-west-1") == (found.sink.name, found.sink.region)  # type: ignore[union-attr]  # of Kinesis
    flat = " ".join(err.split())
    assert "takes ${PINPOINT_APP_ID} from the environment" in flat
    assert "aws_pinpoint_app.shop.application_id" in flat
    assert "replace PRINCIPAL_ARN in the trust policy" in flat
    assert '"sts:ExternalId": "pinpoint:ACCOUNT_ID"' in out


def test_options_say_what_the_source_does_not(source: Path, capsys: Capture) -> None:
    source.write_text("""\
Resources:
  Stream:
    Type: AWS::Pinpoint::EventStream
    Properties: {ApplicationId: !Ref App, DestinationStreamArn: !ImportValue s, RoleArn: !Ref Role}
""")
    out, err = printed(
        capsys, source.name, "--app", APP, "--destination", ARN, "--role", ROLE,
        "--external-id", "acme-7", "--name", "acme", "--topic", "pinpoint-events",
        "--principal", WORKER,
    )  # fmt: skip
    found = loaded(out, source.parent)
    assert ("acme", frozenset({APP}), frozenset({"pinpoint-events"})) == (
        found.name, found.match.application, found.match.topic
    )  # fmt: skip
    assert AssumedRole(ROLE, "acme-7") == found.credentials
    assert "" == err


def test_parameters_of_a_template_are_given_by_name(source: Path, capsys: Capture) -> None:
    source.write_text(f"""\
Parameters: {{Role: {{Type: String}}}}
Resources:
  Stream:
    Type: AWS::Pinpoint::EventStream
    Properties: {{ApplicationId: {APP}, DestinationStreamArn: "{ARN}", RoleArn: !Ref Role}}
""")
    out, _ = printed(capsys, source.name, "--parameter", f"Role={ROLE}")
    assert AssumedRole(ROLE, "pinpoint:111122223333") == loaded(out, source.parent).credentials


def test_several_streams_are_written_into_a_folder(source: Path, capsys: Capture) -> None:
    source.write_text(answer() + answer(OTHER) + answer("c", ARN.replace("shop", "more")))
    out, err = printed(capsys, source.name, "--into", str(source.parent), "--principal", WORKER)
    names = ["more-pinpoint", "shop-pinpoint", "shop-pinpoint-2"]
    files = sorted(source.parent.glob("*.yaml"), key=lambda file: file.stem)
    assert ("", names) == (out, [file.stem for file in files])
    assert 3 == err.count("wrote ")
    assert names == sorted(load_connection(file).connection.name for file in files)
    _, err = printed(capsys, source.name, "--into", str(source.parent), code=2)
    assert "--into: there is already" in err


def test_one_of_several_is_chosen_by_its_app(source: Path, capsys: Capture) -> None:
    source.write_text(answer() + answer(OTHER))
    out, _ = printed(capsys, source.name, "--app", OTHER)
    assert frozenset({OTHER}) == loaded(out, source.parent).match.application
    _, err = printed(capsys, source.name, "--app", "c", code=2)
    assert "--app: no event stream is of that app; there are those into shop-pinpoint, shop" in err


def test_the_trust_policy_may_go_into_a_file(source: Path, capsys: Capture) -> None:
    printed(capsys, source.name, "--trust", "trust.json", "--principal", WORKER)
    policy = json.loads((source.parent / "trust.json").read_text())
    assert {"AWS": WORKER} == policy["Statement"][0]["Principal"]


def test_json_has_files_policies_and_variables(source: Path, capsys: Capture) -> None:
    out, err = printed(capsys, source.name, "--json")
    [one] = json.loads(out)["connections"]
    assert {"name", "file", "text", "role", "trust", "variables"} == set(one)
    assert ("shop-pinpoint.yaml", ROLE, {}) == (one["file"], one["role"], one["variables"])
    assert APP == yaml.safe_load(one["text"])["sink"]["app_id"]
    assert "" == err


REFUSED = [
    (["gone.json"], "gone.json: cannot be read (No such file or directory); check the path"),
    (["stream.json", "--name", "a b"], "--name must be 1 to 100 of the characters"),
    (["stream.json", "--topic", "a b"], "--topic must be 1 to 249"),
    (["stream.json", "--role", "writer"], "--role must be a role's ARN"),
    (["stream.json", "--account", "1"], "--account must be an AWS account id, twelve digits"),
    (["stream.json", "--parameter", "a"], "--parameter must be NAME=VALUE"),
    (["stream.json", "--external-id", "x"], "--external-id must be 2 to 1224"),
    (["stream.json", "--destination", "s"], "stream.json: DestinationStreamArn: 's' is no ARN"),
    (["stream.json", "--into", "nowhere"], "nowhere/shop-pinpoint.yaml cannot be written"),
    (["stream.json", "--trust", "nowhere/t.json"], "nowhere/t.json cannot be written"),
    (["empty.json"], "empty.json: holds no event stream; give the output of"),
    (["latin.json"], "latin.json: is not UTF-8"),
]


@pytest.mark.parametrize(("arguments", "what"), REFUSED)
def test_what_cannot_be_imported_is_said(
    source: Path, capsys: Capture, arguments: list[str], what: str
) -> None:
    (source.parent / "empty.json").write_text("{}")
    (source.parent / "latin.json").write_bytes(b"\xe9")
    code = main(["import", "event-stream", *arguments])
    out, err = capsys.readouterr()
    assert (True, "") == (code in {1, 2}, out)
    assert what in " ".join(err.split())


def test_several_streams_have_no_one_name_and_no_one_policy(source: Path, capsys: Capture) -> None:
    source.write_text(answer() + answer(OTHER, ARN.replace("1111", "4444")))
    _, err = printed(capsys, source.name, "--name", "acme", code=2)
    assert "--name: stream.json holds 2 event streams; choose one with --app" in err
    _, err = printed(capsys, source.name, "--trust", "t.json", code=2)
    assert "--trust: the streams are of several accounts" in err


def test_utf16_of_powershell_is_read(source: Path, capsys: Capture) -> None:
    source.write_text(answer(), encoding="utf-16")
    assert "shop-pinpoint" in printed(capsys, source.name)[0]

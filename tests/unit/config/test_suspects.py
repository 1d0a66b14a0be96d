"""What looks like a secret in a place that is for none is printed and logged by no command."""

import json
from pathlib import Path

import pytest

from forwarder.cli import common, main, output
from forwarder.config.loader import load_configuration
from forwarder.kafka import client
from forwarder.ops import logs
from tests.configurations import SMALL_WORKER, Folder

Capture = pytest.CaptureFixture[str]
KEY, TOPIC, NAME = (
    "AKIAIOSFODNN7EXAMPLE",
    f"us1-{'0123456789abcdef' * 2}",
    "AKIAIOSFODNN7EXAMPL3",
)
EXTERNAL = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
WORKER = f"kafka: {{bootstrap_servers: [a:1], topics: [{TOPIC}], group_id: {KEY}}}\n"
CONNECTION = f"""name: {NAME}
match: {{application: [{KEY}]}}
credentials: {{aws_account_id: "111122223333", external_id: {EXTERNAL}, role_name: {KEY}}}
sink: {{type: kinesis, stream_name: acme, region: us-east-1}}
"""
SUSPECTS = {KEY, TOPIC, NAME, EXTERNAL}


@pytest.fixture
def careless(folder: Folder) -> Folder:
    """Give a configuration with keys where names belong."""
    folder.write(WORKER)
    folder.connect(CONNECTION)
    return folder


def leaks(text: str) -> set[str]:
    return {each for each in SUSPECTS if each in text}


@pytest.mark.usefixtures("careless")
@pytest.mark.parametrize("more", [[], ["--json"], ["--quiet"]])
def test_check_shows_none(capsys: Capture, more: list[str]) -> None:
    assert 0 == main(["check", "forwarder.yaml", *more])
    captured = capsys.readouterr()
    assert set() == leaks(captured.out + captured.err)
    if not more:
        assert "# group **** reads ****\n" in captured.out
        assert "# keeps ****.outbox.**** and ****.state.****\n" in captured.out
        assert "role_arn: arn:aws:iam::111122223333:role/****" in captured.out


def test_a_summary_shows_none_whether_configured_or_sent(careless: Folder, capsys: Capture) -> None:
    upload = {"application_info": {"package": f"{KEY}2"}, "mpid": 1, "events": []}
    (careless.path / "up.ndjson").write_text(json.dumps(upload) + "\n")
    main(["run", "--config", "forwarder.yaml", "--source", "up.ndjson", "--sink", "out"])
    captured = capsys.readouterr()
    assert "no match with ****: application 1" in captured.err
    assert set() == leaks(captured.out + captured.err)


@pytest.mark.usefixtures("careless")
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_policies_show_the_external_id_alone_which_they_need(
    capsys: Capture, more: list[str]
) -> None:
    principal = "arn:aws:iam::444455556666:root"
    argv = ["iam", "--config", "forwarder.yaml", "--principal", principal, NAME]
    assert 0 == main([*argv, *more])
    assert {EXTERNAL} == leaks(capsys.readouterr().out)


@pytest.mark.usefixtures("careless")
def test_commands_that_ask_kafka_and_the_log_hide_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "quiet_client_log", lambda **_: None)  # of the process, for good
    common.load_for_command(Path("forwarder.yaml"))
    assert "****/0 ****.outbox.****" == output.mask_suspects(f"{TOPIC}/0 {KEY}.outbox.{TOPIC}")
    event = logs.Redaction(load_configuration("forwarder.yaml").secrets)(
        None, "info", {"event": "worker.starts", "group": KEY, "topics": [TOPIC]}
    )
    assert {"event": "worker.starts", "group": "****", "topics": ["****"]} == event


@pytest.mark.usefixtures("careless")
def test_what_one_configuration_hides_the_next_command_shows(capsys: Capture) -> None:
    main(["check", "forwarder.yaml"])
    assert "****" == output.mask_suspects(KEY)
    main(["schema"])
    assert KEY == output.mask_suspects(KEY)
    assert capsys.readouterr().out


def test_out_of_a_variable_it_is_hidden_too(folder: Folder) -> None:
    folder.write(WORKER.replace(KEY, '"${GROUP}"'))
    loaded = folder.load({"GROUP": KEY})
    assert {KEY, TOPIC} == loaded.suspects
    assert loaded.secrets >= loaded.suspects


@pytest.mark.parametrize("address", [":hunter2pw@h:1", "hunter2pw@h:1", 'u:hunter2pw\\"x@h:1'])
def test_who_logs_in_does_not_stand_in_an_address(folder: Folder, address: str) -> None:
    folder.write(f'kafka: {{bootstrap_servers: ["{address}"], topics: [t]}}\n')
    [fault] = folder.faults()
    assert "holds a user name or password" in fault
    assert "hunter2" not in fault


GENERATED = [
    (
        "ForwarderStackEventStream1A2B3C4D-AbCdEfGh1234",
        "ForwarderStack-EventWriterRole9F8E7D6C-XyZ1a2",
    ),
    (
        "prod-ForwarderStream-1K9X2B7Q4ZLM",
        "aws-reserved/sso.amazonaws.com/AWSReservedSSO_a1B2c3D4e5F60718",
    ),
    ("ForwarderProductionStackEventStr1A2B3C4D", "acme-EventWriterRole-1QX4ZK8P7B2N5"),
]


@pytest.mark.parametrize(("stream", "role"), GENERATED)
def test_a_name_that_a_stack_made_is_no_secret(
    folder: Folder, capsys: Capture, stream: str, role: str
) -> None:
    """A policy with its name hidden would grant other streams, and a log line name none."""
    arn = f"arn:aws:iam::111122223333:role/{role}"
    folder.connect(
        f"name: acme\nsink: {{type: kinesis, stream_name: {stream}, region: us-east-1}}\n"
        f'credentials: {{role_arn: "{arn}", external_id: "e1"}}\n'
    )
    folder.write(SMALL_WORKER)
    assert 0 == main(["check", "forwarder.yaml"])
    told = capsys.readouterr()
    assert "looks like a secret" not in told.out + told.err
    assert {stream, arn} <= {word.strip(",") for word in told.out.split()}
    principal = "arn:aws:iam::444455556666:root"
    argv = ["iam", "--config", "forwarder.yaml", "--principal", principal, "acme"]
    assert 0 == main(argv)
    policies = capsys.readouterr().out
    assert f":stream/{stream}" in policies
    assert arn in policies
    assert output.mask_suspects(f"{stream} {arn}") == f"{stream} {arn}"
    assert set() == set(load_configuration("forwarder.yaml").suspects)


@pytest.mark.parametrize(
    "name", ["wJalrXUtnFEMIAK7MDENGAbPxRfiCYEXAMPLEKEY", "AKIAIOSFODNN7EXAMPLE", f"us1-{'0f' * 16}"]
)
def test_a_key_in_a_streams_place_is_one(folder: Folder, capsys: Capture, name: str) -> None:
    folder.connect(f"name: acme\nsink: {{type: kinesis, stream_name: {name}, region: us-east-1}}\n")
    folder.write(SMALL_WORKER)
    assert 0 == main(["check", "forwarder.yaml"])
    told = capsys.readouterr()
    assert name not in told.out + told.err

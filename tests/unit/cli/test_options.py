"""What the commands make of their arguments, before any Kafka is asked."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from forwarder import cli
from forwarder.admin.contract import GroupSurvey
from forwarder.cli import common, replay
from forwarder.config import loader
from forwarder.config.targets import FileTarget, FirehoseTarget, KinesisTarget, Target
from forwarder.errors import ConfigurationError, ForwarderError
from forwarder.kafka import admin, client
from forwarder.ops import logs

SECRET = "the-key-that-no-output-shows"
KEYS = {"access_key_id": "AKIAEXAMPLE", "secret_access_key": SECRET}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Write a configuration whose Kafka is nowhere, with one connection to Kinesis."""
    (tmp_path / "connections").mkdir()
    sink = {"type": "kinesis", "stream_name": "theirs", "region": "us-east-1"}
    content = {"name": "acme", "sink": sink, "credentials": KEYS}
    (tmp_path / "connections" / "acme.yaml").write_text(yaml.safe_dump(content))
    kafka = {"bootstrap_servers": ["127.0.0.1:1"], "topics": ["raw-events"]}
    path = tmp_path / "forwarder.yaml"
    path.write_text(yaml.safe_dump({"kafka": kafka}))
    return path


@pytest.fixture(autouse=True)
def unchanged_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the log of the test run as it is: both are for a process of its own."""
    monkeypatch.setattr(logs, "configure", lambda *_: None)
    monkeypatch.setattr(client, "quiet_client_log", lambda **_: None)


def target(config: Path, connection: str, sink: str | None) -> Target:
    args = argparse.Namespace(connection=connection, to_sink=sink)
    return replay._target(args, loader.load_configuration(config)).sink  # noqa: SLF001  # where to, and nothing else


def test_a_replay_goes_to_the_connections_own_sink_unless_another_is_named(
    config: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.yaml"
    sink = {"type": "kinesis", "stream_name": "ours", "region": "eu-west-1"}
    other.write_text(yaml.safe_dump({"name": "other", "sink": sink}))
    found = [target(config, "acme", one) for one in (None, str(other), "file:/again")]
    assert [KinesisTarget("theirs", "us-east-1"), KinesisTarget("ours", "eu-west-1")] == found[:2]
    assert FileTarget("/again") == found[2]


def test_a_replay_may_go_into_a_delivery_stream(config: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    sink = {"type": "firehose", "delivery_stream_name": "archive", "region": "eu-west-1"}
    other.write_text(yaml.safe_dump({"name": "other", "sink": sink}))
    assert FirehoseTarget("archive", "eu-west-1") == target(config, "acme", str(other))


def test_what_is_not_configured_any_more_needs_a_sink(config: Path) -> None:
    with pytest.raises(ConfigurationError, match="give --to-sink, or one of acme"):
        target(config, "gone", None)
    assert isinstance(target(config, "gone", "file:/again"), FileTarget)


@pytest.mark.parametrize(("text", "expected"), [("500", 500.0), ("2.5/s", 2.5), ("0", 0.0)])
def test_a_rate_is_a_number_of_batches_a_second(text: str, expected: float) -> None:
    assert expected == replay.parse_rate(text)


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("status", "--config"),
        ("outbox", "show", "--connection", "acme"),
        ("outbox",),
        ("outbox", "show", "--connection", "acme", "--limit", "0"),
        ("replay", "--connection", "acme", "--from", "0:0"),
        ("replay", "--connection", "a", "--from", "0:0", "--to", "0:1", "--rate", "-1"),
        ("replay", "--connection", "a", "--from", "0:0", "--to", "0:1", "--rate", "nan"),
        ("reset",),
        ("accept-loss", "--topic", "raw-events"),
        ("accept-loss", "--topic", "t", "--partition", "x"),
        ("accept-loss", "--topic", "t", "--partition", "0", "--resend", "some"),
    ],
)
def test_arguments_that_are_missing_or_wrong_end_with_2(
    words: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert 2 == ended.value.code
    assert "usage: forwarder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("reset", "--to", "yesterday"), "--to: must be earliest, latest"),
        (("reset", "--to", "2026-01-31T12:00:00"), "has no zone"),
        (("replay", "--connection", "acme", "--from", "soon", "--to", "0:1"), "--from: must be"),
        (("replay", "--connection", "gone", "--from", "0:0", "--to", "0:1"), "not configured"),
        (
            ("replay", "--connection", "acme", "--from", "0:0", "--to", "0:1", "--to-sink", ""),
            "--to-sink: must be file:DIR",
        ),
        (
            ("accept-loss", "--topic", "raw-events", "--partition", "0", "--from", "soon"),
            "--from: must be earliest",
        ),
        (
            ("accept-loss", "--topic", "raw-events", "--partition", "0", "--connection", "gone"),
            "--connection: gone is not configured; give one of acme",
        ),
    ],
)
def test_what_cannot_be_meant_ends_with_2_and_says_what_can(
    words: Sequence[str], complaint: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 2 == cli.main([*words, "--config", str(config)])
    said = capsys.readouterr()
    assert complaint in said.err
    assert "" == said.out
    assert SECRET not in said.err


def test_a_configuration_that_is_wrong_ends_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 2 == cli.main(["status", "--config", str(tmp_path / "missing.yaml")])
    assert "missing.yaml" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (("reset", "--to", "yesterday"), 2, "--to: must be earliest"),
        (("accept-loss", "--topic", "t", "--partition", "0", "--from", "soon"), 2, "--from: must"),
        (("status",), 1, "Kafka at 127.0.0.1:1 did not tell"),
    ],
)
def test_whoever_asks_for_json_gets_it_when_it_fails_too(  # noqa: PLR0913, PLR0917  # its fixtures
    words: Sequence[str],
    code: int,
    error: str,
    config: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admin, "ANSWER_SECONDS", 0.0)
    assert code == cli.main([*words, "--json", "--config", str(config)])
    said = capsys.readouterr()
    assert ["error"] == list(json.loads(said.out))
    assert error in json.loads(said.out)["error"]
    assert error in said.err


def test_a_name_that_nobody_knows_is_named_beside_those_that_are(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = loader.load_configuration(config)
    common.note_unknown(loaded, "acme")
    assert "" == capsys.readouterr().err
    common.note_unknown(loaded, "amce")
    assert "amce is not configured" in (said := capsys.readouterr().err)
    assert "configured: acme\n" in said


def test_a_right_that_is_missing_leads_to_the_list_of_them(config: Path) -> None:
    async def denied(_: GroupSurvey) -> None:
        text = "topic raw-events: TopicAuthorizationFailedError"
        raise ForwarderError(text)

    with pytest.raises(ForwarderError, match=r"FailedError; grant .* docs/commands.md lists"):
        common.run_query(loader.load_configuration(config), denied)

"""``forwarder run``: what it says on standard error is for whoever reads the log."""

import json
from dataclasses import replace
from typing import Any

import pytest

from forwarder import app
from forwarder.cli import main
from forwarder.config.connection import Match
from forwarder.errors import StartupError
from tests.configurations import SMALL, Folder


async def refused(*_: object) -> int:
    what, remedy = "the broker refuses AKIAIOSFODNN7EXAMPLE", "grant it"
    raise StartupError(what, remedy)


@pytest.fixture
def said(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> list[str]:
    """Start a worker that cannot begin, with a configuration that deserves a note."""
    folder.connect(f"{SMALL}settings: {{wait_for_complete_batch: true, send_as_batch: false}}\n")
    monkeypatch.setattr(app, "run_worker", refused)
    assert 1 == main(["run", "--config", "forwarder.yaml"])
    return capfd.readouterr().err.splitlines()


def logged(said: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said[:-1]]


def test_what_is_noted_of_the_configuration_is_a_line_of_the_log(said: list[str]) -> None:
    note = logged(said)[0]
    assert ("warning", "configuration.note") == (note["level"], note["event"])
    assert ("connections/acme.yaml", 6, "settings.send_as_batch") == (
        note["file"], note["line"], note["key"]
    )  # fmt: skip
    assert note["note"].startswith("is ignored")


def test_why_a_worker_ended_is_the_last_line_of_the_log_and_said_once_more(
    said: list[str],
) -> None:
    last = logged(said)[-1]
    assert ("error", "worker.failed", "the broker refuses ****", "grant it") == (
        last["level"], last["event"], last["error"], last["remedy"]
    )  # fmt: skip
    assert "forwarder: the broker refuses ****; grant it" == said[-1]


RECORD = """\
{"ApplicationId":"shop","EndpointId":"e-1","ArrivalTimestamp":1700000000123,"Endpoint":{"Id":"e-1"},\
"Events":[{"EventId":"1","EventType":"_session.start","Timestamp":"2023-11-14T22:13:20Z"}]}
"""
UPLOAD = '{"mpid":1,"events":[{"event_type":"custom_event","data":{}}]}\n'
ONE = "topics: [raw]"
SEVERAL = "topics: [raw, {name: pinpoint-events, format: pinpoint}]"


def file_run(folder: Folder, text: str, topics: str, *more: str) -> int:
    folder.write(f"kafka:\n  bootstrap_servers: [a:1]\n  {topics}\n")
    (folder.path / "in.ndjson").write_text(text)
    return main(
        ["run", "--config", "forwarder.yaml", "--source", "in.ndjson", "--sink", "out", *more]
    )


@pytest.mark.parametrize(
    ("text", "topics", "more"),
    [
        (UPLOAD, ONE, []),
        (UPLOAD, SEVERAL, ["--topic", "raw"]),
        (UPLOAD, SEVERAL, ["--format", "mparticle"]),
        (RECORD, SEVERAL, ["--topic", "pinpoint-events"]),
        (RECORD, SEVERAL, ["--topic", "pinpoint-events", "--format", "pinpoint"]),
        (RECORD, SEVERAL, ["--format", "pinpoint"]),
        (RECORD, SEVERAL.replace("raw, ", ""), []),
    ],
)
def test_a_file_holds_what_its_topic_holds_or_what_is_said(
    folder: Folder, capfd: pytest.CaptureFixture[str], text: str, topics: str, more: list[str]
) -> None:
    assert 0 == file_run(folder, text, topics, *more)
    assert "acme: 1 events in 1 batch delivered" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ([], "say by --topic or --format what the file holds"),
        (["--topic", "gone"], "--topic: gone is not in kafka.topics; give one of raw, pinpoint-ev"),
        (
            ["--topic", "raw", "--format", "pinpoint"],
            "--format: raw holds mparticle; give no other",
        ),
    ],
)
def test_what_a_file_holds_has_to_be_clear(
    folder: Folder, capfd: pytest.CaptureFixture[str], more: list[str], what: str
) -> None:
    assert 2 == file_run(folder, UPLOAD, SEVERAL, *more)
    assert what in " ".join(capfd.readouterr().err.split())


def test_a_topic_is_one_of_a_configuration(folder: Folder) -> None:
    file = str(folder.connect(SMALL))
    with pytest.raises(SystemExit):
        main(["run", "--connection", file, "--source", "in.ndjson", "--topic", "raw"])
    with pytest.raises(SystemExit):
        main(["run", "--config", "forwarder.yaml", "--format", "pinpoint"])


def test_what_is_wanted_of_the_files_topic_is_wanted_and_of_others_nothing(
    folder: Folder, capfd: pytest.CaptureFixture[str]
) -> None:
    folder.connect(f"{SMALL}match: {{topic: [pinpoint-events]}}\n")
    folder.connect(f"{SMALL.replace('name: acme', 'name: other')}match: {{topic: [raw]}}\n", "b")
    assert 0 == file_run(folder, RECORD, SEVERAL, "--topic", "pinpoint-events")
    said = capfd.readouterr().err
    assert "acme: 1 events in 1 batch delivered" in said
    assert "other: nothing" in said or "other: 0 events" in said
    assert "note: match.topic" not in said
    assert 0 == file_run(folder, RECORD, SEVERAL, "--format", "pinpoint")
    assert "note: match.topic is left out of account" in capfd.readouterr().err


@pytest.mark.parametrize(("topic", "wanted"), [(None, None), ("a", None), ("c", frozenset())])
def test_a_match_of_topics_in_a_file_is_met_by_the_files_topic(
    topic: str | None, wanted: frozenset[str] | None
) -> None:
    match = Match(topic=frozenset({"a", "b"}), application=frozenset({"x"}))
    assert replace(match, topic=wanted) == app.match_in_file(match, topic)
    assert Match() == app.match_in_file(Match(), topic)

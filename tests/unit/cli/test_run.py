"""``forwarder run``: what it says on standard error is for whoever reads the log."""

import json
from typing import Any

import pytest

from forwarder import app
from forwarder.cli import main
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

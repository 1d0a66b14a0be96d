"""What ``forwarder dead-letters`` prints, asks and refuses, over letters made by hand."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from forwarder import cli
from forwarder.cli import common, output
from forwarder.config.loader import LoadedConfiguration
from forwarder.kafka import client
from forwarder.model import DeadLetter, Reason
from forwarder.ops import logs
from tests.batches import GROUP, TOPIC
from tests.letters import Letters

Ask = Callable[..., tuple[int, str]]


class Survey:
    """The part of a survey that these commands ask."""

    def __init__(self, letters: Letters) -> None:
        self._letters = letters

    def dead_letters(self) -> Letters:
        return self._letters


@pytest.fixture
def topic() -> Letters:
    """Return a topic with a letter of every kind."""
    letters = Letters()
    letters.store(DeadLetter(Reason.INVALID_JSON, 5, "", "no JSON", b"{\x1b[31m\xff\n", 77))
    letters.store(DeadLetter(Reason.REFUSED, 6, "acme", "refused", b"{}", 78, b"\x01" * 16))
    letters.store(DeadLetter(Reason.REFUSED, 7, "idle", "refused", b"{}"))
    return letters


@pytest.fixture
def ask(
    topic: Letters,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Ask:
    """Return how to run the command over the topic: words, to exit code and stdout."""
    (tmp_path / "connections").mkdir()
    for name, status in (("acme", "active"), ("idle", "inactive")):
        content = {"name": name, "status": status, "sink": {"type": "file", "path": "out"}}
        (tmp_path / "connections" / f"{name}.yaml").write_text(yaml.safe_dump(content))
    kafka = {"bootstrap_servers": ["127.0.0.1:1"], "topics": [TOPIC], "group_id": GROUP}
    path = tmp_path / "forwarder.yaml"
    path.write_text(yaml.safe_dump({"kafka": kafka}))

    def answer(_: LoadedConfiguration, question: Callable[[Any], Awaitable[Any]]) -> object:
        async def main() -> object:
            return await question(Survey(topic))

        return asyncio.run(main())

    monkeypatch.setattr(common, "run_query", answer)
    monkeypatch.setattr(logs, "configure", lambda *_: None)
    monkeypatch.setattr(client, "quiet_client_log", lambda **_: None)

    def ran(*words: str) -> tuple[int, str]:
        code = cli.main(["dead-letters", *words, "--config", str(path)])
        said = capsys.readouterr()
        return code, said.out + said.err

    return ran


def test_a_list_shows_counts_and_letters(ask: Ask) -> None:
    code, said = ask("list")
    assert 0 == code
    assert "REASON           CONNECTION  STATE    LETTERS  BYTES" in said
    assert f"{TOPIC}/0:6" in said
    assert (0, "no dead letters\n") == ask("list", "--reason", "not_an_upload")
    assert "and there are more" in ask("list", "--limit", "1")[1]


def test_a_list_as_json_has_the_same(ask: Ask) -> None:
    found = json.loads(ask("list", "--json", "--connection", "acme", "--offset", "1-9")[1])
    assert [("0:2", 78)] == [(one["place"], one["record_time_ms"]) for one in found["letters"]]
    assert [(1, 2)] == [(one["letters"], one["bytes"]) for one in found["counts"]]


def test_a_letter_is_shown_so_that_no_terminal_obeys_it(ask: Ask) -> None:
    code, said = ask("show", "0:0")
    assert 0 == code
    assert "reason: invalid_json\n" in said
    assert "connection: -\n" in said
    assert "{\\x1b[31m\\xff\\n\n" in said
    assert "\x1b" not in said
    found = json.loads(ask("show", "0:0", "--json")[1])
    assert ("waiting", "extbMzFt/wo=") == (found["state"], found["value_base64"])


def test_what_a_header_says_is_obeyed_by_no_terminal_either(ask: Ask, topic: Letters) -> None:
    """Whoever writes to the input may say for which connection something comes back."""
    place = topic.store(DeadLetter(Reason.REFUSED, 8, "\x1b]0;x\x07", "", b"{}"))
    for words in (("list",), ("show", place), ("redrive", "--dry-run")):
        code, said = ask(*words)
        assert (0, False, True) == (code, "\x1b" in said, "\\x1b]0;x\\x07" in said)


def test_bytes_that_are_missing_are_told(ask: Ask, topic: Letters) -> None:
    place = topic.store(DeadLetter(Reason.INVALID_JSON, 9, "", "", bytes(range(256)) * 8), most=400)
    assert f"were at {TOPIC}/0:9 of the input" in ask("show", place)[1]
    assert "truncated" in ask("list")[1]


def test_raw_bytes_come_as_they_are(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    monkeypatch.setattr(output, "print_bytes", written.append)
    assert 0 == ask("show", "0:0", "--raw")[0]
    assert [b"{\x1b[31m\xff\n"] == written


def test_sending_back_says_first_what_goes_and_what_stays(ask: Ask, topic: Letters) -> None:
    code, said = ask("redrive", "--dry-run")
    assert 0 == code
    assert "2 letters, 10 bytes would be sent back\n" in said
    assert "1 stay: connection idle is not configured, or inactive" in said
    assert [] == topic.inputs


def test_nothing_goes_back_without_consent(ask: Ask, topic: Letters) -> None:
    code, said = ask("redrive")
    assert 2 == code
    assert "add --yes to do it" in said
    assert [] == topic.inputs


def test_with_consent_each_goes_back_once(ask: Ask, topic: Letters) -> None:
    code, said = ask("redrive", "--yes", "--rate", "0")
    assert (0, 2) == (code, len(topic.inputs))
    assert "sent back 2 letters" in said
    code, said = ask("redrive", "--yes", "--json")
    assert (0, 2) == (code, len(topic.inputs))
    assert {"sent": False, "letters": 0} == {
        key: json.loads(said)[key] for key in ("sent", "letters")
    }
    assert 0 == ask("redrive", "--yes", "--repeat", "--letter", "0:0", "--rate", "0")[0]
    assert 3 == len(topic.inputs)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("list", "--from", "yesterday"), "--from: must be a time"),
        (("list", "--from", "2026-01-01T00:00:00"), "has no zone"),
        (("list", "--from", "20000000000", "--to", "10000000000"), "--to: is not after --from"),
        (("list", "--offset", "x"), "--offset: must be an offset"),
        (("list", "--letter", "5"), "--letter: must be PARTITION:OFFSET"),
        (("show", "5"), "must be PARTITION:OFFSET"),
        (("redrive", "--repeat", "--yes"), "name each with --letter"),
    ],
)
def test_what_cannot_be_meant_is_refused(words: tuple[str, ...], complaint: str, ask: Ask) -> None:
    code, said = ask(*words)
    assert 2 == code
    assert complaint in said


def test_a_place_without_a_letter_ends_with_1(ask: Ask) -> None:
    code, said = ask("show", "1:7")
    assert (1, True) == (code, "holds nothing at 1:7" in said)

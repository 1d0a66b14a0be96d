"""What commands print: tables for people, and their options."""

import errno
import io
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from forwarder import cli
from forwarder.cli import output
from forwarder.errors import ForwarderError

PAGE = (Path(__file__).parents[3] / "docs" / "commands.md").read_text()
ASKING = ("status", "outbox", "replay", "reset", "accept-loss")


def helped(*words: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, "--help"])
    assert 0 == ended.value.code
    return capsys.readouterr().out


def test_columns_of_numbers_stand_to_the_right_and_others_to_the_left() -> None:
    rows = [("a", "x", 10), ("longer", None, "7+")]
    expected = "NAME    X   N\na       x  10\nlonger  -  7+\n"
    assert expected == output.format_table(("NAME", "X", "N"), rows)
    assert "NAME  N\n" == output.format_table(("NAME", "N"), [])


class Stream(io.StringIO):
    """A text stream that fails as a real one would; it has a descriptor of its own."""

    def __init__(self, error: OSError, descriptor: int) -> None:
        super().__init__()
        self._error = error
        self._descriptor = descriptor

    def write(self, _text: str) -> int:
        raise self._error

    def fileno(self) -> int:
        return self._descriptor


@pytest.fixture
def descriptor() -> Iterator[int]:
    with Path(os.devnull).open("wb") as nothing:
        yield nothing.fileno()


def test_a_reader_that_has_seen_enough_is_no_error(
    monkeypatch: pytest.MonkeyPatch, descriptor: int
) -> None:
    monkeypatch.setattr(sys, "stdout", Stream(BrokenPipeError(), descriptor))
    output.print_text("rows\n")


def test_a_full_disk_is_said_with_its_name(
    monkeypatch: pytest.MonkeyPatch, descriptor: int
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(sys, "stdout", Stream(full, descriptor))
    with pytest.raises(ForwarderError, match="cannot print: No space left on device"):
        output.print_text("rows\n")


def test_a_closed_stdout_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(ForwarderError, match="stdout is closed"):
        output.print_text("rows\n")


@pytest.mark.parametrize("name", ASKING)
def test_every_option_is_in_the_help_and_on_the_page(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (name, "show") if name == "outbox" else (name,)
    options = set(re.findall(r"--[a-z-]+", helped(*words, capsys=capsys))) - {"--help"}
    section = PAGE.split(f"\n## `{' '.join(words)}`\n")[1].split("\n## ")[0]
    tabled = set(re.findall(r"^\| `(--[a-z-]+)", section, re.MULTILINE))
    assert options == tabled | {"--config", "--json"}


def test_every_command_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    listed = helped(capsys=capsys)
    assert list(cli.COMMANDS) == re.findall(r"^    ([a-z-]+)\b", listed, re.MULTILINE)

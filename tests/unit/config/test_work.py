"""A configuration twice as long takes about twice the work: counted, not timed."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from forwarder.cli import main
from forwarder.config.yaml.faults import ConfigFile
from forwarder.config.yaml.nodes import Node, parse_file
from forwarder.config.yaml.sections import ListValue
from forwarder.config.yaml.values import Schema, ValueType
from tests.configurations import SMALL, SMALL_WORKER, Folder

SHORT = 300
TIMES = 4
FILES = 50


class Counter:
    """How many calls were made, of Python's functions and of those in C."""

    def __init__(self) -> None:
        self.calls = 0

    def note(self, _: FrameType, event: str, __: object) -> None:
        self.calls += event in {"call", "c_call"}


@contextlib.contextmanager
def counting() -> Iterator[Counter]:
    counter = Counter()
    before = sys.getprofile()
    sys.setprofile(counter.note)
    try:
        yield counter
    finally:
        sys.setprofile(before)


def names(count: int, text: str = "name-{}") -> str:
    return ", ".join(text.format(number) for number in range(count))


def connection(text: str) -> Callable[[Folder, int], None]:
    def write(folder: Folder, count: int) -> None:
        folder.connect(SMALL + text.replace("NAMES", names(count)))

    return write


def worker(text: str) -> Callable[[Folder, int], None]:
    return lambda folder, count: folder.write(text.replace("NAMES", names(count)))


def retired(folder: Folder, count: int) -> None:
    folder.write(f"{SMALL_WORKER}journal: {{retired: [{names(count)}]}}\n")
    many_files(folder, count)


def many_files(folder: Folder, count: int) -> None:
    for number in range(count):
        folder.connect(SMALL.replace("name: acme", f"name: name-{number}"), f"c{number}")


def many_of_one_name(folder: Folder, count: int) -> None:
    for number in range(count):
        folder.connect(SMALL, f"c{number}")


def unknown_keys(folder: Folder, count: int) -> None:
    folder.connect(SMALL + "".join(f"key_{number}: x\n" for number in range(count)))


def twice(folder: Folder, count: int) -> None:
    folder.connect(f"{SMALL}match: {{application: [{names(count)}, {names(count)}]}}\n")


def misspelt_words(folder: Folder, count: int) -> None:
    folder.connect(f"{SMALL}match: {{environment: [{names(count, 'productoin{}')}]}}\n")


def variables(folder: Folder, count: int) -> None:
    listed = names(count, '"${{N{}}}"')
    folder.connect(f"{SMALL}match: {{application: [{listed}]}}\n")


CASES: dict[str, Callable[[Folder, int], None]] = {
    "applications": connection("match: {application: [NAMES]}\n"),
    "api keys": connection("match: {api_key: [NAMES]}\n"),
    "excluded paths": connection("settings: {metadata_field_exclusion: [NAMES]}\n"),
    "topics": worker(SMALL_WORKER.replace("raw-events", "NAMES")),
    "brokers": worker(SMALL_WORKER.replace("localhost:9092", "NAMES")),
    "retired connections": worker(f"{SMALL_WORKER}journal: {{retired: [NAMES]}}\n"),
    "retired connections that are configured": retired,
    "files": many_files,
    "files of one name": many_of_one_name,
    "unknown keys": unknown_keys,
    "elements given twice": twice,
    "misspelt words": misspelt_words,
    "variables that are not set": variables,
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_check_takes_work_in_proportion_to_what_it_checks(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    case: Callable[[Folder, int], None],
) -> None:
    work = []
    least = FILES if case in {retired, many_files, many_of_one_name} else SHORT
    for count in (least, TIMES * least):
        folder = tmp_path / str(count)
        folder.mkdir()
        monkeypatch.chdir(folder)
        case(Folder(folder), count)
        with counting() as counter:
            main(["check", "--config", "forwarder.yaml"])
        capsys.readouterr()
        work.append(counter.calls)
    short, long = work
    assert long < 1.25 * TIMES * short


class Name(str):
    """A text that counts how often it is compared."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        Name.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


class Names(ValueType):
    expected = "a name"

    def read(self, spot: Node) -> Name:
        return Name(spot.read_scalar(self.expected).text)

    def schema(self) -> Schema:
        return {}


def test_elements_of_a_list_are_not_compared_with_all_before_them(tmp_path: Path) -> None:
    file = tmp_path / "list.yaml"
    file.write_text(f"list: [{names(SHORT)}]\n")
    page = ConfigFile("list.yaml", tmp_path, {})
    top = parse_file(file, page)
    assert top is not None
    Name.compared = 0
    read: Any = ListValue(Names()).read(top.entries()["list"])
    assert (SHORT, []) == (len(read), page.faults)
    assert Name.compared < SHORT

"""What the corpus compares: JSON as it is spelled."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from forwarder import app
from forwarder.clock import SystemClock
from forwarder.config.connection import Connection
from forwarder.ops.tally import Tally
from tests import oracle
from tests.corpus import entries, outcome
from tests.corpus.reading import exact, written


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "true"),
        ("0", "false"),
        ("1.10", "1.1"),
        ("1", "1.0"),
        ("1e3", "1000"),
        ("1", '"1"'),
        ("9007199254740993.0", "9007199254740992.0"),
        ("null", "0"),
        ('{"b": 1, "b": 2}', '{"b": 2}'),
        ('{"b": 1, "b": 2}', '{"b": 3, "b": 2}'),
    ],
)
def test_what_is_spelled_differently_is_different(one: str, other: str) -> None:
    assert exact(f'[{{"a": {one}}}]') != exact(f'[{{"a": {other}}}]')
    assert exact(f'[{{"a": {one}}}]') == exact(f'[{{"a":{one}}}]')


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN is no JSON"):
        exact("[NaN]")


async def test_a_document_that_has_a_key_twice_is_no_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read(connections: Sequence[Connection], _: str, out: Path) -> Tally:
        [one] = connections
        (out / f"{one.name}.ndjson").write_bytes(b'{"events":[],"events":[]}\n')
        (out / "dead-letters.ndjson").write_bytes(b"")
        return Tally(SystemClock(), [])

    monkeypatch.setattr(app, "run_file", read)
    with pytest.raises(ValueError, match="a key is twice"):
        await outcome(entries()[0], tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        "1.10",
        '{\n "a": 1,\n "a": 2\n}',
        '{\n "a": [\n  true,\n  -0.0\n ],\n "ü": {}\n}',
        '"a\\u0000\\""',
    ],
)
def test_what_is_written_is_what_was_read(text: str) -> None:
    assert text == written(exact(text))


def test_for_the_oracle_an_object_with_a_key_twice_equals_none_that_has_it_once() -> None:
    twice, once = oracle.exact('{"a": 1, "a": 2}'), oracle.exact('{"a": 2}')
    assert twice != once
    assert once != twice
    assert twice == oracle.exact('{"a": 1, "a": 2}')

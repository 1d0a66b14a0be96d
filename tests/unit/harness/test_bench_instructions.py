"""What counts instructions: what it compares, and that every part of it can be run."""

import json
import re

import pytest

from tests.bench import instructions


def test_a_part_that_takes_5_percent_more_is_told_of_and_so_is_one_that_takes_less() -> None:
    expected = {"same": 1000, "more": 1000, "less": 1000, "near": 1000}
    found = {"same": 1000, "more": 1051, "less": 949, "near": 1049, "new": 7}

    times = [times for times, _ in instructions.changes(found, expected)]

    assert [1.051, 0.949] == times


@pytest.mark.parametrize("number", range(6))
def test_every_part_runs(number: int) -> None:
    name, part = list(instructions.parts())[number]

    part()

    counts = json.loads(instructions.RECORDED.read_text())
    assert all(name in found for found in counts.values())


def test_what_is_recorded_names_machine_python_and_core() -> None:
    counts = json.loads(instructions.RECORDED.read_text())

    assert counts
    for key in counts:
        assert re.fullmatch(r"\S+ 3\.\d+\.\d+ [0-9a-f]{8} (native|python)", key)

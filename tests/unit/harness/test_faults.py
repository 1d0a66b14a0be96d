"""The rows of the fault matrix, what they send, and how their figures are told."""

from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import orjson
import pytest
import yaml

from forwarder.config import loader
from tests.conservation import FIGURES, Lane, Verdict
from tests.faults import load, report
from tests.faults.judge import Delay, Found
from tests.faults.lanes import lanes
from tests.faults.matrix import ROWS, nothing
from tests.faults.rows import Row
from tests.faults.stage import Outcome, Span

ROW = Row("row", "nothing happens", nothing)


def lane(name: str, **figures: int) -> Lane:
    return Lane(name, **{figure: figures.get(figure, 0) for figure in FIGURES})


def outcome(*found: Lane, letters_lost: int = 0, wrong: tuple[str, ...] = ()) -> Outcome:
    """Return a run of one row, whose fault lasts from 100 to 200."""
    return Outcome(
        [ROW],
        Found(
            Verdict(list(found), 3, letters_lost, 0, 0, []),
            {
                "row": [Delay(120, 9_000)],
                "healthy-1": [Delay(40, 900), Delay(90, 50), Delay(150, 80), Delay(250, 70)],
            },
            [],
            [],
            Counter({"": 3, "another": 5}),
        ),
        50,
        {"row": Span(100, 200)},
        1_000,
        [],
        list(wrong),
    )


FINE = lane("row", events=10), lane("healthy-1", events=20)


def test_every_row_makes_connections_without_faults(tmp_path: Path) -> None:
    assert len(ROWS) == len({row.name for row in ROWS})
    for name, content in lanes(ROWS, lambda lane: f"stream-{lane}").items():
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump(content))
        assert loader.load_connection(file).connection.name == name


def test_a_large_event_stands_between_two_of_its_upload() -> None:
    made = load.make(1, 10, 5.0, large=2.0)
    uploads = [orjson.loads(row[2]) for row in islice(made.rows, 50) if row[1][:4] == b"with"]

    ids = [[one["data"]["source_message_id"] for one in upload["events"]] for upload in uploads]
    assert ["before-0", "large-0", "after-0"] == ids[0]
    assert len(ids) > 3


def test_a_row_counts_its_own_lanes_and_the_healthy_ones() -> None:
    other = lane("other", events=99, lost=5)

    (line,) = report.lines(outcome(*FINE, other))

    assert (30, 0, 0, 0, 3) == (line.wanted, line.lost, line.reordered, line.other, line.letters)


def test_delays_of_healthy_lanes_are_told_before_during_and_after_the_fault() -> None:
    (line,) = report.lines(outcome(*FINE))

    delays = line.before, line.during, line.after, line.longest, line.suffering
    assert (50, 80, 70, 80, 9_000) == delays


@pytest.mark.parametrize(
    ("figures", "told"),
    [
        ({"lost": 1, "missing": 2}, (3, 0, 0)),
        ({"order": 1, "stream_order": 2}, (0, 3, 0)),
        ({"invented": 1, "altered": 1, "stream_altered": 1, "twice": 1}, (0, 0, 4)),
    ],
)
def test_what_is_lost_and_what_is_reordered_are_told_apart(
    figures: dict[str, int], told: tuple[int, int, int]
) -> None:
    found = outcome(lane("row", events=10, **figures), FINE[1])

    (line,) = report.lines(found)

    assert told == (line.lost, line.reordered, line.other)
    assert sum(told) == report.faults(found)


def test_whatever_else_is_wrong_counts_as_a_fault() -> None:
    assert 0 == report.faults(outcome(*FINE))
    assert 1 == report.faults(outcome(*FINE, letters_lost=1))
    assert 1 == report.faults(outcome(*FINE, wrong=("the worker ended by itself",)))


def test_a_lane_of_which_nothing_can_be_lost_is_wrong() -> None:
    found = outcome(*FINE, lane("healthy-2"))

    assert 1 == report.faults(found)
    assert ["healthy-2 had nothing to forward"] == report.wrong(found)


def test_memory_is_told_before_during_and_after_the_fault() -> None:
    sizes = {90: 100, 110: 160, 119: 160, 150: 300, 190: 168, 250: 90}
    found = replace(outcome(*FINE), memory=[(at, size * 2**20) for at, size in sizes.items()])

    assert (
        "row: memory 100 MiB before, 160 after a tenth of it, 168 in its last fifth "
        "(+68.0 %, +5.0 % since the tenth), 90 afterwards"
    ) == report.memory(found, ROW)

"""docs/performance.md and docs/scaling.md are what their data say."""

import re
from pathlib import Path

import pytest

from tests.bench import page, scaling


@pytest.mark.parametrize(("path", "content"), list(page.pages()), ids=["performance", "scaling"])
def test_a_page_is_what_its_data_say(path: Path, content: str) -> None:
    assert content == path.read_text(), "python -m tests.bench.page writes it"
    assert [] == re.findall(r"<<\w+>>", content)


def test_every_target_has_its_figure() -> None:
    measured = [target.value(page.data()) for target in page.TARGETS]
    assert all(value > 0 for value in measured)


def test_a_target_that_is_missed_is_said_to_be() -> None:
    most = page.Target("", "", 2.0, lambda figures: figures["one"])
    least = most._replace(least=True)

    for value, met in ((1.9, "yes"), (2.0, "yes"), (2.1, "**no**")):
        assert met == most.row({"one": value})[3]
    for value, met in ((1.9, "**no**"), (2.0, "yes"), (2.1, "yes")):
        assert met == least.row({"one": value})[3]
    assert "not measured" == most.row({})[3]


def test_what_is_left_is_told_of_every_target_that_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = [line.split("\t") for line in page.LEFT.read_text().splitlines()]
    assert {4} >= {len(row) for row in told}
    if told:
        assert page.missed(page.data()) == {row[0] for row in told}
    assert all(1 <= float(row[2]) <= 100 for row in told)

    monkeypatch.setattr(page, "LEFT", tmp_path / "left.tsv")
    page.LEFT.write_text("")
    assert ["No load has been profiled at this commit."] == page.left()
    page.LEFT.write_text("one\tputs\t17\tsigned\none\tticks\t9\ta timer\ntwo\tall\t90\twork\n")
    head = ["| part | % of the CPU | why it stays |", "| --- | --- | --- |"]
    first = ["### one", "", *head, "| puts | 17 | signed |", "| ticks | 9 | a timer |", ""]
    assert [*first, "### two", "", *head, "| all | 90 | work |"] == page.left()


def test_a_load_is_missed_if_one_of_its_targets_is(monkeypatch: pytest.MonkeyPatch) -> None:
    most = page.Target("one", "", 2.0, lambda figures: figures["one"])
    monkeypatch.setattr(page, "TARGETS", (most, most._replace(load="", limit=1.0)))

    assert {"one"} == page.missed({"one": 1.5})
    assert set() == page.missed({"one": 0.5}) == page.missed({})


def test_a_plan_counts_shards_by_what_there_is_more_of() -> None:
    plan = scaling.Plan("", 10.0, 500.0, 100.0, 0.1, 350.0, 0.001)

    assert 500 == plan.shards
    assert 1000 == plan._replace(documents=1.0).shards
    assert 70_000 == round(plan.worker_rate)
    assert 15 == plan.workers

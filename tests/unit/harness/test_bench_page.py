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


def test_a_plan_counts_shards_by_what_there_is_more_of() -> None:
    plan = scaling.Plan("", 10.0, 500.0, 100.0, 0.1, 350.0, 0.001)

    assert 500 == plan.shards
    assert 1000 == plan._replace(documents=1.0).shards
    assert 70_000 == round(plan.worker_rate)
    assert 15 == plan.workers

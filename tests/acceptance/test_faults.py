"""The fault matrix in short: all rows beside each other, as lanes of one worker."""

from dataclasses import replace
from pathlib import Path

from tests.faults import aws, report
from tests.faults.matrix import ROWS
from tests.faults.run import run
from tests.faults.stage import Plan

PLAN = Plan(scale=0.05, rate=40.0, devices=100, partitions=2)
LEFT_OUT = {"outage"}
"""Nine lanes more, which are down in ways that others are as well."""


async def test_whatever_aws_does_wrong_nothing_is_lost_or_reordered(
    kafka: str, tmp_path: Path
) -> None:
    rows = [
        replace(row, beside=2, seconds=min(row.seconds, 60.0), calm=5.0)
        for row in ROWS
        if row.name not in LEFT_OUT
    ]
    books = tmp_path / "books.ndjson"
    said: list[str] = []

    with aws.running(books) as fake:
        outcome = await run(rows, PLAN, (kafka, fake, books), tmp_path, said.append)

    lines = report.lines(outcome)
    told = "\n".join([*said, report.table(lines), *report.wrong(outcome)])
    assert 0 == report.faults(outcome), told
    assert {row.name: True for row in rows} == {line.name: line.wanted > 0 for line in lines}, told

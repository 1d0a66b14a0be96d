"""Where CI is set, a test that is skipped has failed: green means that all of them ran."""

import os
from collections.abc import Generator
from typing import Any

import pytest

TEXT = "skipped, although CI is set: install what it needs, or move it out of `make test`"


def _refuse(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Make a failure of a skip; expected failures are reported as skips, too, and stay."""
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI") == "true":
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{TEXT} ({reason})"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    """Judge each step of a test."""
    report = yield
    _refuse(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    """Judge modules that are skipped whole."""
    report = yield
    _refuse(report)
    return report

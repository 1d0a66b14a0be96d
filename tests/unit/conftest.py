"""Fixtures of the unit tests."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from forwarder.aws.time_limits import TimeLimits
from forwarder.kafka.patches import connections
from tests.configurations import Folder


@pytest.fixture
def limits() -> TimeLimits:
    """How long AWS clients of a test wait: parametrize ``limits`` to change it."""
    return TimeLimits()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """Give a configuration folder that loads as it is, as the working directory."""
    monkeypatch.chdir(tmp_path)
    return Folder(tmp_path)


@pytest.fixture(autouse=True)
def _log_as_in_the_beginning() -> Iterator[None]:
    """Forget the log that a command of a test has configured: its level hides lines.

    And what it has libraries do: the next test's would print what they log.
    """
    structlog.reset_defaults()
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(autouse=True)
def _no_broker_has_failed() -> None:
    """Forget why a broker of an earlier test could not be reached: errors would tell of it."""
    connections.forget_failures()

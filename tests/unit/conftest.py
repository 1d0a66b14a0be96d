"""Fixtures of the unit tests."""

from pathlib import Path

import pytest
import structlog

from forwarder.kafka import causes
from tests.configurations import Folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """Give a configuration folder that loads as it is, as the working directory."""
    monkeypatch.chdir(tmp_path)
    return Folder(tmp_path)


@pytest.fixture(autouse=True)
def _log_as_in_the_beginning() -> None:
    """Forget the log that a command of an earlier test has configured: its level hides lines."""
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def _no_broker_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget why a broker of an earlier test could not be reached: errors would tell of it."""
    monkeypatch.setattr(causes, "_failed", {})

"""Fixtures of the unit tests."""

from pathlib import Path

import pytest

from tests.configurations import Folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """Give a configuration folder that loads as it is, as the working directory."""
    monkeypatch.chdir(tmp_path)
    return Folder(tmp_path)

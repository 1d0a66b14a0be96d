import os
from pathlib import Path

import pytest

from forwarder.config.gateway import EndpointStoreSettings, StoreKind
from forwarder.gateway.endpoints.checkup import file_finding, store_findings
from forwarder.ops.diagnosis import FindingGrade


def test_a_file_that_is_not_there_will_be_made(tmp_path: Path) -> None:
    found = file_finding(tmp_path / "endpoints.db")
    assert (FindingGrade.NOTE, True) == (found.grade, "a gateway makes it" in found.what)
    assert [] == list(tmp_path.iterdir()), "and nothing is made by looking"


def test_a_file_that_can_be_written_is_well(tmp_path: Path) -> None:
    (tmp_path / "endpoints.db").touch()
    assert FindingGrade.OK is file_finding(tmp_path / "endpoints.db").grade


def test_a_folder_that_is_missing_is_to_be_made(tmp_path: Path) -> None:
    found = file_finding(tmp_path / "gone" / "endpoints.db")
    assert (FindingGrade.FAIL, True) == (found.grade, "mount the volume there" in found.remedy)


@pytest.mark.parametrize("shut", ["folder", "file"])
def test_what_may_not_be_written_is_to_be_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shut: str
) -> None:
    file = tmp_path / "endpoints.db"
    file.touch()
    closed = tmp_path if shut == "folder" else file
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != closed)
    found = file_finding(file)
    assert (FindingGrade.FAIL, True) == (found.grade, "give this user the right" in found.remedy)


async def test_a_server_that_is_not_there_is_a_finding_that_tells_no_password() -> None:
    dsn = "postgresql://gateway:Hidden9@127.0.0.1:1/endpoints"
    [found] = await store_findings(EndpointStoreSettings(StoreKind.POSTGRES, dsn=dsn))
    assert FindingGrade.FAIL is found.grade
    assert "out of reach" in found.what
    assert "Hidden9" not in found.what + found.remedy

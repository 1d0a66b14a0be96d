import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MAKEFILE = (ROOT / "Makefile").read_text()
LONGEST_MODULE = 500


def phony() -> list[str]:
    names: str = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[0]
    return names.split()


@pytest.mark.parametrize("target", phony())
def test_every_target_says_what_it_is_for(target: str) -> None:
    assert re.search(rf"^{target}:.* ## [A-Z]", MAKEFILE, re.MULTILINE)


def test_help_shows_every_target_and_needs_no_environment() -> None:
    answer = subprocess.run(
        ["make", "-s", "help"],  # noqa: S607  # whatever make is on the path
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert sorted(phony()) == sorted(line.split()[0] for line in answer.stdout.splitlines())


def test_what_has_to_pass_is_one_script_that_checks_and_tests() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    runs = [line.split()[-1] for line in script.read_text().splitlines() if line.startswith("make")]
    assert ["check", "bench-check", "package", "test", "test-python"] == runs


def test_no_module_outgrows_what_one_reads_at_a_sitting() -> None:
    modules = [
        *(ROOT / "forwarder").rglob("*.py"),
        *(ROOT / "forwarder/native/src").rglob("*.rs"),
        *(ROOT / "tests").rglob("*.py"),
    ]
    lengths = {str(path): len(path.read_text().splitlines()) for path in modules}
    assert {} == {path: n for path, n in lengths.items() if n > LONGEST_MODULE}


def test_every_link_between_documents_leads_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    broken = [
        f"{document.name}: {link}"
        for document in documents
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text())
        if not (document.parent / link).exists()
    ]
    assert [] == broken

"""No test is skipped where CI is set."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.configurations import ROOT

KINDS = {
    "in a test": "import pytest\ndef test_it():\n    pytest.skip('no Docker')\n",
    "by a mark": "import pytest\n@pytest.mark.skip(reason='no Docker')\ndef test_it(): pass\n",
    "in a fixture": (
        "import pytest\n@pytest.fixture\ndef docker():\n    pytest.skip('no Docker')\n"
        "def test_it(docker): pass\n"
    ),
    "a whole module": "import pytest\npytest.skip('no Docker', allow_module_level=True)\n",
}
FINE = (
    "import pytest\n@pytest.mark.xfail\ndef test_it():\n    assert False\ndef test_other(): pass\n"
)


def ended(folder: Path, content: str, ci: str) -> tuple[int, str]:
    """Run a file of tests as pytest does with this plugin; return its exit code and output."""
    (folder / "test_file.py").write_text(content)
    (folder / "pytest.ini").write_text("[pytest]\n")
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    answer = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tests.no_skips", "-p", "no:cacheprovider"],
        cwd=folder,
        env={**environ, "CI": ci, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.returncode, answer.stdout


@pytest.mark.parametrize("content", KINDS.values(), ids=KINDS)
def test_a_skip_fails_where_ci_is_set_and_nowhere_else(tmp_path: Path, content: str) -> None:
    code, output = ended(tmp_path, content, "true")
    assert code in {1, 2}
    assert "skipped, although CI is set" in output
    assert "no Docker" in output
    code, output = ended(tmp_path, content, "")
    assert code in {0, 5}
    assert "1 skipped" in output


def test_what_is_expected_to_fail_is_not_skipped(tmp_path: Path) -> None:
    code, output = ended(tmp_path, FINE, "true")
    assert (0, True) == (code, "1 passed, 1 xfailed" in output)


def test_the_tests_here_are_judged_so(request: pytest.FixtureRequest) -> None:
    assert request.config.pluginmanager.hasplugin("tests.no_skips")

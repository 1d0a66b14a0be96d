"""What needs Docker: run by ``make test-docker``, never collected by ``make test``."""

import shutil
import subprocess

from tests.configurations import ROOT


def test_compose_reads_the_file_without_a_complaint() -> None:
    docker = shutil.which("docker")
    assert docker is not None, "docker is not on the PATH: install it with its Compose plugin"
    command = [docker, "compose", "--file", str(ROOT / "deploy/compose.yaml"), "config", "--quiet"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (0, "") == (answer.returncode, answer.stderr)

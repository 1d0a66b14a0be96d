"""The step that pins images by digest, with a Docker that answers what a test says."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.configurations import ROOT

FILES = ("Dockerfile", "emulator.Dockerfile", "compose.yaml")
DIGESTS = {
    "python:3.13.9-slim-bookworm": f"sha256:{'a' * 64}",
    "apache/kafka:4.2.2": f"sha256:{'b' * 64}",
    "postgres:17.6-bookworm": f"sha256:{'d' * 64}",
}
DOCKER = """\
#!/bin/sh
[ "$1 $2 $3" = "buildx imagetools inspect" ] || exit 9
echo "$4" >> asked
case "$4" in
{answers}
*) echo "ERROR: $4: not found" >&2; exit 1;;
esac
"""


class Deploy:
    """A copy of the files of deploy, and a docker that knows some digests."""

    def __init__(self, folder: Path, digests: dict[str, str]) -> None:
        self.folder = folder
        for name in FILES:
            shutil.copy(ROOT / "deploy" / name, folder)
        binaries = folder / "bin"
        binaries.mkdir()
        answers = "\n".join(f'{image}) echo "{digest}";;' for image, digest in digests.items())
        (binaries / "docker").write_text(DOCKER.format(answers=answers))
        (binaries / "docker").chmod(0o755)

    def pin(self, path: str = "bin:/usr/bin:/bin") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, str(ROOT / "tools" / "pin_images.py"), *FILES],
            cwd=self.folder,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )

    def text(self) -> str:
        return "".join((self.folder / name).read_text() for name in FILES)


def unpinned(text: str) -> str:
    for digest in DIGESTS.values():
        text = text.replace(f"@{digest}", "")
    return text


def test_every_image_that_is_not_built_here_gets_its_digest_and_nothing_else_changes(
    tmp_path: Path,
) -> None:
    deploy = Deploy(tmp_path, DIGESTS)
    before = deploy.text()
    answer = deploy.pin()
    assert (0, "") == (answer.returncode, answer.stderr)
    assert [f"{name}@{digest}" for name, digest in DIGESTS.items()] == answer.stdout.splitlines()
    assert sorted(DIGESTS) == sorted((tmp_path / "asked").read_text().split())
    assert 4 == sum(deploy.text().count(digest) for digest in DIGESTS.values())
    assert unpinned(before) == unpinned(deploy.text())
    services = yaml.safe_load((tmp_path / "compose.yaml").read_text())["services"]
    images = {service["image"] for service in services.values()}
    assert all("@sha256:" in image or image.endswith(":local") for image in images)


def test_a_digest_is_replaced_by_that_of_today(tmp_path: Path) -> None:
    Deploy(tmp_path, DIGESTS).pin()
    shutil.rmtree(tmp_path / "bin")
    pinned = {name: (tmp_path / name).read_text() for name in FILES}
    later = dict.fromkeys(DIGESTS, f"sha256:{'c' * 64}")
    deploy = Deploy(tmp_path, later)
    for name, text in pinned.items():
        (tmp_path / name).write_text(text)
    assert 0 == deploy.pin().returncode
    assert 4 == deploy.text().count("c" * 64)
    assert not [digest for digest in DIGESTS.values() if digest in deploy.text()]


@pytest.mark.parametrize("known", [{}, {"apache/kafka:4.2.2": "oops"}])
def test_a_digest_that_nobody_tells_is_not_made_up(tmp_path: Path, known: dict[str, str]) -> None:
    deploy = Deploy(tmp_path, {"python:3.13.9-slim-bookworm": f"sha256:{'a' * 64}", **known})
    before = deploy.text()
    answer = deploy.pin()
    assert 1 == answer.returncode
    assert "apache/kafka:4.2.2: the registry tells no digest" in answer.stderr
    assert before == deploy.text()


def test_without_docker_it_says_so(tmp_path: Path) -> None:
    deploy = Deploy(tmp_path, DIGESTS)
    answer = deploy.pin(path=str(tmp_path))
    assert 1 == answer.returncode
    assert "docker cannot be run" in answer.stderr

"""``python -m tests.package DIST``: build what is published, judge it, and run it as installed.

The source distribution is built from the tree and the wheel from that; both with the locked
setuptools. The wheel is installed into a fresh environment, whose dependencies are those of the
environment this runs in, and ``forwarder check`` runs from there, away from the tree.
"""

import email
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def main(dist: Path) -> None:
    """Do it all; raises CalledProcessError or AssertionError at the first that is wrong."""
    shutil.rmtree(dist, ignore_errors=True)
    python(ROOT, "-m", "build", "--no-isolation", "--outdir", str(dist), str(ROOT))
    (wheel,) = dist.glob("*.whl")
    (source,) = dist.glob("*.tar.gz")
    python(ROOT, "-m", "twine", "check", "--strict", str(wheel), str(source))
    python(ROOT, "-m", "pip", "check")
    judge_page(wheel)
    with tempfile.TemporaryDirectory() as folder:
        run_as_installed(wheel, Path(folder))
        assert modules(wheel) == modules(built_as_the_image(Path(folder)))
    sys.stdout.write(f"{wheel.name} and {source.name} are good\n")


def python(folder: Path, *arguments: str) -> str:
    """Run this environment's Python; what it prints is shown where it fails."""
    return run([sys.executable, *arguments], folder)


def run(command: list[str], folder: Path) -> str:
    """Run a command in a folder, in an environment without the tree; return what it prints."""
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    answer = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    if answer.returncode:
        sys.stderr.write(answer.stdout + answer.stderr)
        answer.check_returncode()
    return answer.stdout


def judge_page(wheel: Path) -> None:
    """See that no link of the package's page leads nowhere from an index."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        page = email.message_from_bytes(archive.read(name)).get_payload()
    links = re.findall(r"\]\(([^)]*)\)", str(page))
    assert [] == [link for link in links if not link.startswith("https://")]


def built_as_the_image(folder: Path) -> Path:
    """Build the wheel from what deploy/Dockerfile copies and as it does; return it."""
    source, wheels = folder / "source", folder / "wheels"
    source.mkdir()
    for line in (ROOT / "deploy/Dockerfile.dockerignore").read_text().splitlines():
        name = line.removeprefix("!")
        if line.startswith("!") and (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name)
        elif line.startswith("!"):
            shutil.copy(ROOT / name, source)
    python(
        source, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps",
        "--no-build-isolation", "--wheel-dir", str(wheels), ".",
    )  # fmt: skip
    (wheel,) = wheels.iterdir()
    return wheel


def modules(wheel: Path) -> set[str]:
    """Return the names of the package's files in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if name.startswith("forwarder/")}


def run_as_installed(wheel: Path, folder: Path) -> None:
    """Install the wheel into an environment of its own, and check the documented examples."""
    fresh = folder / "environment"
    venv.create(fresh, with_pip=False, symlinks=True)
    scheme = {"base": str(fresh), "platbase": str(fresh)}
    packages = Path(sysconfig.get_path("purelib", "venv", scheme))
    python(
        folder, "-m", "pip", "--python", str(fresh / "bin" / "python"),
        "install", "--quiet", "--no-deps", "--no-index", str(wheel),
    )  # fmt: skip
    # Nothing in the folder below is executed by this line, so the tree stays out of sight.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command = str(fresh / "bin" / "forwarder")
    where = [str(fresh / "bin" / "python"), "-c", "import forwarder; print(forwarder.__file__)"]
    assert str(fresh) in run(where, folder)
    assert re.fullmatch(r"forwarder \d+\.\d+\.\d+\S*\n", run([command, "--version"], folder))
    shared = fresh / "share" / "doc" / "kafka-kinesis-forwarder"
    shown = run([command, "check", str(shared / "config" / "forwarder.yaml")], folder)
    assert shown.endswith("ok: 1 connection, no faults\n")
    assert (shared / "docs" / "guarantee.md").is_file()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())

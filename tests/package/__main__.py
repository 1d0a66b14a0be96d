"""``python -m tests.package DIST``: build what is published, judge it, and run it as installed.

The source distribution is built from the tree and the wheels from that, with the locked build
backend: one with the native core, for this Python and platform (where there is no Rust that one is
left out, unless CI=true), and one of pure Python, as it comes about without Rust. Each is installed
into a fresh environment, whose dependencies are those of the environment this runs in; there, away
from the tree, ``forwarder check`` runs, and a file of uploads is forwarded: both give the same.
"""

import email
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
NO_RUST = {"CARGO": "/there/is/no/cargo"}
WITH_CORE = {"FORWARDER_NATIVE": "1"}
CORPUS = ROOT / "tests/data/corpus"


def main(dist: Path) -> None:
    """Do it all; raises CalledProcessError or AssertionError at the first that is wrong."""
    shutil.rmtree(dist, ignore_errors=True)
    python(ROOT, "-m", "build", "--no-isolation", "--sdist", "--outdir", str(dist), str(ROOT))
    (source,) = dist.glob("*.tar.gz")
    with tempfile.TemporaryDirectory() as folder:
        pure = built(source, Path(folder, "pure"), dist, NO_RUST)
        judge(pure, "python")
        if shutil.which("cargo") or os.environ.get("CI") == "true":
            wheel = built(source, Path(folder, "native"), dist, WITH_CORE)
            judge(wheel, "native")
            assert modules(wheel) - modules(pure) == {core_file()}
            assert modules(wheel) == modules(built_as_the_image(Path(folder)))
            compare(wheel, pure, Path(folder))
        else:
            sys.stdout.write("there is no Rust here: no wheel with the native core is built\n")
            run_as_installed(pure, Path(folder, "installed"), "python")
    made = [path.name for path in sorted(dist.iterdir())]
    python(ROOT, "-m", "twine", "check", "--strict", *(str(dist / name) for name in made))
    python(ROOT, "-m", "pip", "check")
    sys.stdout.write(f"good: {', '.join(made)}\n")


def built(source: Path, folder: Path, dist: Path, environ: Mapping[str, str]) -> Path:
    """Build a wheel of the source distribution into ``dist``; return it."""
    with tarfile.open(source) as archive:
        archive.extractall(folder, filter="data")
    (tree,) = folder.iterdir()
    before = {*dist.iterdir()}
    build = ["-m", "build", "--no-isolation", "--wheel", "--outdir", str(dist), str(tree)]
    python(ROOT, *build, **environ)
    (wheel,) = {*dist.iterdir()} - before
    return wheel


def core_file() -> str:
    """Return the name of the native core's file for this Python."""
    return f"forwarder/native/_core{sysconfig.get_config_var('EXT_SUFFIX')}"


def judge(wheel: Path, core: str) -> None:
    """See that a wheel is tagged for whom it is, and that its page leads somewhere."""
    tag = wheel.name.removesuffix(".whl").split("-", 2)[2]
    ours = f"cp{sys.version_info.major}{sys.version_info.minor}"
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    assert tag == ("py3-none-any" if core == "python" else f"{ours}-{ours}-{platform}")
    judge_page(wheel)


def compare(wheel: Path, pure: Path, folder: Path) -> None:
    """See that both wheels work as installed, and make the same of the same uploads."""
    of_core = run_as_installed(wheel, folder / "with", "native")
    of_python = run_as_installed(pure, folder / "without", "python")
    assert of_core == of_python


def python(folder: Path, *arguments: str, **environ: str) -> str:
    """Run this environment's Python; what it prints is shown where it fails."""
    return run([sys.executable, *arguments], folder, environ)


def run(command: list[str], folder: Path, more: Mapping[str, str] | None = None) -> str:
    """Run a command in a folder, in an environment without the tree; return what it prints.

    ``more``: what stands in that environment besides; which core is built or runs only if it does.
    """
    left = {"PYTHONPATH", "FORWARDER_NATIVE"}
    environ = {key: value for key, value in os.environ.items() if key not in left}
    # What the core is made with is compiled once for all that is built here.
    environ["CARGO_TARGET_DIR"] = str(ROOT / "forwarder/native/target")
    answer = subprocess.run(
        command, cwd=folder, env={**environ, **(more or {})}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
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
    lines = (ROOT / "deploy/Dockerfile.dockerignore").read_text().splitlines()
    built = shutil.ignore_patterns(*(line[3:] for line in lines if line.startswith("**/")))
    for name in [line.removeprefix("!") for line in lines if line.startswith("!")]:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=built)
        else:
            shutil.copy(ROOT / name, source)
    python(
        source, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps",
        "--no-build-isolation", "--wheel-dir", str(wheels), ".", **WITH_CORE,
    )  # fmt: skip
    (wheel,) = wheels.iterdir()
    return wheel


def modules(wheel: Path) -> set[str]:
    """Return the names of the package's files in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if name.startswith("forwarder/")}


def run_as_installed(wheel: Path, fresh: Path, core: str) -> dict[str, bytes]:
    """Install the wheel into an environment of its own, and check the documented examples.

    Returns what comes of the corpus's uploads, by the names of the files.
    """
    venv.create(fresh, with_pip=False, symlinks=True)
    scheme = {"base": str(fresh), "platbase": str(fresh)}
    packages = Path(sysconfig.get_path("purelib", "venv", scheme))
    folder, interpreter = fresh.parent, str(fresh / "bin" / "python")
    python(
        folder, "-m", "pip", "--python", interpreter,
        "install", "--quiet", "--no-deps", "--no-index", str(wheel),
    )  # fmt: skip
    # Nothing in the folder below is executed by this line, so the tree stays out of sight.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command = str(fresh / "bin" / "forwarder")
    assert str(fresh) in run(
        [interpreter, "-c", "import forwarder; print(forwarder.__file__)"], folder
    )
    shown = run([command, "--version"], folder)
    assert re.fullmatch(rf"forwarder \d+\.\d+\.\d+\S* \(core: {core}.*\)\n", shown)
    shared = fresh / "share" / "doc" / "kafka-kinesis-forwarder"
    shown = run([command, "check", str(shared / "config" / "forwarder.yaml")], folder)
    assert shown.endswith("ok: 1 connection, no faults\n")
    assert (shared / "docs" / "guarantee.md").is_file()
    return forwarded(command, fresh)


def forwarded(command: str, fresh: Path) -> dict[str, bytes]:
    """Return the files that the corpus's uploads become, in batches by session."""
    source, sink = fresh / "uploads.ndjson", fresh / "out"
    source.write_bytes(
        b"".join(path.read_bytes() for path in sorted(CORPUS.glob("*/input.ndjson")))
    )
    connection = str(CORPUS / "sessions-in-order" / "connection.yaml")
    run(
        [command, "run", "--connection", connection, "--source", str(source), "--sink", str(sink)],
        fresh,
    )
    return {path.name: path.read_bytes() for path in sink.iterdir()}


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())

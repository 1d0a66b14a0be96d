"""Clients that cannot live in the project's own environment, installed once into ``.cache``.

The AWS CLI pins libraries of its own; the JavaScript clients need Node and npm.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.services.kafka import MissingToolError, skip_or_fail

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".cache"
REQUIREMENTS = HERE / "awscli-requirements.txt"
NODE = HERE / "node"
LOCKED = (NODE / "package.json", NODE / "package-lock.json")
OLDEST_NODE = 18


def aws_cli() -> Path:
    """Return the ``aws`` command, installing it the first time; skips without pip's registry."""
    place = CACHE / "awscli"
    _once(place, [REQUIREMENTS], lambda: _install_cli(place / "venv"))
    return place / "venv" / "bin" / "aws"


def node_clients() -> Path:
    """Return the folder from which node runs the scripts; skips, or fails in CI, without Node."""
    try:
        return installed_node_clients()
    except MissingToolError as missing:
        skip_or_fail(str(missing))
        raise


def installed_node_clients() -> Path:
    """Return the folder from which node runs the scripts; raises MissingToolError without Node."""
    require_node()
    place = CACHE / "node-clients"
    _once(place, LOCKED, lambda: _install_packages(place))
    for script in NODE.glob("*.mjs"):
        there = place / script.name
        if not there.exists() or there.read_bytes() != script.read_bytes():
            shutil.copyfile(script, there)
    return place


def require_node() -> None:
    """Raise MissingToolError unless Node and npm are here and new enough."""
    missing = [tool for tool in ("node", "npm") if shutil.which(tool) is None]
    version = 0
    if not missing:
        answer = _run([str(shutil.which("node")), "--version"], HERE, 60)
        version = int(answer.removeprefix("v").split(".")[0])
    if version < OLDEST_NODE:
        text = f"the JavaScript clients need Node {OLDEST_NODE} or newer, and npm, on the PATH"
        raise MissingToolError(text)


def _once(place: Path, sources: Sequence[Path], make: Callable[[], None]) -> None:
    """Do something once for each content of ``sources``, whoever else may want it done."""
    place.mkdir(parents=True, exist_ok=True)
    content = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    stamp = place / "installed"
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != content:
            stamp.unlink(missing_ok=True)
            make()
            stamp.write_text(content)


def _install_cli(target: Path) -> None:
    _run([sys.executable, "-m", "venv", "--clear", str(target)], HERE, 120)
    pip = [str(target / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    pip += ["--disable-pip-version-check", "--require-hashes", "-r", str(REQUIREMENTS)]
    _run(pip, HERE, 600)


def _install_packages(place: Path) -> None:
    for source in LOCKED:
        shutil.copyfile(source, place / source.name)
    _run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], place, 600)


def _run(command: Sequence[str], folder: Path, seconds: float) -> str:
    answer = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=seconds
    )
    if answer.returncode != 0:
        text = f"{' '.join(command[:4])}: {answer.stderr[-600:] or answer.stdout[-600:]}"
        raise MissingToolError(text)
    return answer.stdout

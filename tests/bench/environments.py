"""Virtual environments of others than this project, each made on first use from a lock file."""

import fcntl
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

FOLDER = Path(__file__).parents[2] / ".cache" / "bench"
MAKING_SECONDS = 600


def python(lock: Path) -> str:
    """Return the interpreter of the environment that a lock file names, made once."""
    digest = sha256(lock.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = FOLDER / f"{lock.parent.name}-{digest}"
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not (folder / "made").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _run(sys.executable, "-m", "venv", str(folder))
            own = str(folder / "bin" / "python")
            _run(own, "-m", "pip", "install", "-qq", "--require-hashes", "-r", str(lock))
            (folder / "made").touch()
    return str(folder / "bin" / "python")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=MAKING_SECONDS)

"""Whether the native core can be built here, and how: asked by setup.py, build_backend.py and make.

``FORWARDER_NATIVE`` in the environment of a build: ``0`` leaves the core out, ``1`` insists on it.
Without it the core is built where Rust is, and left out otherwise: pure Python does the same.
``python tools/native_core.py`` says on stderr why the core is not there, and nothing where it is.
"""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

VARIABLE = "FORWARDER_NATIVE"
MANIFEST = Path("forwarder/native/Cargo.toml")
WITHOUT = "pure Python does the same, more slowly (CONTRIBUTING.md has which Rust)"


def needed() -> bool:
    """Tell whether a build without the core is to fail."""
    return os.environ.get(VARIABLE) == "1"


def obstacle() -> str | None:
    """Return why the core is not built here; None: it is."""
    if os.environ.get(VARIABLE) == "0":
        return f"{VARIABLE}=0"
    if needed():
        return None
    cargo = os.environ.get("CARGO", "cargo")
    try:
        answer = subprocess.run(  # noqa: S603  # cargo, as the build finds it
            [cargo, "--version"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return "there is no Rust here (cargo)"
    least = tomllib.loads(MANIFEST.read_text(encoding="utf-8"))["package"]["rust-version"]
    found = re.search(r"(\d+)\.(\d+)", answer)
    if found is None or [*map(int, found.groups())] < [*map(int, least.split("."))]:
        return f"it needs Rust {least}, and here is {answer.strip()}"
    return None


def say(why: str) -> None:
    """Say on stderr that the core is not there."""
    sys.stderr.write(f"Without the native core, {why}: {WITHOUT}.\n")


def main() -> None:
    """Say why no built core lies beside its source, if none does."""
    if not any(MANIFEST.parent.glob("_core.*")):
        say(obstacle() or "it could not be compiled: make native shows why")


if __name__ == "__main__":
    main()

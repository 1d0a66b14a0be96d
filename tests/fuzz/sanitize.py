"""``make asan``: the native core under LLVM's address sanitizer, on input that means it harm.

It is compiled anew with the sanitizer (which stable Rust has, but does not promise), and a process
that has the sanitizer's runtime loaded before all else gives it mutated records, every beginning
of some, deeply nested and enormous ones, and runs the tests of what else it does. Python takes each
object's memory from ``malloc`` meanwhile, so that a byte read beyond one is found; that it would be
is tried first. Ends with 0 where nothing was found. The runtime is GCC's ``libasan``, or what
``ASAN_RUNTIME`` names.
"""

import argparse
import ctypes
import importlib.machinery
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TARGET = ROOT / "forwarder/native/target/asan"
TRIPLE = f"{os.uname().machine}-unknown-linux-gnu"
LIBRARY = TARGET / TRIPLE / "release" / "lib_core.so"
MODULE = "forwarder.native._core"
CANARY = "--canary"
FOUND = 86
TESTS = ("tests/unit/kafka/patches", "tests/unit/sinks/test_requests.py", "tests/unit/native")
"""Of what reads fetched batches and writes requests: they try mutated input themselves."""


def main() -> int:
    """Build, try whether a fault is found, and look for some."""
    parser = argparse.ArgumentParser(prog="make asan", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000, help="mutated records")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument(CANARY, action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.canary:
        return canary()
    if args.inside:
        return inside(args.cases, args.seed)
    build()
    if sanitized(CANARY).returncode != FOUND:
        sys.stderr.write("the sanitizer finds nothing, not even what is there for it\n")
        return 1
    return sanitized("--inside", f"--cases={args.cases}", f"--seed={args.seed}").returncode


def build() -> None:
    """Compile the core with the sanitizer; raises CalledProcessError."""
    environ = {
        **os.environ,
        "RUSTC_BOOTSTRAP": "1",
        "RUSTFLAGS": "-Zsanitizer=address",
        "PYO3_PYTHON": sys.executable,
        "PYO3_BUILD_EXTENSION_MODULE": "1",
        "CARGO_TARGET_DIR": str(TARGET),
    }
    manifest = str(ROOT / "forwarder/native/Cargo.toml")
    command = [os.environ.get("CARGO", "cargo"), "build", "--quiet", "--release"]
    command += ["--target", TRIPLE, "--manifest-path", manifest]
    subprocess.run(command, env=environ, check=True)
    assert b"__asan_report_load" in LIBRARY.read_bytes()


def sanitized(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run this module in a process with the sanitizer's runtime."""
    runtime = (
        os.environ.get("ASAN_RUNTIME")
        or subprocess.run(
            ["gcc", "-print-file-name=libasan.so"],  # noqa: S607  # whichever compiles here
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    )
    environ = {
        **os.environ,
        "LD_PRELOAD": runtime,
        "PYTHONMALLOC": "malloc",
        # What Python has at its end is no leak of the core's; a fault ends the process at once.
        "ASAN_OPTIONS": f"detect_leaks=0:exitcode={FOUND}:allocator_may_return_null=1",
    }
    command = [sys.executable, "-m", "tests.fuzz.sanitize", *arguments]
    quiet = subprocess.DEVNULL if CANARY in arguments else None
    return subprocess.run(command, cwd=ROOT, env=environ, check=False, stderr=quiet)


def canary() -> int:
    """Read a byte too many; the sanitizer ends the process."""
    ctypes.string_at(ctypes.create_string_buffer(b"x" * 4095), 5000)
    return 0


def inside(cases: int, seed: int) -> int:
    """Give the instrumented core all there is; return 1 if it differs from pure Python."""
    load()
    # All that is imported from here on imports the core, which is the one that was loaded above.
    failed = pytest.main(["--quiet", "-p", "no:cacheprovider", *TESTS])
    from tests.fuzz import harm  # noqa: PLC0415
    from tests.fuzz.__main__ import report, show  # noqa: PLC0415

    begun = time.monotonic()
    count, found = harm.compare_all(cases, seed)
    sys.stdout.write(f"no fault of memory in {time.monotonic() - begun:.0f} s\n")
    show(found)
    return report(count, found) or int(failed)


def load() -> None:
    """Import the instrumented library as the native core."""
    loader = importlib.machinery.ExtensionFileLoader(MODULE, str(LIBRARY))
    spec = importlib.util.spec_from_loader(MODULE, loader)
    assert spec is not None
    core = importlib.util.module_from_spec(spec)
    loader.exec_module(core)
    sys.modules[MODULE] = core


if __name__ == "__main__":
    sys.exit(main())

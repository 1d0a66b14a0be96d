"""``make dist``: wheels with the native core for Linux, for every Python and both architectures.

The wheel of pure Python is built once, and each core that Zig's linker makes for a Python and an
architecture is put into a copy of it, so that none of these Pythons has to be here. A core needs
glibc 2.17, and ``auditwheel`` looks whether that is so; the one for this Python is run as
installed, those for others are compiled alike and are run by nobody here. A target whose Rust is
missing is left out with a word (``rustup target add``). No wheels for macOS and Windows: Zig has
no SDK of either, and a worker runs on Linux.
"""

import base64
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

from tests.package.__main__ import ROOT, compare, judge_page, python, run

TOOLS = ("ziglang==0.17.1", "cargo-zigbuild==0.24.1", "auditwheel==6.8.2")
ENVIRONMENT = ROOT / ".cache" / "wheels"
TARGET = ROOT / "forwarder/native/target/wheels"
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
MACHINES = ("x86_64", "aarch64")
GLIBC = "2.17"


def main(dist: Path) -> None:
    """Build them all into ``dist``; raises CalledProcessError or AssertionError."""
    prepare()
    shutil.rmtree(dist, ignore_errors=True)
    build = ["-m", "build", "--no-isolation", "--outdir", str(dist), str(ROOT)]
    python(ROOT, *build, FORWARDER_NATIVE="0")
    (pure,) = dist.glob("*-py3-none-any.whl")
    made = [
        with_core(pure, compiled(machine, version), machine, version)
        for machine in MACHINES
        if has_rust_for(machine)
        for version in VERSIONS
    ]
    for wheel in made:
        judge(wheel)
    here = "{}{}".format(*sys.version_info)
    (ours,) = (one for one in made if f"cp{here}-" in one.name and platform.machine() in one.name)
    with tempfile.TemporaryDirectory() as folder:
        compare(ours, pure, Path(folder))
    python(ROOT, "-m", "twine", "check", "--strict", *(str(one) for one in dist.iterdir()))
    sys.stdout.write("".join(f"{one.name}\n" for one in sorted(dist.iterdir())))


def prepare() -> None:
    """Install the tools, once, into an environment of their own."""
    done = ENVIRONMENT / ".done"
    if not done.exists() or done.read_text() != " ".join(TOOLS):
        venv.create(ENVIRONMENT, with_pip=True, clear=True, symlinks=True)
        run([str(ENVIRONMENT / "bin/python"), "-m", "pip", "install", "--quiet", *TOOLS], ROOT)
        done.write_text(" ".join(TOOLS))


def has_rust_for(machine: str) -> bool:
    """Tell whether Rust's library for an architecture is here; say so where it is not."""
    target = f"{machine}-unknown-linux-gnu"
    folder = run(["rustc", "--print", "target-libdir", "--target", target], ROOT).strip()
    if Path(folder).is_dir():
        return True
    sys.stderr.write(f"no wheels for {machine}: rustup target add {target}\n")
    return False


def compiled(machine: str, version: str) -> Path:
    """Compile the core for a Python on an architecture; return the library."""
    target = f"{machine}-unknown-linux-gnu"
    TARGET.mkdir(parents=True, exist_ok=True)
    described = TARGET / f"python-{version}.txt"
    described.write_text(
        f"implementation=CPython\nversion={version}\nshared=true\nabi3=false\npointer_width=64\n"
        "suppress_build_script_link_lines=true\n"
    )
    environ = {
        "PYO3_CONFIG_FILE": str(described),
        "PYO3_BUILD_EXTENSION_MODULE": "1",
        "PATH": f"{ENVIRONMENT / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }
    command = ["cargo", "zigbuild", "--quiet", "--release", "--target", f"{target}.{GLIBC}"]
    command += ["--target-dir", str(TARGET), "--manifest-path", "forwarder/native/Cargo.toml"]
    run(command, ROOT, environ)
    return TARGET / target / "release" / "lib_core.so"


def with_core(pure: Path, library: Path, machine: str, version: str) -> Path:
    """Write a copy of a wheel that holds the core, and says for whom it is; return it."""
    short = version.replace(".", "")
    platforms = [f"manylinux_{GLIBC.replace('.', '_')}_{machine}", f"manylinux2014_{machine}"]
    tag = f"cp{short}-cp{short}"
    wheel = pure.with_name(pure.name.replace("py3-none-any", f"{tag}-{'.'.join(platforms)}"))
    core = f"forwarder/native/_core.cpython-{short}-{machine}-linux-gnu.so"
    with (
        zipfile.ZipFile(pure) as before,
        zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as after,
    ):
        record: list[str] = []
        for info, content in contents(before, [f"{tag}-{one}" for one in platforms]):
            after.writestr(info, content)
            record.append(recorded(info.filename, content))
        after.writestr(core, library.read_bytes())
        record.append(recorded(core, library.read_bytes()))
        (name,) = [one for one in before.namelist() if one.endswith(".dist-info/RECORD")]
        after.writestr(name, "".join(record) + f"{name},,\n")
    return wheel


def contents(wheel: zipfile.ZipFile, tags: list[str]) -> Iterator[tuple[zipfile.ZipInfo, bytes]]:
    """Yield the files of a wheel but its record, tagged anew."""
    for info in wheel.infolist():
        content = wheel.read(info)
        if info.filename.endswith(".dist-info/WHEEL"):
            text = content.decode().replace("Root-Is-Purelib: true", "Root-Is-Purelib: false")
            lines = "".join(f"Tag: {tag}\n" for tag in tags)
            content = re.sub(r"(?:^Tag: .*\n)+", lines, text, flags=re.MULTILINE).encode()
        if not info.filename.endswith(".dist-info/RECORD"):
            yield info, content


def recorded(name: str, content: bytes) -> str:
    """Return a file's line in a wheel's record."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(content)}\n"


def judge(wheel: Path) -> None:
    """See that a wheel is tagged for the oldest glibc that it runs with."""
    judge_page(wheel)
    machine = next(one for one in MACHINES if one in wheel.name)
    said = run([str(ENVIRONMENT / "bin/auditwheel"), "show", str(wheel)], ROOT)
    assert f'"manylinux_{GLIBC.replace(".", "_")}_{machine}"' in said.replace("\n", " "), said


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]).resolve())
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)

"""What ends a command, what does not, and what it prints then: never a traceback."""

import asyncio
import contextlib
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.acceptance.harness import Site, Worker, environment

FILE_RUN = ("run", "--connection", "connections/acme.yaml", "--source", "-", "--sink", "out")
COMMANDS = {
    "check": ("check", "--connection", "connections/acme.yaml"),
    "schema": ("schema",),
    "status": ("status", "--config", "forwarder.yaml"),
    "run over a file": FILE_RUN,
    "run": ("run", "--config", "forwarder.yaml"),
}


@pytest.fixture
def site(folder: Site) -> Site:
    """Make a configuration whose Kafka is nowhere."""
    folder.connect({"name": "acme", "sink": {"type": "file", "path": "out"}})
    folder.configure("forwarder", 0)
    return folder


def catches(process: Worker, number: signal.Signals) -> bool:
    """Tell whether a process has taken a signal; one that has ended needs it no more."""
    try:
        text = Path(f"/proc/{process.pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    caught = next(line for line in text.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1) or not process.running


@pytest.mark.parametrize("after", [0.0, 0.1, 0.2, 0.4, 0.8])
@pytest.mark.parametrize("name", COMMANDS)
async def test_ctrl_c_during_the_start_ends_it_without_a_traceback(
    site: Site, name: str, after: float
) -> None:
    reads, writes = os.pipe()
    command = site.command(*COMMANDS[name])
    command.start(stdin_from=reads)
    # Python takes SIGINT itself, and SIGHUP never: the program has both from here on.
    await command.until(lambda: catches(command, signal.SIGHUP), "it takes signals", every=0.001)
    await asyncio.sleep(after)
    command.signal(signal.SIGINT)
    code = await command.ended()
    os.close(reads)
    os.close(writes)
    said = command.log_file.read_text()
    assert "Traceback" not in said
    assert "Exception ignored" not in said
    # At its very end the interpreter gives signals back to the system, whose way is -2 here.
    assert code in {0, 1, 130, -signal.SIGINT}
    if code == 130:
        assert "forwarder: stopped" in said


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGPIPE])
async def test_a_worker_goes_on_when_its_terminal_goes_away(
    site: Site, number: signal.Signals
) -> None:
    worker = site.worker()
    worker.start()
    await worker.until(lambda: catches(worker, signal.SIGHUP), "it takes signals", every=0.001)
    for _ in range(10):
        worker.signal(number)
        await asyncio.sleep(0.05)
    await worker.until(lambda: worker.get("/livez")[0] == 200, "it lives")
    worker.signal(number)
    if number == signal.SIGHUP:
        await worker.until(
            lambda: worker.logged("signal.ignored", signal="SIGHUP"), "it says that it goes on"
        )
    worker.signal(signal.SIGTERM)
    assert await worker.ended() == 0


async def test_a_run_over_a_file_goes_on_when_its_terminal_goes_away(site: Site) -> None:
    reads, writes = os.pipe()
    run = site.command(*FILE_RUN)
    run.start(stdin_from=reads)
    await run.until(lambda: catches(run, signal.SIGHUP), "it takes signals", every=0.001)
    for _ in range(20):
        run.signal(signal.SIGHUP)
        await asyncio.sleep(0.05)
    os.close(reads)
    os.close(writes)
    assert await run.ended() == 0, run.tail()
    assert "read 0 uploads" in run.log_file.read_text()


def shell(site: Site, line: str) -> subprocess.CompletedProcess[str]:
    """Run a line in a shell, in which ``forwarder`` is the program."""
    program = f'forwarder() {{ {sys.executable} -m forwarder "$@"; }}'
    return subprocess.run(
        ["bash", "-c", f"{program}\n{line}"],  # noqa: S607  # whichever there is
        cwd=site.folder,
        env=environment(site.folder, {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


PRINTING = [
    ("check", "--connection", "connections/acme.yaml"),
    ("schema",),
    ("--help",),
    ("--version",),
    ("run", "--help"),
    (),
]


@pytest.mark.parametrize("words", PRINTING)
def test_a_full_disk_on_stdout_is_said_and_ends_it_with_1(site: Site, words: Sequence[str]) -> None:
    ended = shell(site, f"forwarder {' '.join(words)} > /dev/full")
    assert (1, "forwarder: cannot print: No space left on device\n") == (
        ended.returncode,
        ended.stderr,
    )


@pytest.mark.parametrize("words", PRINTING)
def test_a_reader_that_has_seen_enough_is_no_error(site: Site, words: Sequence[str]) -> None:
    ended = shell(site, f"forwarder {' '.join(words)} | true; echo ${{PIPESTATUS[0]}}")
    assert ("0\n", "") == (ended.stdout, ended.stderr)


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
@pytest.mark.parametrize("words", [("--help",), ("sing",), FILE_RUN])
def test_a_terminal_is_given_no_colours_where_nobody_wants_them(
    site: Site, words: Sequence[str], variables: dict[str, str]
) -> None:
    (site.folder / "nothing.txt").write_text("no upload\n")
    reads, terminal = pty.openpty()
    own = {k: v for k, v in environment(site.folder, {}).items() if k not in {"NO_COLOR", "TERM"}}
    with (site.folder / "nothing.txt").open("rb") as stdin:
        process = subprocess.Popen(
            [sys.executable, "-m", "forwarder", *words],
            cwd=site.folder,
            env={**own, "TERM": "xterm-256color", **variables},
            stdin=stdin,
            stdout=terminal,
            stderr=terminal,
        )
    os.close(terminal)
    printed = b""
    # Reading fails once nobody has the terminal open any more.
    with contextlib.suppress(OSError):
        while piece := os.read(reads, 65536):
            printed += piece
    os.close(reads)
    assert process.wait(60) in {0, 1, 2}
    assert printed
    assert b"\x1b" not in printed


def test_a_full_disk_on_stdout_and_stderr_still_tells_by_the_exit_code(site: Site) -> None:
    assert 1 == shell(site, "forwarder schema > /dev/full 2> /dev/full").returncode
    assert 2 == shell(site, "forwarder check --connection nowhere.yaml 2> /dev/full").returncode
    assert 2 == shell(site, "forwarder sing 2> /dev/full").returncode


def test_closed_descriptors_are_no_reason_to_fail(site: Site) -> None:
    line = "forwarder check --connection connections/acme.yaml"
    assert 0 == shell(site, f"{line} 2>&-").returncode
    closed = shell(site, f"{line} >&-")
    assert (1, "forwarder: cannot print: stdout is closed\n") == (closed.returncode, closed.stderr)
    run = " ".join(FILE_RUN)
    assert 0 == shell(site, f"forwarder {run} < /dev/null >&- 2>&-").returncode
    nothing_to_read = shell(site, f"forwarder {run} <&-")
    assert 1 == nothing_to_read.returncode
    assert nothing_to_read.stderr.startswith("forwarder: stdin is closed: ")


def test_a_fault_of_the_program_is_told_without_its_secrets(site: Site) -> None:
    (site.folder / "sitecustomize.py").write_text(
        "import forwarder.app\n"
        "async def read_file(*_, **__): raise RuntimeError('with hunter2')\n"
        "forwarder.app.run_file = read_file\n"
    )
    keys = {"access_key_id": "AKIAEXAMPLE", "secret_access_key": "hunter2"}
    sink = {"type": "kinesis", "stream_name": "s", "region": "us-east-1"}
    site.connect({"name": "acme", "sink": sink, "credentials": keys})
    words = "run --connection connections/acme.yaml --source /dev/null"
    ended = shell(site, f"PYTHONPATH=. forwarder {words}")
    assert 1 == ended.returncode
    assert "RuntimeError: with ****" in ended.stderr
    assert "hunter2" not in ended.stderr
    assert ended.stderr.endswith("forwarder: a fault of the program (RuntimeError)\n")

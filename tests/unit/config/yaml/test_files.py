"""A pipe named on the command line is read, once and to its end; anywhere else it is refused."""

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from forwarder.cli import main
from forwarder.config.yaml import files
from tests.configurations import ROOT, SMALL, SMALL_WORKER, Folder

Capture = pytest.CaptureFixture[str]
REFUSED = "is a pipe, a device or a socket"
KEYS = "credentials: {access_key_id: A, secret_access_key: '${file:%s}'}\n"


def checked(*argv: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run the program as its own process: what waits for ever ends after a minute."""
    return subprocess.run(
        [sys.executable, "-m", "forwarder", "check", "--quiet", *argv],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def pipe(folder: Folder) -> Path:
    """Give a pipe that nobody writes into."""
    path = folder.path / "pipe"
    os.mkfifo(path)
    return path


@pytest.fixture
def ends() -> Iterator[tuple[str, int]]:
    """Give both ends of a pipe as a shell's ``<(…)`` has it: the path of one, the other open."""
    read, write = os.pipe()
    yield f"/dev/fd/{read}", write
    os.close(read)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", ["acme.yaml", "beta.yaml"])
def test_a_pipe_among_connections_is_a_fault_and_waited_for_by_nobody(name: str) -> None:
    path = Path("connections", name)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    done = checked("forwarder.yaml")
    text = f"connections/{name}:1: (file): {REFUSED}; put a file in its place\n"
    assert (2, text) == (done.returncode, done.stderr)


@pytest.mark.parametrize("more", [[], ["--no-secrets"]])
def test_a_pipe_that_a_value_is_taken_from_is_a_fault(
    folder: Folder, pipe: Path, more: list[str]
) -> None:
    folder.connect(SMALL + KEYS % pipe)
    done = checked("forwarder.yaml", *more)
    assert 2 == done.returncode
    assert f"${{file:{pipe}}} {REFUSED}; point to a file of text\n" in done.stderr


def test_devices_are_refused_like_pipes(folder: Folder) -> None:
    (folder.path / "connections" / "beta.yaml").symlink_to("/dev/zero")
    folder.connect(SMALL + KEYS % "/dev/zero")
    first, second = folder.faults()
    assert f"secret_access_key: ${{file:/dev/zero}} {REFUSED}; point to a file of text" in first
    assert f"connections/beta.yaml:1: (file): {REFUSED}; put a file in its place" == second


@pytest.mark.parametrize("option", [[], ["--config"], ["--connection"]])
def test_a_pipe_without_a_writer_is_an_empty_file(pipe: Path, option: list[str]) -> None:
    done = checked(*option, str(pipe))
    assert 2 == done.returncode
    assert f"{pipe}:1: (file): is empty" in done.stderr


def test_a_connection_comes_through_standard_input(folder: Folder) -> None:
    del folder
    done = checked("/dev/stdin", given=f"{SMALL}status: asleep\n")
    assert (2, "/dev/stdin:6: status: must be") == (done.returncode, done.stderr[:29])
    assert (0, "") == (checked("/dev/stdin", given=SMALL).returncode, done.stdout)


def test_a_worker_file_from_a_pipe_names_folders_where_it_is_checked(
    folder: Folder, ends: tuple[str, int], capsys: Capture
) -> None:
    path, write = ends
    os.write(write, SMALL_WORKER.encode())
    os.close(write)
    assert 0 == main(["check", path])
    text = capsys.readouterr().out
    assert f"{path}\n  # group forwarder reads raw-events\n" in text
    assert "ok: 1 connection, no faults\n" in text
    assert folder.path == Path.cwd()


def test_what_is_written_in_pieces_is_waited_for(ends: tuple[str, int], capsys: Capture) -> None:
    path, write = ends

    def written() -> None:
        for line in SMALL.splitlines(keepends=True):
            os.write(write, line.encode())
        os.close(write)

    # Some bytes of it come after the first look, most often.
    threading.Thread(target=written).start()
    assert 0 == main(["check", "--quiet", "--connection", path])
    assert "" == capsys.readouterr().out


def test_a_writer_that_stays_silent_is_given_up(
    ends: tuple[str, int],
) -> None:
    path, write = ends
    os.write(write, b"name: acme\n")
    with pytest.raises(TimeoutError, match=r"come out of it for 0\.01 s"):
        files.read_bounded(Path(path), 5_000, pipes=True, silence=0.01)
    os.close(write)


def test_a_pipe_that_gives_nothing_is_a_fault(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object, **__: object) -> bytes:
        raise TimeoutError(errno.ETIMEDOUT, "nothing has come out of it for 60 s")

    monkeypatch.setattr(files, "read_bounded", silent)
    text = "cannot be read (nothing has come out of it for 60 s); check the path"
    assert f"forwarder.yaml:1: (file): {text}" in folder.faults()


def test_a_pipe_without_end_is_read_up_to_the_bound(ends: tuple[str, int]) -> None:
    path, write = ends
    os.write(write, b"x" * 10_000)
    assert 5_001 == len(files.read_bounded(Path(path), 5_000, pipes=True))
    os.close(write)


KINDS = [
    ("kafkaa: {bootstrap_servers: [a:1], topics: [t]}\n", "kafkaa: ", "did you mean kafka?"),
    ("kafak: {}\nname: x\nstatus: active\n", "kafak: ", "did you mean kafka?"),
    (f"{SMALL_WORKER}name: acme\n", "name: ", "is no key that is known here"),
    (f"{SMALL_WORKER}name: a\nsink: {{}}\nmatch: {{}}\n", "sink: ", "is no key"),
    (f"{SMALL}log: {{}}\n", "log: ", "is no key that is known here"),
    ("nam: acme\nsnik: {}\n", "snik: ", "did you mean sink?"),
]


@pytest.mark.parametrize(("text", "key", "words"), KINDS)
def test_a_file_is_judged_as_what_it_was_meant_to_be(
    folder: Folder, capsys: Capture, text: str, key: str, words: str
) -> None:
    folder.write(text)
    assert 2 == main(["check", "forwarder.yaml"])
    faults = capsys.readouterr().err.splitlines()
    [fault] = [each for each in faults if f": {key}" in each]
    assert words in fault

"""A real PostgreSQL on loopback, of Debian's package ``postgresql``, for tests and measurements.

Its server refuses to run as root, so where the tests do, it runs as the user ``postgres`` or
``nobody``, in a folder of that user's. ``PostgresServer`` works without pytest.
"""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.kafka import MissingToolError, free_port, skip_or_fail

USER = "gateway"
PASSWORD = "pg-s3cret/%@word"
PASSWORD_IN_DSN = "pg-s3cret%2F%25%40word"
START_SECONDS = 60.0
STOP_SECONDS = 20.0
SETTINGS = {
    # What a kill of its processes loses is nothing: the operating system lives on.
    "fsync": "off",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "listen_addresses": "127.0.0.1",
    "log_min_messages": "fatal",
}


class PostgresServer:
    """One server with a folder of its own; start, stop, kill and restart keep port and data."""

    def __init__(
        self, settings: dict[str, str] | None = None, primary: "PostgresServer | None" = None
    ) -> None:
        """Make its folder and an empty cluster, or a copy that follows a primary.

        Raises MissingToolError where that cannot be.
        """
        self._programs = _programs()
        self._account = _account()
        self.settings = SETTINGS | (settings or {})
        self.port = free_port()
        # Not one of pytest's folders: those are closed to other users.
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._process: subprocess.Popen[bytes] | None = None
        self.give(self.folder)
        if primary is None:
            self.give(self.folder / "password", PASSWORD.encode())
            command = ["initdb", "--pgdata", str(self.data), "--username", USER, "--pwfile"]
            command += [str(self.folder / "password"), "--auth", "scram-sha-256"]
            self._run([*command, "--encoding", "UTF8", "--locale", "C", "--no-sync"])
        else:
            command = ["pg_basebackup", "--dbname", primary.dsn(), "--pgdata", str(self.data)]
            self._run([*command, "--write-recovery-conf", "--checkpoint", "fast", "--no-sync"])

    def give(self, path: Path, content: bytes | None = None) -> Path:
        """Give a path to the server's user, writing it first where there is content."""
        if content is not None:
            path.write_bytes(content)
            path.chmod(0o600)
        if self._account is not None:
            os.chown(path, self._account.pw_uid, self._account.pw_gid)
        return path

    @property
    def data(self) -> Path:
        """The cluster's folder."""
        return self.folder / "data"

    def dsn(
        self, database: str = "postgres", user: str = USER, password: str = PASSWORD_IN_DSN
    ) -> str:
        """Return what clients connect with."""
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = [word for it in self.settings.items() for word in ("-c", "=".join(it))]
        command = [str(self._programs / "postgres"), "-D", str(self.data), "-p", str(self.port)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "-k", str(self.folder), *options],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,
                **self._identity(),  # type: ignore[call-overload]
            )
        self._await_ready()

    def stop(self) -> None:
        """End all sessions and shut down, as a restart by its service does."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Kill all of the server at once; the next start recovers."""
        sessions = self._sessions()
        self._end(signal.SIGKILL)
        for pid in sessions:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # They hold its shared memory, without which it does not start, until they are gone.
        deadline = time.monotonic() + STOP_SECONDS
        while any(map(_is_there, sessions)):
            if time.monotonic() > deadline:
                text = f"sessions of PostgreSQL outlive their kill: {sessions}"
                raise RuntimeError(text)
            time.sleep(0.005)

    def suspend(self) -> None:
        """Stop all of its processes without ending them; connections stay open and silent."""
        self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        """Let a suspended server go on."""
        self._signal(signal.SIGCONT)

    def remove(self) -> None:
        """Stop it and delete all of it."""
        self.wake()
        self._end(signal.SIGINT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def new_database(self, template: str = "template0") -> str:
        """Create a database and return its dsn."""
        name = f"t{secrets.token_hex(6)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.dsn(name)

    def execute(self, statements: str, dsn: str = "") -> str:
        """Run statements with psql; return what they print, one value a line."""
        command = ["psql", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", dsn or self.dsn()]
        answer = subprocess.run(
            command, input=statements, capture_output=True, text=True, check=False, timeout=120
        )
        if answer.returncode != 0:
            raise RuntimeError(answer.stderr)
        return answer.stdout

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            for pid in (self._process.pid, *self._sessions()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def _sessions(self) -> list[int]:
        """Return the processes that the server started."""
        if self._process is None:
            return []
        listed = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid="],  # noqa: S607  # the shell's own
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        pairs = (line.split() for line in listed.stdout.splitlines())
        return [int(pid) for pid, parent in pairs if int(parent) == self._process.pid]

    def _await_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        probe = [str(self._programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                break
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                if subprocess.run(probe, check=False, timeout=10).returncode == 0:
                    return
            time.sleep(0.02)
        tail = (self.folder / "log").read_text(errors="replace")[-2000:]
        self._end(signal.SIGKILL)
        text = f"PostgreSQL did not start:\n{tail}"
        raise RuntimeError(text)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)

    def _run(self, command: list[str]) -> None:
        program, *arguments = command
        answer = subprocess.run(  # type: ignore[call-overload]
            [str(self._programs / program), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            cwd=self.folder,
            **self._identity(),
        )
        if answer.returncode != 0:
            text = f"{command[0]} failed: {answer.stderr[-1000:]}"
            raise RuntimeError(text)

    def _identity(self) -> dict[str, object]:
        """Return what makes a process that of another user than root."""
        if self._account is None:
            return {}
        it = self._account
        return {"user": it.pw_uid, "group": it.pw_gid, "extra_groups": []}


def _is_there(pid: int) -> bool:
    """Tell whether a process has not ended; one that only waits to be reaped has."""
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    ).stdout.strip()
    return bool(state) and not state.startswith("Z")


def _programs() -> Path:
    """Return the folder of the server's programs, the newest there is."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if found:
        return max(found, key=lambda path: int(path.parts[-3])).parent
    initdb = shutil.which("initdb")
    if initdb is None or shutil.which("psql") is None:
        text = "a real PostgreSQL needs Debian's package postgresql, or initdb and psql on the PATH"
        raise MissingToolError(text)
    return Path(initdb).resolve().parent


def _account() -> pwd.struct_passwd | None:
    """Return whom the server runs as; None: as whoever runs the tests."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    text = "PostgreSQL does not run as root, and there is neither postgres nor nobody"
    raise MissingToolError(text)


def own_postgres(
    settings: dict[str, str] | None = None, primary: PostgresServer | None = None
) -> PostgresServer:
    """Return a running server for one test that stops, kills or reconfigures it."""
    try:
        server = PostgresServer(settings, primary)
    except MissingToolError as missing:
        skip_or_fail(str(missing))
        raise
    server.start()
    return server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Return a server that the whole session shares; tests make databases of their own."""
    server = own_postgres()
    yield server
    server.remove()

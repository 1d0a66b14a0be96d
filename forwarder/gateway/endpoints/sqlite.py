"""Endpoints in a file: the default, for one gateway.

SQLite runs in a thread of its own. What concurrent requests ask meanwhile is gathered into the next
transaction, so that all of them share one fsync (group commit). ``synchronous=FULL``: with a write
ahead log NORMAL would leave the fsync to the next checkpoint, and a machine that loses its power
would forget what was answered.

The file has one owner, who holds a lock as long as it lives: so what is in memory cannot be stale,
and an endpoint that is cached and that a request does not change costs neither thread nor file.
"""

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, NamedTuple, Self, TypeVar

from forwarder.gateway.endpoints import schema
from forwarder.gateway.endpoints.cache import EndpointCache, Key
from forwarder.gateway.endpoints.contract import (
    MOST_OF_USER,
    EndpointUpdate,
    Merge,
    Merged,
    StoreError,
)
from forwarder.gateway.endpoints.keys import index_key
from forwarder.gateway.endpoints.merge import user_id

APPLICATION_ID = 0x666F7265
"""Marks the file as an endpoint store ("fore"), in the place that SQLite has for that."""
MOST_AT_ONCE = 512
"""Requests in a transaction."""
PRAGMAS = (
    # Pages, 16 MiB: what changes often is written into the file once instead of at each thousand.
    "PRAGMA wal_autocheckpoint = 4096",
    "PRAGMA synchronous = FULL",
    # What a privacy request deletes is overwritten, not just unlinked.
    "PRAGMA secure_delete = ON",
    # Bytes: a log that a burst made long is cut again.
    "PRAGMA journal_size_limit = 67108864",
    # KiB, negative: pages that are kept in memory.
    "PRAGMA cache_size = -16384",
)
READ = "SELECT document FROM forwarder_endpoints WHERE app = ? AND endpoint = ?"
READ_USER = (
    f"SELECT document FROM forwarder_endpoints WHERE app = ? AND user_id = ? LIMIT {MOST_OF_USER}"  # noqa: S608
)
DELETE = "DELETE FROM forwarder_endpoints WHERE app = ? AND endpoint = ? RETURNING document"
DELETE_USER = (
    "DELETE FROM forwarder_endpoints WHERE rowid IN"  # noqa: S608
    " (SELECT rowid FROM forwarder_endpoints WHERE app = ? AND user_id = ?"
    f" LIMIT {MOST_OF_USER}) RETURNING document"
)
WRITE = (
    "INSERT INTO forwarder_endpoints (app, endpoint, user_id, document) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (app, endpoint) DO UPDATE"
    " SET user_id = excluded.user_id, document = excluded.document"
)
# Changes nothing, and writes: finds a full disk.
PROBE = f"UPDATE {schema.VERSIONS_TABLE} SET version = version"  # noqa: S608
REMEDIES: Mapping[int, str] = {
    sqlite3.SQLITE_NOTADB: "name another file",
    sqlite3.SQLITE_CORRUPT: "put a backup of it in its place while no gateway runs",
    sqlite3.SQLITE_FULL: "make room on its disk",
    sqlite3.SQLITE_IOERR: "make room on its disk, or see what its disk reports",
    sqlite3.SQLITE_READONLY: "let the gateway's user write to it",
}
"""By SQLite's primary result codes (sqlite.org/rescode.html)."""
LASTING = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT})

T = TypeVar("T")


class _Request(Generic[T]):
    """What is asked of the file, and who waits for it.

    ``act`` runs in the thread, within a transaction. ``told`` is called in the loop once that is
    committed, before anybody who waits goes on. ``keys``, ``every``: what it may change.
    """

    __slots__ = ("act", "answer", "every", "keys", "told")

    def __init__(
        self,
        act: Callable[[sqlite3.Connection], T],
        told: Callable[[T], None],
        keys: Sequence[Key],
        *,
        every: bool,
    ) -> None:
        self.act = act
        self.told = told
        self.keys = keys
        self.every = every
        self.answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()


class _Transaction(NamedTuple):
    """What a committed transaction answers each request, and whether it wrote anything."""

    answers: list[Any]
    wrote: bool


class SqliteStore:
    """An EndpointStore in one file, owned by one process."""

    def __init__(self, path: Path, merge: Merge, cache_bytes: int) -> None:
        self._merge = merge
        self._lock = _take_lock(path)
        self._file = _File(path)
        self._thread = ThreadPoolExecutor(1, "endpoints")
        self._waiting: list[_Request[Any]] = []
        self._committing: asyncio.Task[None] | None = None
        self._cache = EndpointCache(cache_bytes)
        self._failed = False

    @classmethod
    async def open(cls, path: Path, merge: Merge, *, cache_bytes: int = 32 * 1024 * 1024) -> Self:
        """Open the file, making it where there is none, and bring its schema up to date.

        Raises StoreError: another process owns it, it is no endpoint store, a newer program wrote
        it, or it cannot be read and written.
        """
        store = cls(path, merge, cache_bytes)
        try:
            await store.check()
        except BaseException:
            await store.close()
            raise
        return store

    async def merge(self, app: str, updates: Mapping[str, EndpointUpdate]) -> dict[str, Merged]:
        """Merge in memory where everything is cached and nothing changes, else in the file."""
        unchanged = self._merge_cached(app, updates)
        if unchanged is not None:
            return unchanged

        def told(merged: dict[str, Merged]) -> None:
            for endpoint, it in merged.items():
                self._cache.put((app, endpoint), it.endpoint)

        return await self._ask(
            lambda connection: _merge_stored(connection, self._merge, app, updates),
            told,
            [(app, endpoint) for endpoint in updates],
        )

    async def read(self, app: str, endpoint: str) -> bytes | None:
        """Return an endpoint, from memory where it is cached."""
        cached = self._cache.get((app, endpoint))
        if cached is not None:
            return cached
        found = await self._ask(lambda connection: _documents(connection, READ, app, endpoint))
        return found[0] if found else None

    async def delete(self, app: str, endpoint: str) -> bytes | None:
        """Delete an endpoint; its bytes in the file are overwritten."""
        deleted = await self._ask(
            lambda connection: _documents(connection, DELETE, app, endpoint),
            lambda _: self._cache.drop((app, endpoint)),
            [(app, endpoint)],
        )
        return deleted[0] if deleted else None

    async def read_user(self, app: str, user: str) -> Sequence[bytes]:
        """Return a user's endpoints."""
        return await self._ask(lambda connection: _documents(connection, READ_USER, app, user))

    async def delete_user(self, app: str, user: str) -> Sequence[bytes]:
        """Delete a user's endpoints, transaction by transaction if they are many."""

        def told(deleted: list[bytes]) -> None:
            if deleted:
                self._cache.clear()

        first: list[bytes] = []
        while True:
            # Which endpoints these are is not known before, so none is answered from memory.
            deleted = await self._ask(
                lambda connection: _documents(connection, DELETE_USER, app, user), told, every=True
            )
            first = first or deleted
            if len(deleted) < MOST_OF_USER:
                return first

    async def check(self) -> None:
        """Ask the file; after a failed write, whether it can be written again.

        Raises StoreError, too, where another file or none stands in its place: what is written
        goes to the one that was opened, and is gone with the process.
        """
        statement = PROBE if self._failed else "SELECT 1"
        await self._ask(lambda connection: connection.execute(statement).fetchone())
        self._file.check_place()

    async def close(self) -> None:
        """Finish what was asked, close the file and give it up."""
        while self._committing is not None:
            await asyncio.wait([self._committing])
        await asyncio.get_running_loop().run_in_executor(self._thread, self._file.close)
        self._thread.shutdown(wait=False)
        os.close(self._lock)

    def _merge_cached(
        self, app: str, updates: Mapping[str, EndpointUpdate]
    ) -> dict[str, Merged] | None:
        """Return what updates become that change nothing; None: the file has to be asked."""
        merged = {}
        for endpoint, update in updates.items():
            cached = self._cache.get((app, endpoint))
            if cached is None:
                return None
            merged[endpoint] = self._merge(app, endpoint, cached, update)
            if merged[endpoint].changed:
                return None
        return merged

    async def _ask(
        self,
        act: Callable[[sqlite3.Connection], T],
        told: Callable[[T], None] = lambda _: None,
        keys: Sequence[Key] = (),
        *,
        every: bool = False,
    ) -> T:
        """Have something done in the next transaction; return once that is durable."""
        request = _Request(act, told, keys, every=every)
        self._cache.mark(keys, every=every)
        self._waiting.append(request)
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit())
        return await request.answer

    async def _commit(self) -> None:
        """Do what waits, transaction by transaction, until nothing does."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]
            try:
                answers, wrote = await loop.run_in_executor(
                    self._thread, self._file.transact, [it.act for it in batch]
                )
                self._failed = self._failed and not wrote
            except Exception as error:  # noqa: BLE001  # whatever it is, nobody may wait for ever
                self._failed = True
                answers = [error] * len(batch)
            for request, answer in zip(batch, answers, strict=True):
                self._settle(request, answer)
        self._committing = None

    def _settle(self, request: _Request[T], answer: T | Exception) -> None:
        """Tell the cache what became of a request, then who waits for it."""
        if isinstance(answer, Exception):
            # A commit that failed may have reached the disk all the same.
            self._cache.clear()
        else:
            request.told(answer)
        self._cache.unmark(request.keys, every=request.every)
        if request.answer.done():
            return
        if isinstance(answer, StoreError):
            request.answer.set_exception(
                StoreError(answer.what, answer.remedy, lasting=answer.lasting)
            )
        elif isinstance(answer, Exception):
            request.answer.set_exception(answer)
        else:
            request.answer.set_result(answer)


class _File:
    """The file as its thread sees it; opened at the first transaction, and after a failed one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._opened: os.stat_result | None = None

    def check_place(self) -> None:
        """Raise StoreError unless the file that is open is the one that its path names."""
        opened = self._opened
        with suppress(OSError):
            if opened is None or os.path.samestat(opened, self._path.stat()):
                return
        text = (
            f"the endpoint store {self._path} was removed or replaced while a gateway has it open"
        )
        remedy = "put the file back, or a backup of it, while no gateway runs, and start it again"
        raise StoreError(text, remedy)

    def transact(self, acts: Sequence[Callable[[sqlite3.Connection], Any]]) -> _Transaction:
        """Do all of them in one transaction, and return what each answers, or raised.

        Raises StoreError where the transaction failed, for all of them.
        """
        try:
            if self._connection is None:
                self._connection = _connect(self._path)
                self._opened = self._path.stat()
            before = self._connection.total_changes
            self._connection.execute("BEGIN IMMEDIATE")
            answers = [_answer(act, self._connection) for act in acts]
            self._connection.execute("COMMIT")
            return _Transaction(answers, self._connection.total_changes > before)
        except sqlite3.Error as error:
            self.close()
            text = f"the endpoint store {self._path} failed: {error}"
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            raise StoreError(text, REMEDIES.get(code, ""), lasting=code in LASTING) from None

    def close(self) -> None:
        """Close the file; what was not committed is undone."""
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None


def _answer(
    act: Callable[[sqlite3.Connection], T], connection: sqlite3.Connection
) -> T | Exception:
    try:
        return act(connection)
    except sqlite3.Error:
        raise
    except Exception as error:  # noqa: BLE001  # the others of the transaction have no part in it
        return error


def _documents(connection: sqlite3.Connection, statement: str, app: str, name: str) -> list[bytes]:
    rows = connection.execute(statement, (index_key(app), index_key(name))).fetchall()
    return [row[0] for row in rows]


def _merge_stored(
    connection: sqlite3.Connection, merge: Merge, app: str, updates: Mapping[str, EndpointUpdate]
) -> dict[str, Merged]:
    """Merge into what is stored; nothing is written before everything is merged."""
    key = index_key(app)
    merged = {}
    for endpoint, update in updates.items():
        row = connection.execute(READ, (key, index_key(endpoint))).fetchone()
        merged[endpoint] = merge(app, endpoint, row and row[0], update)
    for endpoint, it in merged.items():
        if it.changed:
            user = user_id(it.endpoint)
            connection.execute(
                WRITE, (key, index_key(endpoint), index_key(user) if user else None, it.endpoint)
            )
    return merged


def _take_lock(path: Path) -> int:
    """Become the file's owner until the process ends or the descriptor is closed."""
    lock = _create(path.with_name(path.name + ".lock"))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        text = f"another gateway owns the endpoint store {path}"
        remedy = "one gateway has one file; several share a store: postgres"
        raise StoreError(text, remedy, lasting=True) from None
    try:
        # Only by its owner: whoever closes the file drops all of SQLite's locks in its process.
        os.close(_create(path))
    except StoreError:
        os.close(lock)
        raise
    return lock


def _create(path: Path) -> int:
    """Open a file, making it; personal data: only the gateway's user may read it.

    SQLite gives its log the mode of its file.
    """
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        text = f"the endpoint store {path} cannot be opened: {error.strerror}"
        remedy = "make its folder, and let the gateway's user write to it"
        raise StoreError(text, remedy, lasting=True) from None


def _connect(path: Path) -> sqlite3.Connection:
    """Open the file and bring its schema up to date; sqlite3.Error or StoreError: it cannot be."""
    connection = sqlite3.connect(path, timeout=5.0, isolation_level=None)
    try:
        (mark,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if mark != APPLICATION_ID and (mark or tables):
            text = f"{path} is a database of something else"
            raise StoreError(text, "name another file", lasting=True)  # noqa: TRY301
        connection.execute("PRAGMA journal_mode = WAL")
        for pragma in PRAGMAS:
            connection.execute(pragma)
        _migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection) -> None:
    """Apply the versions that the file lacks, in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {schema.VERSIONS_TABLE} (version INTEGER PRIMARY KEY,"
        " applied TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP)"
    )
    (stored,) = connection.execute(
        f"SELECT coalesce(max(version), 0) FROM {schema.VERSIONS_TABLE}"  # noqa: S608
    ).fetchone()
    for version, statements in schema.missing_versions(schema.SQLITE, stored):
        for statement in statements:
            connection.execute(statement)
        connection.execute(
            f"INSERT INTO {schema.VERSIONS_TABLE} (version) VALUES (?)",  # noqa: S608
            (version,),
        )
    connection.execute("COMMIT")

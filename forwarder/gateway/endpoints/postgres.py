"""Endpoints in PostgreSQL: for several gateways.

A merge reads all its endpoints in one round trip; where it changes some, it writes them in a
second, one statement that takes what nobody has changed since (optimistic, by version), and merges
the others anew. So no merge is lost, no lock is held between round trips, and every statement is a
transaction of its own. Rows are locked in the order of their keys. What concurrent requests of this
process ask for while all connections are busy shares the next statement, and two updates of one
endpoint never run against each other within a process.

Nothing is cached: another gateway may have changed it. ``synchronous_commit`` is the server's; its
default makes what was answered durable.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Self, TypeVar

import asyncpg

from forwarder import clock
from forwarder.gateway.endpoints import postgres_errors as errors
from forwarder.gateway.endpoints import schema
from forwarder.gateway.endpoints.contract import (
    MOST_OF_USER,
    EndpointUpdate,
    Merge,
    Merged,
    StoreError,
)
from forwarder.gateway.endpoints.keys import index_key
from forwarder.gateway.endpoints.merge import user_id

T = TypeVar("T")

CONNECTIONS = 4
"""That merge, of one gateway. A statement carries many requests, so more would only wait for the
same disk."""
READERS = 2
"""Connections besides, for what is not merged: however much is read, merges have theirs."""
MOST_AT_ONCE = 500
"""Endpoints in a statement."""
ROUNDS = 20
"""How often what others changed meanwhile is merged anew: of N gateways one wins each time."""
TIMEOUT = 3.0
"""Seconds for a connection and for a statement."""
MIGRATION_TIMEOUT = 60.0
"""Seconds for the first connection, which may bring the schema up to date, or wait for who does."""
DOWN = 0.5
"""Seconds for which nobody tries again after the server could not be reached."""
ADVISORY_LOCK = 0x666F727761726465
"""Held by the one gateway that brings the schema up to date; any number that nobody else uses."""

READ_MANY = """\
SELECT t.app, t.endpoint, t.version, t.document
FROM unnest($1::bytea[], $2::bytea[]) AS wanted (app, endpoint)
JOIN forwarder_endpoints t ON t.app = wanted.app AND t.endpoint = wanted.endpoint"""

# An endpoint that had a version is changed only while it has it, and never created: it may have
# been deleted. One that had none is created only if nobody else has. Both lock in the keys' order.
WRITE = """\
WITH given AS MATERIALIZED (
    SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::bytea[], $5::bigint[])
    AS g (app, endpoint, user_id, document, version)
), held AS MATERIALIZED (
    SELECT t.app, t.endpoint FROM forwarder_endpoints t
    JOIN given g ON t.app = g.app AND t.endpoint = g.endpoint AND t.version = g.version
    ORDER BY t.app, t.endpoint FOR UPDATE OF t
), changed AS (
    UPDATE forwarder_endpoints t
    SET user_id = g.user_id, document = g.document,
        version = nextval('forwarder_endpoints_version')
    FROM held h JOIN given g ON g.app = h.app AND g.endpoint = h.endpoint
    WHERE t.app = h.app AND t.endpoint = h.endpoint
    RETURNING t.app, t.endpoint
), created AS (
    INSERT INTO forwarder_endpoints (app, endpoint, user_id, document)
    SELECT app, endpoint, user_id, document FROM given
    WHERE version IS NULL ORDER BY app, endpoint
    ON CONFLICT (app, endpoint) DO NOTHING
    RETURNING app, endpoint
)
SELECT app, endpoint FROM changed UNION ALL SELECT app, endpoint FROM created"""

READ = "SELECT document FROM forwarder_endpoints WHERE app = $1 AND endpoint = $2"
READ_USER = (
    f"SELECT document FROM forwarder_endpoints WHERE app = $1 AND user_id = $2 LIMIT {MOST_OF_USER}"  # noqa: S608
)
DELETE = "DELETE FROM forwarder_endpoints WHERE app = $1 AND endpoint = $2 RETURNING document"
DELETE_USER = f"""\
WITH chosen AS MATERIALIZED (
    SELECT app, endpoint FROM forwarder_endpoints WHERE app = $1 AND user_id = $2
    LIMIT {MOST_OF_USER}
), held AS MATERIALIZED (
    SELECT t.app, t.endpoint FROM forwarder_endpoints t
    JOIN chosen c ON c.app = t.app AND c.endpoint = t.endpoint WHERE t.user_id = $2
    ORDER BY t.app, t.endpoint FOR UPDATE OF t
)
DELETE FROM forwarder_endpoints t USING held h
WHERE t.app = h.app AND t.endpoint = h.endpoint RETURNING t.document"""  # noqa: S608
CHECK = "SELECT current_setting('transaction_read_only')"
VERSION = f"SELECT coalesce(max(version), 0) FROM {schema.VERSIONS_TABLE}"  # noqa: S608

Key = tuple[str, str, bytes, bytes]
"""App id and endpoint id, and both as the table's key has them."""
RowKey = tuple[bytes, bytes]
Act = Callable[[asyncpg.Connection], Awaitable[T]]


class _Wait:
    """One request that waits until all its endpoints are merged."""

    __slots__ = ("answer", "left", "merged")

    def __init__(self, endpoints: Sequence[str]) -> None:
        self.left = len(endpoints)
        # In the order in which they were asked for.
        self.merged: dict[str, Merged] = dict.fromkeys(endpoints, Merged(b"", changed=False))
        self.answer: asyncio.Future[dict[str, Merged]] = asyncio.get_running_loop().create_future()

    def settle(self, endpoint: str, merged: Merged | Exception) -> None:
        """Take what became of one endpoint; the caller may have given up."""
        self.left -= 1
        if self.answer.done():
            return
        if isinstance(merged, Exception):
            self.answer.set_exception(errors.renewed(merged))
            return
        self.merged[endpoint] = merged
        if not self.left:
            self.answer.set_result(self.merged)


Waiting = tuple[EndpointUpdate, _Wait]
Batch = dict[Key, list[Waiting]]


class PostgresStore:
    """An EndpointStore in a database that gateways share."""

    def __init__(
        self,
        dsn: str,
        merge: Merge,
        *,
        connections: int = CONNECTIONS,
        timeout: float = TIMEOUT,
        first_timeout: float = MIGRATION_TIMEOUT,
    ) -> None:
        self._merge = merge
        self._connections = connections
        self._timeout = timeout
        self._first_timeout = first_timeout
        self._migrated = False
        self._down: tuple[float, StoreError] | None = None
        self._waiting: Batch = {}
        self._merging: set[Key] = set()
        self._batches: set[asyncio.Task[None]] = set()
        self._asked: set[asyncio.Task[Any]] = set()
        self._beside = asyncio.Semaphore(READERS)
        self._pool = asyncpg.create_pool(
            dsn,
            min_size=0,
            max_size=connections + READERS,
            timeout=timeout,
            command_timeout=timeout,
            init=self._migrate,
            # Nothing of a session is ever changed, so nothing has to be reset: no round trip.
            reset=_leave,
        )

    @classmethod
    async def open(cls, dsn: str, merge: Merge) -> Self:
        """Open the database and bring its schema up to date, if it can be reached.

        One that cannot is tried again with every call. Raises StoreError where that is of no use:
        a dsn that cannot be read, credentials that are refused, a schema of a newer program.
        """
        store = cls(dsn, merge)
        try:
            await store.check()
        except StoreError as error:
            if error.lasting:
                await store.close()
                raise
        return store

    async def merge(self, app: str, updates: Mapping[str, EndpointUpdate]) -> dict[str, Merged]:
        """Merge with whatever else waits for a connection."""
        if not updates:
            return {}
        app_key = index_key(app)
        keys = [(app, endpoint, app_key, index_key(endpoint)) for endpoint in updates]
        wait = _Wait(list(updates))
        for key in keys:
            self._waiting.setdefault(key, []).append((updates[key[1]], wait))
        self._start_batches()
        return await wait.answer

    async def read(self, app: str, endpoint: str) -> bytes | None:
        """Return an endpoint."""
        found = await self._ask(_documents(READ, app, endpoint))
        return found[0] if found else None

    async def delete(self, app: str, endpoint: str) -> bytes | None:
        """Delete an endpoint."""
        deleted = await self._ask(_documents(DELETE, app, endpoint))
        return deleted[0] if deleted else None

    async def read_user(self, app: str, user: str) -> Sequence[bytes]:
        """Return a user's endpoints."""
        return await self._ask(_documents(READ_USER, app, user))

    async def delete_user(self, app: str, user: str) -> Sequence[bytes]:
        """Delete a user's endpoints, statement by statement, until there is none.

        Fewer than asked for are no end: another gateway may be deleting the same ones.
        """
        first: list[bytes] = []
        while deleted := await self._ask(_documents(DELETE_USER, app, user)):
            first = first or deleted
        return first

    async def check(self) -> None:
        """Ask the server, even if it was just found to be down; a read-only one is of no use."""
        self._down = None
        read_only = await self._ask(lambda connection: connection.fetchval(CHECK))
        if read_only == "on":
            await self._pool.expire_connections()
            text = "the PostgreSQL server of the endpoints is read-only"
            raise StoreError(text, errors.PRIMARY)

    async def close(self) -> None:
        """Finish what was asked, and close the connections."""
        while self._batches or self._asked:
            await asyncio.wait([*self._batches, *self._asked])
        try:
            async with asyncio.timeout(self._timeout):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()
        except asyncpg.InterfaceError:
            return  # nothing was ever asked of it

    def _start_batches(self) -> None:
        """Merge what waits, as far as there are connections; each endpoint once at a time."""
        while self._waiting and len(self._batches) < self._connections:
            keys = [key for key in self._waiting if key not in self._merging][:MOST_AT_ONCE]
            if not keys:
                return
            self._merging.update(keys)
            task = asyncio.create_task(
                self._merge_batch({key: self._waiting.pop(key) for key in keys})
            )
            self._batches.add(task)
            task.add_done_callback(self._batches.discard)

    async def _merge_batch(self, batch: Batch) -> None:
        keys = list(batch)
        try:
            for _ in range(ROUNDS):
                merged = await self._run(lambda connection: self._merge_round(connection, batch))
                for key, outcomes in merged.items():
                    for (_, wait), outcome in zip(batch.pop(key), outcomes, strict=True):
                        wait.settle(key[1], outcome)
                if not batch:
                    return
            text = "endpoints were changed by others faster than they could be merged"
            raise StoreError(text)  # noqa: TRY301
        except Exception as error:  # noqa: BLE001  # whoever waits has to be told, whatever it is
            for key, waits in batch.items():
                for _, wait in waits:
                    wait.settle(key[1], error)
        finally:
            self._merging.difference_update(keys)
            self._batches.discard(asyncio.current_task())
            self._start_batches()

    async def _merge_round(
        self, connection: asyncpg.Connection, batch: Batch
    ) -> dict[Key, list[Merged | Exception]]:
        """Merge a batch into what is stored; return what became of those that nobody changed."""
        rows: dict[Key, RowKey] = {key: key[2:] for key in batch}
        stored: dict[RowKey, tuple[int, bytes]] = {
            (row[0], row[1]): (row[2], row[3])
            for row in await connection.fetch(READ_MANY, *_columns(rows.values()))
        }
        merged: dict[Key, list[Merged | Exception]] = {}
        writes: dict[RowKey, tuple[bytes, bytes, bytes | None, bytes, int | None]] = {}
        for key, row in rows.items():
            version, document = stored.get(row, (None, None))
            merged[key] = self._merge_all(key, document, batch[key])
            after = next(
                (
                    it.endpoint
                    for it in reversed(merged[key])
                    if isinstance(it, Merged) and it.changed
                ),
                None,
            )
            if after is not None:
                user = user_id(after)
                writes[row] = (*row, index_key(user) if user else None, after, version)
        if writes:
            written = await connection.fetch(WRITE, *_columns(writes.values()))
            lost = writes.keys() - {(row[0], row[1]) for row in written}
            merged = {key: it for key, it in merged.items() if rows[key] not in lost}
        return merged

    def _merge_all(
        self, key: Key, document: bytes | None, waits: Sequence[Waiting]
    ) -> list[Merged | Exception]:
        """Merge updates of one endpoint, one after the other."""
        outcomes: list[Merged | Exception] = []
        for update, _ in waits:
            try:
                merged = self._merge(key[0], key[1], document, update)
            except Exception as error:  # noqa: BLE001  # the others have no part in it
                outcomes.append(error)
            else:
                outcomes.append(merged)
                document = merged.endpoint or None
        return outcomes

    async def _ask(self, act: Act[T]) -> T:
        """Run something to its end, even if the caller gives up: the connection is clean then."""
        task = asyncio.ensure_future(self._run_beside(act))
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)
        return await asyncio.shield(task)

    async def _run_beside(self, act: Act[T]) -> T:
        """Run something on one of the connections that merges do not use."""
        async with self._beside:
            return await self._run(act)

    async def _run(self, act: Act[T]) -> T:
        """Run something on a connection; raises StoreError.

        Once again at once, where the connection was lost (after a restart of the server all of them
        are) or the statement was chosen to end a deadlock: whatever runs here may run twice.
        """
        tried = False
        while True:
            try:
                return await self._run_once(act)
            except errors.FAILURES as error:
                if errors.is_lost(error):
                    await self._pool.expire_connections()
                if tried or not errors.is_worth_another(error):
                    raise self._failed(error) from None
            tried = True

    async def _run_once(self, act: Act[T]) -> T:
        if self._down is not None and clock.monotonic() < self._down[0]:
            raise errors.renewed(self._down[1])
        if not self._migrated:
            await self._pool  # begins; connects nothing yet
        connection = await self._pool.acquire(
            timeout=self._timeout if self._migrated else self._first_timeout
        )
        self._down = None
        try:
            return await act(connection)
        except asyncpg.PostgresError:
            raise
        except BaseException:
            # What the server still does for it is not known: no other statement may come behind.
            connection.terminate()
            raise
        finally:
            await self._pool.release(connection)

    def _failed(self, error: BaseException) -> StoreError:
        """Return what is raised; if the server is out of reach, nobody tries again for a moment."""
        failure = errors.store_error(error)
        if errors.is_lost(error):
            self._down = (clock.monotonic() + DOWN, failure)
        return failure

    async def _migrate(self, connection: asyncpg.Connection) -> None:
        """Bring the schema up to date with the first connection, unless it is already."""
        if self._migrated:
            return
        exists = await connection.fetchval("SELECT to_regclass($1)::text", schema.VERSIONS_TABLE)
        stored = await connection.fetchval(VERSION) if exists else 0
        # A gateway that may not create tables can use them.
        if schema.missing_versions(schema.POSTGRES, stored):
            await _apply_missing(connection)
        self._migrated = True


async def _apply_missing(connection: asyncpg.Connection) -> None:
    """Apply what is missing in one transaction, while no other gateway does."""
    async with connection.transaction():
        await connection.execute(
            "SELECT pg_advisory_xact_lock($1)", ADVISORY_LOCK, timeout=MIGRATION_TIMEOUT
        )
        await connection.execute(
            f"CREATE TABLE IF NOT EXISTS {schema.VERSIONS_TABLE} (version integer PRIMARY KEY,"
            " applied timestamptz NOT NULL DEFAULT now())"
        )
        stored = await connection.fetchval(VERSION)
        for version, statements in schema.missing_versions(schema.POSTGRES, stored):
            for statement in statements:
                await connection.execute(statement, timeout=MIGRATION_TIMEOUT)
            await connection.execute(
                f"INSERT INTO {schema.VERSIONS_TABLE} (version) VALUES ($1)",  # noqa: S608
                version,
            )


def _documents(statement: str, app: str, name: str) -> Act[list[bytes]]:
    keys = index_key(app), index_key(name)

    async def act(connection: asyncpg.Connection) -> list[bytes]:
        return [row[0] for row in await connection.fetch(statement, *keys)]

    return act


def _columns(rows: Iterable[Sequence[Any]]) -> list[list[Any]]:
    """Return rows, one at least, as columns, which a statement takes as arrays."""
    return [list(column) for column in zip(*rows, strict=True)]


async def _leave(connection: asyncpg.Connection) -> None:
    """Leave a connection as it is."""

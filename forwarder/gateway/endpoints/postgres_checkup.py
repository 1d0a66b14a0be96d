"""Look at the PostgreSQL database of the endpoints: let in, writable, its tables."""

import asyncpg

from forwarder.gateway.endpoints import postgres_errors, schema
from forwarder.ops.diagnosis import Finding, fail, note, ok

_LOOK = """
SELECT current_setting('transaction_read_only'), to_regclass($1) IS NOT NULL,
       has_schema_privilege(current_schema(), 'CREATE'), current_database()
"""


async def findings(dsn: str, seconds: float) -> list[Finding]:
    """Return what was found; no text of the server's or the client's, which may hold secrets."""
    try:
        connection = await asyncpg.connect(dsn, timeout=seconds, command_timeout=seconds)
    except postgres_errors.FAILURES as error:
        failed = postgres_errors.store_error(error)
        return [
            fail(failed.what, failed.remedy or "see that it runs, and can be reached from here")
        ]
    try:
        read_only, there, may_create, name = await connection.fetchrow(_LOOK, schema.VERSIONS_TABLE)
    except postgres_errors.FAILURES as error:
        failed = postgres_errors.store_error(error)
        return [fail(failed.what, failed.remedy or "look again: this may pass by itself")]
    finally:
        connection.terminate()
    if read_only == "on":
        what = "the PostgreSQL server of the endpoints is read-only"
        return [fail(what, postgres_errors.PRIMARY)]
    answers = ok(f"PostgreSQL answers, database {name}")
    if there:
        return [answers, ok("the tables of the endpoints are there")]
    if may_create:
        return [answers, note("the tables of the endpoints are not there: a gateway makes them")]
    what = "the tables of the endpoints are not there, and this user may not create them"
    remedy = "grant CREATE on the schema to the user of the dsn, once"
    return [answers, fail(what, remedy)]

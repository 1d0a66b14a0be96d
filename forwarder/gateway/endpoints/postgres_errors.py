"""What errors of PostgreSQL and its client mean. No text of theirs is passed on.

A server's message may quote what was stored, a client's the dsn, of which a part may be the
password; so what is told is the kind of error and its SQLSTATE (PostgreSQL, Appendix A).
"""

import ssl

import asyncpg

from forwarder.gateway.endpoints.contract import StoreError

FAILURES = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    ValueError,
)
"""What a statement or a connection raises. TimeoutError is an OSError; ValueError: of the dsn."""

PRIMARY = "name the primary, or all servers and target_session_attrs=read-write, in the dsn"
CREDENTIALS = "check user and password of the dsn, and pg_hba.conf"
_CONFLICTS = frozenset({"40001", "40P01"})  # serialization failure, deadlock
_LOST = frozenset({"57P01", "57P02", "57P03", "25006"})  # shut down, starting up, read-only now
_REMEDIES = {
    "25006": PRIMARY,
    "28000": CREDENTIALS,
    "28P01": CREDENTIALS,
    "3D000": "create the database that the dsn names",
    "42501": "grant the gateway's user CREATE on its schema once, then SELECT, INSERT, UPDATE,"
    " DELETE on forwarder_endpoints and USAGE on its sequence",
    "42P01": "restore the tables of the endpoints, or drop forwarder_endpoints_versions as well",
    "53100": "make room on the server's disk",
    "53300": "raise max_connections: a gateway has up to 6, or put a pooler between",
}
_LASTING = frozenset({"28000", "28P01", "3D000", "42501", "42P01"})


def is_lost(error: BaseException) -> bool:
    """Tell whether the connections are of no use any more, or there are none."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        return state in _LOST or state.startswith("08")
    return not _is_of_the_dsn(error)


def is_worth_another(error: BaseException) -> bool:
    """Tell whether the same may succeed at once; what took too long has taken long enough."""
    if isinstance(error, asyncpg.PostgresError) and error.sqlstate in _CONFLICTS:
        return True
    return is_lost(error) and not isinstance(
        error, (TimeoutError, asyncpg.ClientConfigurationError)
    )


def store_error(error: BaseException) -> StoreError:
    """Return what an error is to who asked the store."""
    if _is_of_the_dsn(error):
        text = "the dsn of gateway.pinpoint.endpoints cannot be read"
        remedy = "postgresql://user:password@host:5432/database?sslmode=verify-full, with"
        return StoreError(text, f"{remedy} special characters percent-encoded", lasting=True)
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        text = f"PostgreSQL refused a statement on endpoints: {type(error).__name__} ({state})"
        return StoreError(text, _REMEDIES.get(state, ""), lasting=state in _LASTING)
    if isinstance(error, TimeoutError):
        return StoreError("PostgreSQL, which has the endpoints, did not answer in time")
    if isinstance(error, ssl.SSLError):
        text = f"PostgreSQL, which has the endpoints, cannot be trusted: {type(error).__name__}"
        return StoreError(text, "check sslmode and sslrootcert of the dsn, and the server's name")
    if isinstance(error, (FileNotFoundError, PermissionError)):
        text = f"a file or socket that the dsn of the endpoints names: {type(error).__name__}"
        return StoreError(text, "check sslrootcert, sslcert, sslkey and the socket's folder in it")
    return StoreError(
        f"PostgreSQL, which has the endpoints, is out of reach: {type(error).__name__}"
    )


def _is_of_the_dsn(error: BaseException) -> bool:
    """Tell whether a dsn cannot be read; a certificate that cannot be trusted is both kinds."""
    return isinstance(error, ValueError) and not isinstance(error, OSError)


def renewed(error: Exception) -> Exception:
    """Return an error for another one who waits: a raised one gathers who raised it."""
    if isinstance(error, StoreError):
        return StoreError(error.what, error.remedy, lasting=error.lasting)
    return error

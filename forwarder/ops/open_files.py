"""How many files this process may have open: Kafka and the sinks need them, probes get the rest."""

import contextlib
import resource

import structlog

log = structlog.get_logger()

WANTED_OPEN_FILES = 65_536
"""Where the hard limit allows more: a connection has up to ten sockets, a broker a few."""

FEW_OPEN_FILES = 1024
"""Below it a warning is due: forty connections that lag take that many."""

FOR_PROBES = 8
"""One in so many is for whoever asks the worker's own port."""


def raise_limit() -> int:
    """Raise the soft limit of open files as far as is sensible; return what it is then.

    Caller: the worker, at its start. The default of many systems is 1,024 of a million.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, WANTED_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # not everybody may
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = WANTED_OPEN_FILES if soft == resource.RLIM_INFINITY else soft
    if limit < FEW_OPEN_FILES:
        log.warning(
            "open_files.low",
            limit=limit,
            remedy=f"raise the hard limit of open files (ulimit -Hn, LimitNOFILE) to "
            f"{FEW_OPEN_FILES} or more: each broker, and each connection up to ten times, "
            f"takes one",
        )
    return limit


def probe_connections(limit: int, most: int) -> int:
    """Return how many connections the worker's own port may have of ``limit`` files."""
    return max(1, min(most, limit // FOR_PROBES))

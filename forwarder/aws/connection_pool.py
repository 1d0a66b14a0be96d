"""Connections to AWS that all clients of one endpoint share, whatever they sign with.

So a worker has about as many connections as requests are under way, not as destinations, and the
first put of a destination takes no handshake. What one client has under way is bounded by itself:
a destination that does not answer takes no connection from others.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from forwarder.aws.http_session import SharedTlsSession

_Key = tuple[str, str]


class PoolMember(NamedTuple):
    """One client's part in a pool: ``session`` sends; ``number`` tells the pool from others."""

    key: _Key
    session: SharedTlsSession
    number: int


class ConnectionPools:
    """The pools of a process, by endpoint; each lives as long as a client that uses it."""

    def __init__(self) -> None:
        """Create; nothing is opened before a request is sent."""
        self._pools: dict[_Key, PoolMember] = {}
        self._users: dict[_Key, int] = {}
        self._made = 0

    async def join(self, url: str, options: Mapping[str, Any]) -> PoolMember:
        """Take part in the pool of ``url``; the caller calls :meth:`leave` once, at its end.

        ``options``: those of the library's HTTP session, which say how to connect: time limits,
        TLS, proxies. Clients that connect otherwise have a pool of their own.
        """
        key = (url, repr(sorted(options.items())))
        member = self._pools.get(key)
        if member is None:
            # Clients bound themselves what they have under way.
            session = SharedTlsSession(**{**options, "max_pool_connections": 0})
            self._made += 1
            member = self._pools[key] = PoolMember(key, session, self._made)
            # Waits for nothing: two that join at once find the same one.
            await session.__aenter__()
        self._users[key] = self._users.get(key, 0) + 1
        return member

    async def leave(self, member: PoolMember) -> None:
        """End a client's part; the last one closes all connections of the pool."""
        self._users[member.key] -= 1
        if not self._users[member.key]:
            del self._users[member.key], self._pools[member.key]
            await member.session.close()

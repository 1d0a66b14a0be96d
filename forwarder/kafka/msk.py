"""Log in to Amazon MSK by IAM: tokens of AWS's own signer, as OAUTHBEARER wants them.

A token is a signed URL that lives for 15 minutes and counts when a connection is made. All clients
of a process share one, which is made anew before it expires.
"""

import asyncio
import weakref
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import AuthenticationFailedError

from forwarder.clock import Clock, SystemClock
from forwarder.config.settings import Security
from forwarder.errors import TokenError

REFRESH = 0.5
"""The share of a token's life after which a new one is made."""

RESERVE = 30.0
"""Seconds before its end from which on a token is not used: it has to reach the broker."""

AGAIN = 2.0
"""Seconds for which a failure is remembered; clients connect ten times a second."""

SIGN_SECONDS = 30.0
"""How long finding credentials and signing may take: longer than a search for them is given, which
says better what it waited for."""


class MskToken(NamedTuple):
    """A token, and when it expires in wall-clock milliseconds."""

    token: str
    expires_ms: int


Sign = Callable[[], Awaitable[MskToken]]
"""Makes a token; raises TokenError, and whatever the signer raises."""


class MskTokenCache:
    """The token that all clients of one event loop share."""

    def __init__(self, sign: Sign, where: str, clock: Clock) -> None:
        """Take ``sign``; ``where`` names the cluster for people."""
        self._sign = sign
        self._where = where
        self._clock = clock
        self._token = ""
        self._expires = self._refresh_at = self._made_at = 0.0
        self._trouble = ""
        self._making = asyncio.Lock()

    async def get(self) -> str:
        """Return a token that has not expired; raises AuthenticationFailedError."""
        async with self._making:
            if self._clock.steady() >= self._refresh_at:
                await self._make()
        if self._clock.steady() < self._expires:
            return self._token
        raise AuthenticationFailedError(self._trouble)

    def refused(self, token: str) -> None:
        """Have another token made: the broker refuses this one, whatever its age."""
        now = self._clock.steady()
        if token == self._token and now >= self._made_at + AGAIN:
            self._refresh_at = now

    async def _make(self) -> None:
        """Make a token; one that fails leaves the former to those who still can use it."""
        try:
            async with asyncio.timeout(SIGN_SECONDS):
                made = await self._sign()
        except Exception as error:  # noqa: BLE001  # whatever the signer meets, there is no token
            self._trouble = f"no token for Kafka, {self._where}: {_why(error)}"
            self._refresh_at = self._clock.steady() + AGAIN
            return
        now = self._clock.steady()
        life = (made.expires_ms - self._clock.wall_ms()) / 1000
        self._token, self._trouble = made.token, f"no token for Kafka, {self._where}: it expired"
        self._made_at = now
        self._expires = now + max(AGAIN, life - RESERVE)
        self._refresh_at = now + max(AGAIN, life * REFRESH)


def _why(error: Exception) -> str:
    """Return what is known of an error, never the text of others: AWS quotes what was sent."""
    if isinstance(error, TokenError):
        return str(error)
    return f"{type(error).__name__}; check the worker's own AWS credentials"


class MskTokenProvider(AbstractTokenProvider):  # type: ignore[misc]  # the client ships no types
    """Hands every connection of the client library a token."""

    def __init__(self, security: Security) -> None:
        """Create; the first ``token`` signs."""
        self._security = security

    async def token(self) -> str:
        """Return a token; raises AuthenticationFailedError."""
        return await _shared(self._security).get()

    def refused(self, token: str) -> None:
        """Learn that the broker refuses a token."""
        _shared(self._security).refused(token)


_TOKENS: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Security, MskTokenCache]]" = (
    weakref.WeakKeyDictionary()
)


def token_provider(security: Security) -> MskTokenProvider:
    """Return what a client logs in with."""
    return MskTokenProvider(security)


def _shared(security: Security) -> MskTokenCache:
    known = _TOKENS.setdefault(asyncio.get_running_loop(), {})
    if security not in known:
        where = f"MSK in {security.region}"
        known[security] = MskTokenCache(lambda: sign_token(security), where, SystemClock())
    return known[security]


async def sign_token(security: Security) -> MskToken:
    """Let AWS's signer make a token; raises TokenError."""
    # Here: commands that ask Kafka alone need no AWS library, which takes 0.2 s to load.
    from forwarder.aws import msk_token  # noqa: PLC0415

    region = security.region or ""
    return MskToken(*await msk_token.sign_msk_token(region, security.role_arn, SystemClock()))

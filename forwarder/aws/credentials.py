"""Who signs: an assumed role or the default chain; access keys are in ``static_keys``.

A client asks its keyring at every signature. A role's keyring calls STS once for any number of
concurrent puts, renews in the background from half life on, goes on with what it has while STS
is down, and remembers a refusal instead of repeating it per put.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast

import msgspec
from aiobotocore.session import AioSession
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import NoCredentialsError

from forwarder.aws import errors
from forwarder.aws.errors import AwsFailure
from forwarder.clock import Clock
from forwarder.model import Outcome
from forwarder.retry import Backoff

RENEW_SECONDS = 5.0
"""Seconds between renewals forced by rejected signatures."""
REFUSAL_MEMORY = Backoff(base=5.0, cap=20.0, floor=5.0)
"""How long a refusal is remembered: shorter than a paused lane's own pauses, which come on top."""


class Keyring(Protocol):
    """The credentials of one connection, in the form in which a client asks for them.

    ``generation`` changes with every renewal.
    """

    generation: int

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """Return the keys to sign with now; raises RoleError, or the chain's own errors."""

    async def renew(self, generation: int) -> bool:
        """Replace keys that AWS rejected, unless that has happened since ``generation``.

        False: they cannot be replaced, or were a moment ago. Raises RoleError.
        """

    async def close(self) -> None:
        """End what runs in the background."""


class RoleError(Exception):
    """A role cannot be assumed; ``outcome`` answers for every batch that needs it."""

    def __init__(self, outcome: Outcome) -> None:
        """Keep the answer; its text is the error's."""
        super().__init__(outcome.error)
        self.outcome = outcome


class AssumedKeys(msgspec.Struct, frozen=True):
    """What STS gave; ``lifetime`` in seconds from now."""

    keys: ReadOnlyCredentials
    lifetime: float


class DefaultChain:
    """Environment, files, IRSA, Pod Identity or instance role, whichever AWS's chain finds.

    Callers that need keys during a search, or a renewal of keys that are about to expire, share it
    and its result: a search that fails after 20 s must not be repeated by each of them.
    """

    def __init__(
        self, session: Callable[[], AioSession], clock: Clock, search_seconds: float
    ) -> None:
        """Take ``session``, which makes a new session with empty caches."""
        self._search_seconds = search_seconds
        self.generation = 0
        self._session = session
        self._clock = clock
        self._found: Any = None
        self._search: asyncio.Task[ReadOnlyCredentials] | None = None
        self._renewable_at = 0.0

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """Return what the chain finds; a chain that found nothing is asked again next time."""
        found = self._found
        if found is not None and not _expires(found):
            return cast("ReadOnlyCredentials", await found.get_frozen_credentials())
        if self._search is None:
            self._search = asyncio.create_task(self._find())
            self._search.add_done_callback(self._searched)
        # Shielded: a caller that is cancelled must not end the search of the others.
        return await asyncio.shield(self._search)

    async def renew(self, generation: int) -> bool:
        """Search the chain again, past every cache the library holds."""
        if generation != self.generation:
            return True
        now = self._clock.steady()
        if now < self._renewable_at:
            return False
        self._renewable_at = now + RENEW_SECONDS
        self._found = self._search = None
        self.generation += 1
        return True

    async def close(self) -> None:
        """Do nothing: other connections share the chain."""

    async def cancel_search(self) -> None:
        """End a search that is still under way."""
        if self._search is not None:
            self._search.cancel()
            await asyncio.wait([self._search])

    async def _find(self) -> ReadOnlyCredentials:
        generation, found = self.generation, self._found
        async with asyncio.timeout(self._search_seconds):
            if found is None:
                found = await self._session().get_credentials()
            if found is None:
                raise NoCredentialsError
            keys = await found.get_frozen_credentials()
        if generation == self.generation:
            self._found = found
        return cast("ReadOnlyCredentials", keys)

    def _searched(self, search: asyncio.Task[ReadOnlyCredentials]) -> None:
        if self._search is search:
            self._search = None
        if not search.cancelled():
            search.exception()  # retrieved, in case no caller waits any more


def _expires(found: Any) -> bool:  # noqa: ANN401  # the library's own classes
    """Tell whether the library would renew keys now, and give none if it could not."""
    needed = getattr(found, "refresh_needed", None)
    return needed is not None and bool(needed(found._mandatory_refresh_timeout))  # noqa: SLF001


class RoleKeys:
    """The temporary keys of a role, kept fresh."""

    def __init__(
        self,
        assume: Callable[[], Awaitable[AssumedKeys]],
        clock: Clock,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Take ``assume``, which calls STS once or raises RoleError."""
        self.generation = 0
        self._assume = assume
        self._clock = clock
        self._jitter = jitter
        self._keys: ReadOnlyCredentials | None = None
        self._expires = self._refresh_at = self._renewable_at = 0.0
        self._refusal: RoleError | None = None
        self._refusals = 0
        self._call: asyncio.Task[None] | None = None

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """Return keys that have not expired; refreshing ahead of that is not waited for."""
        now = self._clock.steady()
        keys = self._keys
        if keys is None or now >= self._expires:
            return await self._first(now)
        if now >= self._refresh_at:
            self._started()
        return keys

    async def renew(self, generation: int) -> bool:
        """Assume the role again although the keys have not expired."""
        now = self._clock.steady()
        if generation != self.generation:
            return True
        under_way = self._call is not None and not self._call.done()
        if now < self._renewable_at and not under_way:
            return False
        self._renewable_at = now + RENEW_SECONDS
        self._keys = None
        await self._first(now)
        return True

    async def close(self) -> None:
        """End a call to STS that is still under way."""
        if self._call is not None:
            self._call.cancel()
            await asyncio.wait([self._call])

    async def _first(self, now: float) -> ReadOnlyCredentials:
        if self._refusal is not None and now < self._refresh_at:
            raise _copy_refusal(self._refusal)
        # Shielded: a put that is cancelled must not take the call from the others.
        await asyncio.shield(self._started())
        if self._keys is not None and self._clock.steady() < self._expires:
            return self._keys
        raise _copy_refusal(self._refusal) if self._refusal else RoleError(_interrupted())

    def _started(self) -> asyncio.Task[None]:
        if self._call is None or self._call.done():
            self._call = asyncio.create_task(self._refresh())
        return self._call

    async def _refresh(self) -> None:
        try:
            token = await self._assume()
        except RoleError as refusal:
            self._refusal = refusal
            delay = REFUSAL_MEMORY.delay(self._refusals, self._jitter())
            self._refusals += 1
            self._refresh_at = self._clock.steady() + delay
            return
        now = self._clock.steady()
        self._keys, self._refusal, self._refusals = token.keys, None, 0
        self.generation += 1
        self._expires = now + token.lifetime
        # Half life, and up to a tenth later: a fleet that started together spreads out.
        self._refresh_at = now + token.lifetime * (0.5 + 0.1 * self._jitter())


def _copy_refusal(refusal: RoleError) -> RoleError:
    """Return a refusal for one put more: one raised again keeps what every put was to send."""
    return RoleError(refusal.outcome)


def _interrupted() -> Outcome:
    return errors.failure_outcome(AwsFailure("AssumeRole", errors.UNANSWERED), "STS")

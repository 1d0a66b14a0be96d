"""Who signs: access keys, an assumed role or the default chain, and what AWS clients share.

A client asks its keyring at every signature. A role's keyring calls STS once for any number of
concurrent puts, renews in the background from half life on, goes on with what it has while STS
is down, and remembers a refusal instead of repeating it per put.
"""

import asyncio
import contextlib
import random
import re
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    SSLError,
)
from botocore.exceptions import ConnectionError as NoConnectionError
from botocore.loaders import Loader

from forwarder.clock import Clock, SystemClock
from forwarder.connection import AccessKeys, AssumedRole, Credentials
from forwarder.retry import Backoff
from forwarder.sinks import classify
from forwarder.sinks.base import Outcome
from forwarder.sinks.classify import Failure, Fault

DURATION_SECONDS = 3600
"""The cap under role chaining, and the default of a role's own maximum."""
SHORTEST_SECONDS = 60.0
"""A token is used this long whatever a skewed clock says, or every put would call STS."""
RENEW_EVERY = 5.0
"""Seconds between renewals forced by rejected signatures."""
REFUSED = Backoff(base=5.0, cap=20.0, floor=5.0)
"""How long a refusal is remembered: shorter than a paused lane's own pauses, which come on top."""

CLIENT = AioConfig(
    connect_timeout=3,
    read_timeout=10,
    max_pool_connections=64,
    parameter_validation=False,
    retries={"mode": "standard", "total_max_attempts": 1},
    connector_args={"keepalive_timeout": 30},
)
"""One try per call: the caller owns the retries."""

_NETWORK = (HTTPClientError, NoConnectionError)


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


class Token(msgspec.Struct, frozen=True):
    """What STS gave; ``lifetime`` in seconds from now."""

    keys: ReadOnlyCredentials
    lifetime: float


class StaticKeys:
    """Access keys as configured; nothing can renew them but a person."""

    generation = 0

    def __init__(self, keys: AccessKeys) -> None:
        """Take resolved keys."""
        self._keys = ReadOnlyCredentials(keys.access_key_id, keys.secret_access_key, None)

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """Return the configured keys."""
        return self._keys

    async def renew(self, generation: int) -> bool:  # noqa: ARG002  # the protocol's
        """Tell that there is nothing to renew."""
        return False

    async def close(self) -> None:
        """Do nothing."""


class DefaultChain:
    """Environment, files, IRSA, Pod Identity or instance role, whichever AWS's chain finds."""

    def __init__(self, session: Callable[[], AioSession], clock: Clock) -> None:
        """Take ``session``, which makes a new session with empty caches."""
        self.generation = 0
        self._session = session
        self._clock = clock
        self._found: Any = None
        self._search = asyncio.Lock()
        self._renewable_at = 0.0

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """Return what the chain finds; a chain that found nothing is asked again next time."""
        async with self._search:
            if self._found is None:
                self._found = await self._session().get_credentials()
        if self._found is None:
            raise NoCredentialsError
        return await self._found.get_frozen_credentials()

    async def renew(self, generation: int) -> bool:
        """Search the chain anew, past every cache the library holds."""
        if generation != self.generation:
            return True
        now = self._clock.steady()
        if now < self._renewable_at:
            return False
        self._renewable_at = now + RENEW_EVERY
        self._found = None
        self.generation += 1
        return True

    async def close(self) -> None:
        """Do nothing: the chain runs only when asked."""


class RoleKeys:
    """The temporary keys of a role, kept fresh."""

    def __init__(
        self,
        assume: Callable[[], Awaitable[Token]],
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
        self._renewable_at = now + RENEW_EVERY
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
            raise self._refusal
        # Shielded: a put that is cancelled must not take the call from the others.
        await asyncio.shield(self._started())
        if self._keys is not None and self._clock.steady() < self._expires:
            return self._keys
        raise self._refusal or RoleError(_interrupted())

    def _started(self) -> asyncio.Task[None]:
        if self._call is None or self._call.done():
            self._call = asyncio.create_task(self._refresh())
        return self._call

    async def _refresh(self) -> None:
        try:
            token = await self._assume()
        except RoleError as refusal:
            self._refusal = refusal
            delay = REFUSED.delay(self._refusals, self._jitter())
            self._refusals += 1
            self._refresh_at = self._clock.steady() + delay
            return
        now = self._clock.steady()
        self._keys, self._refusal, self._refusals = token.keys, None, 0
        self.generation += 1
        self._expires = now + token.lifetime
        # Half life, and up to a tenth later: a fleet that started together spreads out.
        self._refresh_at = now + token.lifetime * (0.5 + 0.1 * self._jitter())


class Aws:
    """What the AWS clients of one process share: data loader, default chain, STS clients.

    Sharing the loader makes a further client cost 17 ms instead of 85.
    """

    def __init__(self, clock: Clock | None = None, loader: Loader | None = None) -> None:
        """Prepare; nothing is read or called yet."""
        self._clock = clock or SystemClock()
        self._loader = loader
        self._chain = DefaultChain(self._session, self._clock)
        self._sts: dict[str, Any] = {}
        self._making = asyncio.Lock()
        self._open = contextlib.AsyncExitStack()

    @property
    def clock(self) -> Clock:
        """Return the clock that credentials age by."""
        return self._clock

    def keyring(self, credentials: Credentials, region: str, name: str) -> Keyring:
        """Return what signs for the connection ``name``; calls nothing yet."""
        if isinstance(credentials, AccessKeys):
            return StaticKeys(credentials)
        if isinstance(credentials, AssumedRole):
            role = credentials
            return RoleKeys(lambda: self._assume(role, region, session_name(name)), self._clock)
        return self._chain

    async def client(
        self, service: str, region: str, keyring: Keyring, endpoint_url: str | None = None
    ) -> Any:  # noqa: ANN401  # the library makes client classes at run time
        """Return a client that signs with ``keyring``; the caller closes it.

        Without ``endpoint_url``: AWS_ENDPOINT_URL_<SERVICE>, AWS_ENDPOINT_URL, else AWS's own.
        """
        session = self._session()
        session.register_component("credential_provider", _Given(keyring))
        # The library's context manager adds nothing to this but the scope.
        context = session.create_client(
            service, region_name=region, endpoint_url=endpoint_url, config=CLIENT
        )
        return await context.__aenter__()

    async def close(self) -> None:
        """Close the STS clients."""
        await self._open.aclose()

    def _session(self) -> AioSession:
        session = AioSession()
        if self._loader is None:
            self._loader = session.get_component("data_loader")
        session.register_component("data_loader", self._loader)
        session.set_config_variable("sts_regional_endpoints", "regional")
        return session

    async def _sts_client(self, region: str) -> Any:  # noqa: ANN401  # as above
        async with self._making:
            if region not in self._sts:
                client = await self.client("sts", region, self._chain)
                self._open.push_async_callback(client.close)
                self._sts[region] = client
        return self._sts[region]

    async def _assume(self, role: AssumedRole, region: str, name: str) -> Token:
        generation = self._chain.generation
        try:
            return await self._assume_once(role, region, name)
        except Exception as error:  # noqa: BLE001  # whatever it is, the role cannot be used
            failure = failure_of(error, "AssumeRole")
        stale = classify.fault(failure) is Fault.CREDENTIALS
        if stale and await self._chain.renew(generation):
            try:
                return await self._assume_once(role, region, name)
            except Exception as error:  # noqa: BLE001  # as above
                failure = failure_of(error, "AssumeRole")
        raise RoleError(classify.role_refused(failure, role.role_arn, role.external_id))

    async def _assume_once(self, role: AssumedRole, region: str, name: str) -> Token:
        asked = {
            "RoleArn": role.role_arn,
            "RoleSessionName": name,
            "DurationSeconds": DURATION_SECONDS,
        }
        if role.external_id:
            asked["ExternalId"] = role.external_id
        sts = await self._sts_client(region)
        async with asyncio.timeout(CLIENT.read_timeout + CLIENT.connect_timeout):
            given = (await sts.assume_role(**asked))["Credentials"]
        keys = ReadOnlyCredentials(
            given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"]
        )
        left = given["Expiration"].timestamp() - self._clock.wall_ms() / 1000
        return Token(keys, max(SHORTEST_SECONDS, left))


class _Given:
    """Stands where the library keeps its chain and its credentials, and answers with a keyring.

    The library asks for more than it says: every method here is one it calls.
    """

    method = "forwarder"

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    async def load_credentials(self) -> "_Given":
        return self

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        return await self._keyring.get_frozen_credentials()

    def get_deferred_property(self, _name: str) -> Callable[[], None]:
        return lambda: None

    async def get_account_id(self) -> None:
        """Name no account: endpoints by account are a thing of other services."""


def session_name(name: str) -> str:
    """Return a legal RoleSessionName that a customer finds in the audit trail."""
    return "forwarder-" + re.sub(r"[^A-Za-z0-9_+=,.@-]", "-", name)[:54]


def failure_of(error: Exception, operation: str) -> Failure:
    """Say what an error of the library means; ``operation`` is what was being called."""
    if isinstance(error, ClientError):
        told = error.response.get("Error", {})
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code, message = str(told.get("Code", "")), str(told.get("Message", ""))
        return Failure(error.operation_name, code, status, message)
    name = type(error).__name__
    if isinstance(error, NoCredentialsError | PartialCredentialsError | CredentialRetrievalError):
        return Failure(operation, "NoCredentials", 0, name)
    if isinstance(error, SSLError) and "certificate" in str(error).lower():
        return Failure(operation, "CertificateError", 0, name)
    if isinstance(error, ValueError):
        # The library's and the URL parser's word for an endpoint_url they cannot use.
        return Failure(operation, "InvalidEndpoint", 0, name)
    if isinstance(error, BotoCoreError) and not isinstance(error, _NETWORK):
        return Failure(operation, name, 400)
    return Failure(operation, classify.UNANSWERED, 0, name)


def _interrupted() -> Outcome:
    return classify.outcome(Failure("AssumeRole", classify.UNANSWERED), "STS")

"""What the AWS clients of one process share, and what the library's errors mean."""

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import Callable
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    SSLError,
)
from botocore.loaders import Loader

from forwarder.aws import credential_chain, errors, local_settings
from forwarder.aws.connection_pool import ConnectionPools
from forwarder.aws.credentials import (
    AssumedKeys,
    DefaultChain,
    Keyring,
    RoleError,
    RoleKeys,
)
from forwarder.aws.endpoints import EndpointResolver
from forwarder.aws.errors import AwsErrorClass, AwsFailure
from forwarder.aws.http_connection import used
from forwarder.aws.http_session import SharedTlsSession, bound_metadata
from forwarder.aws.local_settings import LocalSettingFault
from forwarder.aws.receipts import ReceiptMemory
from forwarder.aws.static_keys import NO_ROTATION, KeyRotation, StaticKeys
from forwarder.aws.time_limits import TimeLimits
from forwarder.clock import Clock
from forwarder.config.credentials import AccessKeys, AssumedRole, Credentials, DefaultCredentials

DURATION_SECONDS = 3600
"""The cap under role chaining, and the default of a role's own maximum."""
MIN_TOKEN_SECONDS = 60.0
"""A token is used this long whatever a skewed clock says, or every put would call STS."""
MAX_CONNECTIONS = 64
"""HTTP connections that one client has in use at a time."""
CLIENT_CONFIG = AioConfig(
    connect_timeout=3,
    read_timeout=10,
    max_pool_connections=MAX_CONNECTIONS,
    parameter_validation=False,
    retries={"mode": "standard", "total_max_attempts": 1},
    connector_args={"keepalive_timeout": 30},
    # Seen in the customer's audit trail; the library's own takes 0.2 ms a call.
    user_agent="forwarder",
)
"""One try per call: the caller owns the retries."""


def _without_traceback(record: logging.LogRecord) -> bool:
    """Let the library say that it found no credentials; the lane says why, and what to do."""
    record.exc_info = None
    return True


for _name in ("aiobotocore.credentials", "botocore.credentials"):
    logging.getLogger(_name).addFilter(_without_traceback)


class AwsSession:
    """What the AWS clients of one process share: HTTP connections, default chain, STS clients.

    Hundreds of connections share them: a further one costs 5 ms of CPU and 0.02 MiB, its first
    AssumeRole and put included (``python -m tests.bench.connections``).
    """

    def __init__(
        self,
        clock: Clock,
        loader: Loader | None = None,
        rotation: KeyRotation = NO_ROTATION,
        limits: TimeLimits = TimeLimits(),  # noqa: B008  # frozen
    ) -> None:
        """Create; nothing is read or called yet."""
        bound_metadata()
        self._clock = clock
        self._loader = loader
        self._rotation = rotation
        self.limits = limits
        self._chain = DefaultChain(self._searching, clock, limits.search)
        self._sts: dict[str, Any] = {}
        self._making = asyncio.Lock()
        self._open = contextlib.AsyncExitStack()
        self.endpoints = EndpointResolver(self.client)
        self.pools = ConnectionPools()
        self.receipts = ReceiptMemory()

    @property
    def clock(self) -> Clock:
        """Return the clock that credentials age by."""
        return self._clock

    def make_keyring(self, credentials: Credentials, region: str, name: str) -> Keyring:
        """Return what signs for the connection ``name``; calls nothing yet."""
        match credentials:
            case AccessKeys() as keys:
                return StaticKeys(keys, name, self._clock, self._rotation)
            case AssumedRole() as role:
                session = role_session_name(name)
                return RoleKeys(lambda: self._assume(role, region, session), self._clock)
            case DefaultCredentials():
                return self._chain

    async def client(
        self,
        service: str,
        region: str,
        keyring: Keyring,
        endpoint_url: str | None = None,
        session: Callable[..., Any] | None = None,
    ) -> Any:  # noqa: ANN401  # the library makes client classes at run time
        """Return a client that signs with ``keyring``; the caller closes it.

        Without ``endpoint_url``: AWS_ENDPOINT_URL_<SERVICE>, AWS_ENDPOINT_URL, else AWS's own.
        ``session`` makes its HTTP session.
        """
        config = CLIENT_CONFIG.merge(AioConfig(http_session_cls=session or SharedTlsSession))
        made = self._session()
        made.register_component("credential_provider", _KeyringCredentials(keyring))
        # The library's context manager adds nothing to this but the scope.
        context = made.create_client(
            service, region_name=region, endpoint_url=endpoint_url, config=config
        )
        return await context.__aenter__()

    async def close(self) -> None:
        """End a search for credentials and close the STS clients."""
        await self._chain.cancel_search()
        await self._open.aclose()

    def _searching(self) -> AioSession:
        session = self._session()
        credential_chain.bound_chain(session, self.limits)
        return session

    def _session(self) -> AioSession:
        local_settings.check_sizes()
        session = AioSession()
        if self._loader is None:
            self._loader = session.get_component("data_loader")
        session.register_component("data_loader", self._loader)
        session.set_config_variable("sts_regional_endpoints", "regional")
        # What the chain itself calls (STS for a web identity, single sign-on) is bounded as well.
        session.set_default_client_config(AioConfig(http_session_cls=SharedTlsSession))
        return session

    async def _sts_client(self, region: str) -> Any:  # noqa: ANN401  # as above
        async with self._making:
            if region not in self._sts:
                client = await self.client("sts", region, self._chain)
                self._open.push_async_callback(client.close)
                self._sts[region] = client
        return self._sts[region]

    async def _assume(self, role: AssumedRole, region: str, name: str) -> AssumedKeys:
        generation = self._chain.generation
        try:
            return await self._assume_once(role, region, name)
        except Exception as error:  # noqa: BLE001  # whatever it is, the role cannot be used
            failure = describe_error(error, "AssumeRole")
        stale = errors.aws_error_class(failure) is AwsErrorClass.CREDENTIALS
        if stale and (found := local_settings.keys_fault()):
            failure = local_failure("AssumeRole", found)
        if stale and await self._chain.renew(generation):
            try:
                return await self._assume_once(role, region, name)
            except Exception as error:  # noqa: BLE001  # as above
                failure = describe_error(error, "AssumeRole")
        raise RoleError(errors.role_refused(failure, role.role_arn, role.external_id))

    async def _assume_once(self, role: AssumedRole, region: str, name: str) -> AssumedKeys:
        asked = {
            "RoleArn": role.role_arn,
            "RoleSessionName": name,
            "DurationSeconds": DURATION_SECONDS,
        }
        if role.external_id:
            asked["ExternalId"] = role.external_id
        # Found first: what that takes has a bound of its own, and its errors say more.
        await self._chain.get_frozen_credentials()
        sts = await self._sts_client(region)
        async with asyncio.timeout(self.limits.assume):
            answer = await sts.assume_role(**asked)
        if not is_session_of(answer.get("AssumedRoleUser", {}).get("Arn", ""), role.role_arn, name):
            # The answer to what was asked is still to come, and must not go to the next request.
            if (connection := used.get()) is not None:
                connection.mark_unusable()
            raise ForeignAnswerError
        given = answer["Credentials"]
        keys = ReadOnlyCredentials(
            given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"]
        )
        left = given["Expiration"].timestamp() - self._clock.wall_ms() / 1000
        return AssumedKeys(keys, max(MIN_TOKEN_SECONDS, left))


class ForeignAnswerError(Exception):
    """STS answered with a session of another role, or of another name."""


class _KeyringCredentials:
    """Adapter with the interface of the library's credential chain and of its credentials.

    Answers with the current keys of a keyring. Every method here is one that the library calls.
    """

    method = "forwarder"

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    async def load_credentials(self) -> "_KeyringCredentials":
        return self

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        return await self._keyring.get_frozen_credentials()

    def get_deferred_property(self, _name: str) -> Callable[[], None]:
        return lambda: None

    async def get_account_id(self) -> None:
        """Name no account: endpoints by account are a thing of other services."""


def is_session_of(arn: str, role_arn: str, name: str) -> bool:
    """Tell whether ``arn`` is that of a session ``name`` of a role.

    arn:PARTITION:sts::ACCOUNT:assumed-role/ROLE/NAME; the role's path is left out there.
    """
    partition, account = role_arn.split(":")[1], role_arn.split(":")[4]
    role = role_arn.rpartition("/")[2]
    return arn == f"arn:{partition}:sts::{account}:assumed-role/{role}/{name}"


def role_session_name(name: str) -> str:
    """Return a legal RoleSessionName that a customer finds in the audit trail."""
    return "forwarder-" + re.sub(r"[^A-Za-z0-9_+=,.@-]", "-", name)[:54]


def describe_error(error: Exception, operation: str) -> AwsFailure:
    """Say what an error of the library means; ``operation`` is what was being called."""
    if isinstance(error, ClientError):
        told = error.response.get("Error", {})
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code, message = str(told.get("Code", "")), str(told.get("Message", ""))
        return AwsFailure(error.operation_name, code, status, message)
    name = type(error).__name__
    if isinstance(error, NoCredentialsError | PartialCredentialsError | CredentialRetrievalError):
        program = getattr(error, "kwargs", {}).get("provider") == "custom-process"
        remedy = "check credential_process in the AWS config file" if program else ""
        return AwsFailure(operation, "NoCredentials", 0, str(error), remedy)
    if isinstance(error, SSLError) and "certificate" in str(error).lower():
        return AwsFailure(operation, "CertificateError", 0, name)
    found = local_settings.fault_of(error)
    decoding = isinstance(error, UnicodeError | json.JSONDecodeError)
    if (
        isinstance(error, ValueError)
        and not decoding
        and (found is None or found.what.startswith(name))
    ):
        # The library's and the URL parser's word for an endpoint_url they cannot use.
        return AwsFailure(operation, "InvalidEndpoint", 0, name)
    if found is not None:
        return local_failure(operation, found)
    return AwsFailure(operation, errors.UNANSWERED, 0, name)


def local_failure(operation: str, fault: LocalSettingFault) -> AwsFailure:
    """Return a call's failure by something on this machine."""
    return AwsFailure(operation, errors.LOCAL_SETTING, 0, fault.what, fault.remedy)

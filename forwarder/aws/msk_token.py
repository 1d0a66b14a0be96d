"""Tokens for Amazon MSK: signed by AWS's own signer, with keys found as those of every connection.

So everything that finding them asks and reads is bounded as it is there, and no thread waits.
"""

import asyncio
import importlib
import os
from functools import cache
from typing import Any, cast

from botocore.credentials import CredentialProvider, Credentials, ReadOnlyCredentials
from botocore.loaders import Loader, create_loader

from forwarder.aws import errors as classify
from forwarder.aws.credentials import RoleError
from forwarder.aws.errors import AwsFailure
from forwarder.aws.session import AwsSession, describe_error
from forwarder.aws.time_limits import TimeLimits
from forwarder.clock import Clock
from forwarder.config.credentials import AssumedRole, DefaultCredentials
from forwarder.errors import TokenError
from forwarder.model import Outcome

ROLE_SESSION_NAME = "kafka"
"""Whose keys these are: AWS's audit trail has a role's session as ``forwarder-kafka``."""
SIGNER = "aws_msk_iam_sasl_signer.MSKAuthTokenProvider"

_CHECK = "check the worker's own AWS credentials"
_CHECK_ROLE = "check kafka.security.role_arn, its trust policy and the worker's own credentials"


class _FoundCredentials(CredentialProvider):  # type: ignore[misc]  # the library ships no types
    """Hands the signer keys that were found already."""

    def __init__(self, keys: ReadOnlyCredentials) -> None:
        super().__init__()
        self._keys = keys

    def load(self) -> Any:  # noqa: ANN401  # the library's own class
        return Credentials(self._keys.access_key, self._keys.secret_key, self._keys.token)


async def sign_msk_token(
    region: str,
    role_arn: str | None,
    clock: Clock,
    limits: TimeLimits = TimeLimits(),  # noqa: B008  # frozen
) -> tuple[str, int]:
    """Return a token and when it expires in milliseconds; raises TokenError."""
    keys = await _keys(region, role_arn, clock, limits)
    # In a thread, for it brings boto3 along, which nothing else needs (30 ms, 2 MiB).
    signer: Any = await asyncio.to_thread(importlib.import_module, SIGNER)
    made = signer.generate_auth_token_from_credentials_provider(region, _FoundCredentials(keys))
    return cast("tuple[str, int]", made)


async def _keys(
    region: str, role_arn: str | None, clock: Clock, limits: TimeLimits
) -> ReadOnlyCredentials:
    """Search for the keys at every call, and close what the search opened."""
    aws = AwsSession(clock, _loader(), limits=limits)
    role = AssumedRole(role_arn, None) if role_arn else DefaultCredentials()
    keyring = aws.make_keyring(role, region, ROLE_SESSION_NAME)
    try:
        # The worker's own first: what is wrong with them is no matter of the role's.
        await aws.make_keyring(
            DefaultCredentials(), region, ROLE_SESSION_NAME
        ).get_frozen_credentials()
        return await keyring.get_frozen_credentials()
    except RoleError as error:
        raise TokenError(_refused(error.outcome)) from error
    except Exception as error:
        raise TokenError(_not_found(describe_error(error, "the search for credentials"))) from error
    finally:
        await keyring.close()
        await aws.close()


@cache
def _loader() -> Loader:
    return create_loader(os.environ.get("AWS_DATA_PATH"))


def _refused(outcome: Outcome) -> str:
    """Say why a role gives no keys, by AWS's code alone: AWS quotes what was sent."""
    if outcome.code == classify.UNANSWERED:
        return f"AssumeRole was not answered; {_CHECK_ROLE}"
    return f"AssumeRole answered {outcome.code}; {_CHECK_ROLE}"


def _not_found(failure: AwsFailure) -> str:
    if failure.code == classify.LOCAL_SETTING:
        return f"{failure.message}; {failure.remedy}"
    if failure.code == classify.UNANSWERED:
        return f"{failure.operation} was not answered ({failure.message}); {_CHECK}"
    if failure.code == "NoCredentials":
        advice = failure.remedy or "give the worker some (variables, pod or instance role)"
        return f"no AWS credentials found; {advice}"
    return f"{failure.operation} answered {classify.metric_label(failure.code)}; {_CHECK}"

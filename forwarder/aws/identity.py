"""Who signs: asked of STS, which tells everybody and needs no permission for it."""

import asyncio
import re

from forwarder.aws import errors
from forwarder.aws.credentials import Keyring, RoleError
from forwarder.aws.session import AwsSession, describe_error
from forwarder.config.credentials import Credentials
from forwarder.model import Outcome
from forwarder.ops.diagnosis import Finding, fail, ok

OPERATION = "GetCallerIdentity"
_ARN = re.compile(r"arn:[a-z0-9-]{1,20}:(?:iam|sts)::[0-9]{12}:[\w+=,.@/-]{1,1024}", re.ASCII)
_REMEDY = "check the credentials, that STS can be reached, and this machine's clock"


class UnknownIdentityError(Exception):  # it is the identity that is
    """Who signs is not known; the text says why and what to do, ``outcome`` both apart."""

    def __init__(self, outcome: Outcome) -> None:
        """Keep the answer; its text is the error's."""
        super().__init__(outcome.error)
        self.outcome = outcome


async def caller_arn(aws: AwsSession, keys: Keyring, region: str) -> str:
    """Return the ARN of who signs with ``keys``; raises Unknown."""
    try:
        # The library's limits are for each step: an answer that drips in keeps them all.
        async with asyncio.timeout(aws.limits.identity):
            client = await aws.client("sts", region, keys)
            try:
                return _readable(str((await client.get_caller_identity())["Arn"]))
            finally:
                await client.close()
    except RoleError as error:
        raise UnknownIdentityError(error.outcome) from error
    except Exception as error:  # the library raises what it likes
        failure = describe_error(error, OPERATION)
        remedy = "" if failure.code == "NoCredentials" else _REMEDY
        raise UnknownIdentityError(
            errors.failure_outcome(failure, f"STS in {region}", remedy)
        ) from error


def _readable(told: str) -> str:
    """Return an ARN as it was told; raises ValueError for what is none, and may be anything."""
    if not _ARN.fullmatch(told):
        message = "STS named nobody"
        raise ValueError(message)
    return told


async def identity_finding(
    aws: AwsSession, credentials: Credentials, region: str, name: str
) -> Finding:
    """Say who a connection (or whatever ``name`` is) signs as; a role is assumed for it."""
    keys = aws.make_keyring(credentials, region, name)
    try:
        found = await caller_arn(aws, keys, region)
    except UnknownIdentityError as unknown:
        return failed_finding(unknown.outcome, _REMEDY)
    finally:
        await keys.close()
    if role := credentials.role:
        external = role.external_id
        with_it = f"with ExternalId {external}" if external else "without an ExternalId"
        return ok(f"{role.role_arn} was assumed {with_it}: signs as {found}")
    return ok(f"signs as {found}")


def failed_finding(outcome: Outcome, remedy: str) -> Finding:
    """Return what an answer of AWS says; ``remedy`` is for answers that have none of their own."""
    return fail(outcome.error.removesuffix(f"; {outcome.remedy}"), outcome.remedy or remedy)


def trust_principal(caller: str) -> str:
    """Return what a trust policy names for a caller: of an assumed role's session the role.

    A session's ARN leaves out the role's path.
    """
    parts = caller.split(":")
    kind, _, rest = parts[-1].partition("/")
    if parts[2] != "sts" or kind != "assumed-role":
        return caller
    return f"arn:{parts[1]}:iam::{parts[4]}:role/{rest.partition('/')[0]}"

"""What an AWS error means for the batch it answered: one table, and the words for people.

Codes are from the service models of Kinesis, Firehose and STS and from AWS's common errors;
they are compared without the suffix ``Exception``, which one service adds and the next leaves out.
"""

import re
from enum import Enum

import msgspec

from forwarder.sinks.base import Kind, Outcome

LONGEST_ERROR = 400
"""Characters of an error text; the labels of a log line are worth more than AWS's prose."""

UNANSWERED = "Unanswered"
OTHER = "Other"


class Fault(Enum):
    """What may be done about an error."""

    THROTTLED = "throttled"
    TRANSIENT = "transient"
    CREDENTIALS = "credentials"
    """Renew the credentials once; after that it is configuration."""
    CONFIGURATION = "configuration"
    PERMANENT = "permanent"
    """One record of the request is unacceptable: bisect to find it."""


class Failure(msgspec.Struct, frozen=True):
    """An error as the service told it; ``status`` is the HTTP status, 0: no answer at all."""

    operation: str
    code: str
    status: int = 0
    message: str = ""


_CODES = {
    Fault.THROTTLED: (
        "KMSThrottling",
        "LimitExceeded",
        "ProvisionedThroughputExceeded",
        "RequestLimitExceeded",
        "SlowDown",
        "Throttled",
        "ThrottledRequest",
        "Throttling",
        "TooManyRequests",
    ),
    Fault.TRANSIENT: (
        "IDPCommunicationError",
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "InternalServiceError",
        "RequestTimeout",
        "ServiceUnavailable",
        "TransactionInProgress",
        UNANSWERED,
    ),
    Fault.CREDENTIALS: (
        "ExpiredToken",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignature",
        "InvalidToken",
        "MissingAuthenticationToken",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "UnrecognizedClient",
    ),
    Fault.CONFIGURATION: (
        "AccessDenied",
        "CertificateError",
        "InvalidEndpoint",
        "InvalidIdentityToken",
        "KMSAccessDenied",
        "KMSDisabled",
        "KMSInvalidState",
        "KMSNotFound",
        "KMSOptInRequired",
        "NoCredentials",
        "NotAuthorized",
        "OptInRequired",
        "RegionDisabled",
        "ResourceInUse",
        "ResourceNotFound",
        "UnauthorizedOperation",
        "UnknownOperation",
    ),
    Fault.PERMANENT: (
        "InvalidArgument",
        "RequestEntityTooLarge",
        "Serialization",
        "Validation",
        "ValidationError",
    ),
}
FAULTS = {code: fault for fault, codes in _CODES.items() for code in codes}

_STATUSES = {
    408: Fault.TRANSIENT,
    413: Fault.PERMANENT,
    # A 429 without a code comes from something before the service, which may have passed it on.
    429: Fault.TRANSIENT,
}

_KINDS = {
    Fault.THROTTLED: Kind.THROTTLED,
    Fault.TRANSIENT: Kind.TRANSIENT,
    Fault.CREDENTIALS: Kind.CONFIGURATION,
    Fault.CONFIGURATION: Kind.CONFIGURATION,
    Fault.PERMANENT: Kind.REFUSED,
}

_KEY = "check the state and the policy of the KMS key that encrypts the stream"
_CLOCK = "check the clock of this machine"
_KEYS = "check the access keys, and that they are active"
REMEDIES = {
    "AccessDenied": "allow kinesis:PutRecord, kinesis:PutRecords or both on the stream",
    "CertificateError": "check endpoint_url and the certificate authorities trusted here",
    "ExpiredToken": "check where the worker's own credentials come from",
    "InvalidClientTokenId": _KEYS,
    "InvalidEndpoint": "check endpoint_url and region",
    "InvalidSignature": _KEYS,
    "KMSAccessDenied": _KEY,
    "KMSDisabled": _KEY,
    "KMSInvalidState": _KEY,
    "KMSNotFound": _KEY,
    "KMSOptInRequired": _KEY,
    "NoCredentials": "set credentials on the connection, or give the worker some",
    "RequestExpired": _CLOCK,
    "RequestTimeTooSkewed": _CLOCK,
    "ResourceInUse": "wait until the stream is ACTIVE",
    "ResourceNotFound": "check stream_name, region and account, or create the stream",
    "SignatureDoesNotMatch": _KEYS,
    "UnrecognizedClient": _KEYS,
}
_ANY_REMEDY = "check the connection's sink and credentials"

_WITH_MESSAGE = (Fault.THROTTLED, Fault.CONFIGURATION)
_SECRET = re.compile(r"[A-Za-z0-9+/=]{40,}|'[^']*'|\"[^\"]*\"")


def short(code: str) -> str:
    """Return a code as the table spells it."""
    return code.removesuffix("Exception")


def label(code: str) -> str:
    """Return the code if it is known, else ``Other``: labels of metrics are bounded."""
    bare = short(code)
    return bare if bare in FAULTS else OTHER


def fault(failure: Failure) -> Fault:
    """Decide what may be done; an unknown code is judged by its HTTP status."""
    known = FAULTS.get(short(failure.code)) or _STATUSES.get(failure.status)
    if known is Fault.PERMANENT and not failure.operation.startswith("Put"):
        return Fault.CONFIGURATION
    if known is not None:
        return known
    wanting = 400 <= failure.status < 500  # noqa: PLR2004  # RFC 9110: client errors
    return Fault.CONFIGURATION if wanting else Fault.TRANSIENT


def outcome(failure: Failure, where: str, remedy: str = "") -> Outcome:
    """Turn a failure at ``where`` ("stream s in eu-west-1") into one answer for a batch.

    Only the first sentence of the service's message is quoted, and only where it cannot name
    anything sent: AWS repeats rejected values, and signed headers with their session token.
    """
    what = fault(failure)
    parts = [f"{failure.operation} on {where}: {_named(failure)}"]
    if what in _WITH_MESSAGE and failure.message:
        parts.append(_sentence(failure.message))
    text = ": ".join(parts)
    if _KINDS[what] is Kind.CONFIGURATION:
        text += f"; {remedy or REMEDIES.get(short(failure.code), _ANY_REMEDY)}"
    return Outcome(_KINDS[what], label(failure.code), _bounded(text))


def role_refused(failure: Failure, role_arn: str, external_id: str | None) -> Outcome:
    """Say in words that a role cannot be assumed, as the answer for every batch of its lanes."""
    named = f"with ExternalId {external_id}" if external_id else "without an ExternalId"
    text = f"cannot assume {role_arn} {named}: {_named(failure)}"
    kind = _KINDS[fault(failure)]
    if kind is Kind.CONFIGURATION:
        text += f"; {_ROLE_REMEDIES.get(short(failure.code), _ANY_ROLE_REMEDY)}"
    return Outcome(kind, label(failure.code), _bounded(text))


_ANY_ROLE_REMEDY = "check role_arn and region, and the worker's own credentials"
_ROLE_REMEDIES = {
    "AccessDenied": (
        "check the role's trust policy (principal and ExternalId)"
        " and that the worker may call sts:AssumeRole"
    ),
    "RegionDisabled": "activate STS in that region of the account",
    "NoCredentials": "give the worker credentials of its own to assume roles with",
}


def _named(failure: Failure) -> str:
    if failure.code == UNANSWERED and failure.message:
        return f"{UNANSWERED} ({failure.message})"
    return short(failure.code) or f"HTTP {failure.status}"


def _sentence(message: str) -> str:
    first = message.split("\n", 1)[0].split(". ", 1)[0]
    return _SECRET.sub("…", first)


def _bounded(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_ERROR else line[: LONGEST_ERROR - 1] + "…"

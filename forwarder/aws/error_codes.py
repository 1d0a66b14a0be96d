"""What AWS answers and what is done about it: one table, code -> class -> action.

Codes are from the service models of Kinesis, Firehose and STS, from AWS's pages of common errors
and from what its SDKs retry. They are written without the suffix ``Exception``, which one service
adds and the next leaves out. docs/delivery.md shows the table to people.
"""

from enum import Enum

import msgspec

from forwarder.model import OutcomeKind

UNANSWERED = "Unanswered"
"""Stands for a call without an answer: it may have stored what it carried."""

LOCAL_SETTING = "LocalSetting"
"""Stands for a call that failed here, by a variable or file of this machine, before it was made."""


class AwsErrorClass(Enum):
    """The classes of errors; ``AWS_CLASS_ACTIONS`` says what each obliges to."""

    THROTTLED = "throttled"
    TRANSIENT = "transient"
    CREDENTIALS = "credentials"
    CONFIGURATION = "configuration"
    PERMANENT = "permanent"


class ClassAction(msgspec.Struct, frozen=True):
    """What is done about a class: the answer for delivery, and in words."""

    kind: OutcomeKind
    words: str


AWS_CLASS_ACTIONS = {
    AwsErrorClass.THROTTLED: ClassAction(
        OutcomeKind.THROTTLED,
        "nothing stored: resend after a backoff, and send less from now on",
    ),
    AwsErrorClass.TRANSIENT: ClassAction(
        OutcomeKind.TRANSIENT,
        "perhaps stored: resend the same bytes after a backoff",
    ),
    AwsErrorClass.CREDENTIALS: ClassAction(
        OutcomeKind.CONFIGURATION,
        "renew the credentials once and try again at once; refused again, it is configuration",
    ),
    AwsErrorClass.CONFIGURATION: ClassAction(
        OutcomeKind.CONFIGURATION,
        "pause the lane, keep every batch, probe every 5 to 60 s; the reason says what to mend",
    ),
    AwsErrorClass.PERMANENT: ClassAction(
        OutcomeKind.REFUSED,
        "bisect the request to the culprit; a dead letter once another batch was accepted",
    ),
}


class AwsErrorRule(msgspec.Struct, frozen=True):
    """One row: the class of a code and, where an operator has to act, what to do.

    ``{allow}``, ``{stream}`` and ``{setting}`` are spelled as the service has them.
    """

    fault: AwsErrorClass
    remedy: str = ""


def _rules(fault: AwsErrorClass, *codes: str, remedy: str = "") -> dict[str, AwsErrorRule]:
    return dict.fromkeys(codes, AwsErrorRule(fault, remedy))


AWS_ERRORS: dict[str, AwsErrorRule] = {
    **_rules(
        AwsErrorClass.THROTTLED,
        "BandwidthLimitExceeded",
        "EC2Throttled",
        "KMSThrottling",  # no SDK's own retries know it
        "LimitExceeded",
        "ProvisionedThroughputExceeded",
        "RequestLimitExceeded",
        "RequestThrottled",
        "SlowDown",
        "Throttled",
        "ThrottledRequest",
        "Throttling",
        "TooManyRequests",
    ),
    **_rules(
        AwsErrorClass.TRANSIENT,
        "ConcurrentModification",
        "IDPCommunicationError",
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "InternalServiceError",
        "PriorRequestNotComplete",
        "RequestAborted",
        "RequestTimeout",
        "ServiceUnavailable",
        "TransactionInProgress",
        UNANSWERED,
    ),
    **_rules(
        AwsErrorClass.CREDENTIALS,
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignature",
        "SignatureDoesNotMatch",
        "UnrecognizedClient",
        remedy="check the access keys, and that they are active",
    ),
    **_rules(
        AwsErrorClass.CREDENTIALS,
        "ExpiredToken",
        "ExpiredTradeInToken",
        "InvalidToken",
        "MissingAuthenticationToken",
        "TokenRefreshRequired",
        remedy="check where the worker's own credentials come from",
    ),
    **_rules(
        AwsErrorClass.CREDENTIALS,
        "RequestExpired",
        "RequestTimeTooSkewed",
        remedy="check the clock of this machine",
    ),
    **_rules(
        AwsErrorClass.CONFIGURATION,
        "AccessDenied",
        "NotAuthorized",
        "UnauthorizedOperation",
        remedy="allow {allow}",
    ),
    **_rules(
        AwsErrorClass.CONFIGURATION,
        "InvalidKMSResource",
        "KMSAccessDenied",
        "KMSDisabled",
        "KMSInvalidState",
        "KMSNotFound",
        "KMSOptInRequired",
        remedy="check the state and the policy of the KMS key that encrypts the stream",
    ),
    **_rules(
        AwsErrorClass.CONFIGURATION,
        "ResourceNotFound",
        remedy="check {setting}, region and account, or create the stream",
    ),
    **_rules(
        AwsErrorClass.CONFIGURATION,
        "ResourceInUse",
        remedy="wait until the stream is ACTIVE",
    ),
    **_rules(
        AwsErrorClass.CONFIGURATION,
        "InvalidSource",
        remedy="give the delivery stream the source Direct PUT: it reads from a data stream",
    ),
    **_rules(
        AwsErrorClass.CONFIGURATION,
        "AccountDisabled",
        "OptInRequired",
        "SubscriptionRequired",
        remedy="activate the service for the account",
    ),
    **_rules(
        AwsErrorClass.CONFIGURATION,
        "RegionDisabled",
        remedy="activate that region in the account",
    ),
    **_rules(
        AwsErrorClass.CONFIGURATION,
        "NoCredentials",
        remedy="set credentials on the connection, or give the worker some",
    ),
    **_rules(
        AwsErrorClass.CONFIGURATION,
        "CertificateError",
        remedy="check endpoint_url and the certificate authorities trusted here",
    ),
    **_rules(
        AwsErrorClass.CONFIGURATION,
        LOCAL_SETTING,
        remedy="check the AWS_… variables and the AWS config file of this machine",
    ),
    **_rules(
        AwsErrorClass.CONFIGURATION,
        "InvalidEndpoint",
        remedy="check endpoint_url and region",
    ),
    **_rules(
        AwsErrorClass.CONFIGURATION,
        # No put of ours is answered so: something else answers, or changes the request.
        "DryRunOperation",
        "ExpiredIterator",
        "ExpiredNextToken",
        "InvalidAction",
        "MalformedHttpRequest",
        "MalformedQueryString",
        "MissingAction",
        "UnknownOperation",
        remedy="check endpoint_url, and what stands between the worker and AWS",
    ),
    **_rules(
        AwsErrorClass.CONFIGURATION,
        # Of STS alone.
        "IDPRejectedClaim",
        "InvalidAuthorizationMessage",
        "InvalidIdentityToken",
        "JWTPayloadSizeExceeded",
        "MalformedPolicyDocument",
        "OutboundWebIdentityFederationDisabled",
        "PackedPolicyTooLarge",
        "SessionDurationEscalation",
    ),
    **_rules(
        AwsErrorClass.PERMANENT,
        "InvalidArgument",
        "InvalidParameterCombination",
        "InvalidParameterValue",
        "MissingParameter",
        "RequestEntityTooLarge",
        "Serialization",
        "Validation",
        "ValidationError",
    ),
}

STATUSES = {
    408: AwsErrorClass.TRANSIENT,
    413: AwsErrorClass.PERMANENT,
    # A 429 without a code comes from something before the service, which may have passed it on.
    429: AwsErrorClass.TRANSIENT,
}
"""What the HTTP status of an unknown code says; else a redirect or a client's error is
configuration (it lasts until somebody acts), and anything else is tried again."""

_BASE_KEYS = (
    "renew the worker's own credentials (the default AWS chain), by which the role is assumed"
)
ROLE_REMEDIES = {
    **{
        code: rule.remedy if "clock" in rule.remedy else _BASE_KEYS
        for code, rule in AWS_ERRORS.items()
        if rule.fault is AwsErrorClass.CREDENTIALS
    },
    "AccessDenied": (
        "check the role's trust policy (principal and ExternalId)"
        " and that the worker may call sts:AssumeRole"
    ),
    "RegionDisabled": "activate STS in that region of the account",
    "NoCredentials": "give the worker credentials of its own to assume roles with",
}
"""What to do where it is STS that refuses."""

ANY_ROLE_REMEDY = "check role_arn and region, and the worker's own credentials"
ANY_REMEDY = "check the connection's sink and credentials"


class ServiceWords(msgspec.Struct, frozen=True):
    """How the remedies speak of the service that was called."""

    allow: str
    setting: str


KINESIS = ServiceWords("kinesis:PutRecord, kinesis:PutRecords or both on the stream", "stream_name")
FIREHOSE = ServiceWords("firehose:PutRecordBatch on the delivery stream", "delivery_stream_name")
PUT_OPERATIONS = {"PutRecord": KINESIS, "PutRecords": KINESIS, "PutRecordBatch": FIREHOSE}
"""The operations that put; every other is a question of credentials, and costs no record."""

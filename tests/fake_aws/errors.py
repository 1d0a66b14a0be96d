"""What AWS's errors look like: code, HTTP status and a message as the services word it.

Codes are from the service models of Kinesis, Firehose and STS and from AWS's common errors; the
statuses are those of the services that use JSON (400 for all that the caller did) and of STS.
"""

from xml.sax.saxutils import escape

from tests.fake_aws.web import XML, Reply

STS = "https://sts.amazonaws.com/doc/2011-06-15/"
NOT_DECLARED = 400

ACCESS_DENIED = "AccessDeniedException"
DRY_RUN = "DryRunOperationException"
EXPIRED_TOKEN = "ExpiredTokenException"
INCOMPLETE_SIGNATURE = "IncompleteSignatureException"
INVALID_ARGUMENT = "InvalidArgumentException"
INVALID_SIGNATURE = "InvalidSignatureException"
MISSING_TOKEN = "MissingAuthenticationTokenException"
RESOURCE_IN_USE = "ResourceInUseException"
RESOURCE_NOT_FOUND = "ResourceNotFoundException"
SERIALIZATION = "SerializationException"
UNKNOWN_OPERATION = "UnknownOperationException"
UNRECOGNIZED_CLIENT = "UnrecognizedClientException"
VALIDATION = "ValidationException"

_INVALID_TOKEN = "The security token included in the request is invalid."
_EXPIRED = "The security token included in the request is expired"
_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your"
    " AWS Secret Access Key and signing method. Consult the service documentation for details."
)
_KEY = "arn:aws:kms:us-east-1:111122223333:key/00000000-0000-0000-0000-000000000000"
_SLOW = "Slow down."
_SUBSCRIBE = "The AWS Access Key Id needs a subscription for the service"
_RATE = "Rate exceeded"
_INTERNAL = "Internal service failure."
_DENIED = "User is not authorized to perform this action."

ERRORS: dict[str, tuple[int, str]] = {
    # Throttling.
    "KMSThrottlingException": (400, "The request was denied due to request throttling."),
    "LimitExceededException": (400, "Rate exceeded for the operations on this stream."),
    "ProvisionedThroughputExceededException": (400, "Rate exceeded for shard in stream."),
    "RequestLimitExceeded": (400, "Request limit exceeded."),
    "SlowDown": (503, _SLOW),
    "ThrottledException": (400, _RATE),
    "ThrottledRequestException": (400, _RATE),
    "Throttling": (400, _RATE),
    "ThrottlingException": (400, _RATE),
    "TooManyRequestsException": (429, _RATE),
    "BandwidthLimitExceeded": (503, _SLOW),
    "EC2ThrottledException": (400, _RATE),
    "PriorRequestNotComplete": (400, "The previous request has not been completed."),
    "RequestThrottledException": (400, _RATE),
    # The service's own fault.
    "ConcurrentModificationException": (400, "Another change is under way."),
    "IDPCommunicationError": (400, "The identity provider could not be reached."),
    "InternalError": (500, _INTERNAL),
    "InternalFailure": (500, _INTERNAL),
    "InternalFailureException": (500, _INTERNAL),
    "InternalServerError": (500, _INTERNAL),
    "InternalServiceError": (500, _INTERNAL),
    "RequestAbortedException": (400, "The request was aborted."),
    "RequestTimeout": (408, "Your socket connection was not read from within the timeout period."),
    "ServiceUnavailable": (503, "The service is temporarily unavailable."),
    "ServiceUnavailableException": (503, _SLOW),
    "TransactionInProgressException": (400, "A transaction is in progress."),
    # Who signs.
    "ExpiredToken": (403, _EXPIRED),
    "ExpiredTokenException": (400, _EXPIRED),
    "IncompleteSignature": (400, "Authorization header requires existence of its parameters."),
    "IncompleteSignatureException": (400, "Authorization header requires its parameters."),
    "InvalidAccessKeyId": (403, "The AWS Access Key Id you provided does not exist."),
    "InvalidClientTokenId": (403, _INVALID_TOKEN),
    "InvalidSignatureException": (400, _MISMATCH),
    "InvalidToken": (400, "The provided token is malformed or otherwise invalid."),
    "MissingAuthenticationToken": (403, "Request is missing Authentication Token"),
    "MissingAuthenticationTokenException": (400, "Missing Authentication Token"),
    "RequestExpired": (400, "Request has expired."),
    "RequestTimeTooSkewed": (403, "The request time and the current time differ too much."),
    "SignatureDoesNotMatch": (403, _MISMATCH),
    "UnrecognizedClientException": (400, _INVALID_TOKEN),
    "ExpiredTradeInTokenException": (400, _EXPIRED),
    "TokenRefreshRequired": (400, "The provided token must be refreshed."),
    # What a person has to mend.
    "AccessDenied": (403, _DENIED),
    "AccessDeniedException": (400, _DENIED),
    "InvalidIdentityToken": (400, "The web identity token could not be validated."),
    "InvalidKMSResourceException": (400, "KMS key is not accessible."),
    "InvalidSourceException": (400, "Only requests from a certain source are supported."),
    "KMSAccessDeniedException": (400, f"The ciphertext refers to a key without access: {_KEY}"),
    "KMSDisabledException": (400, f"{_KEY} is disabled."),
    "KMSInvalidStateException": (400, f"{_KEY} is pending deletion."),
    "KMSNotFoundException": (400, f"Key '{_KEY}' does not exist"),
    "KMSOptInRequired": (400, _SUBSCRIBE),
    "NotAuthorized": (400, _DENIED),
    "OptInRequired": (403, _SUBSCRIBE),
    "RegionDisabledException": (403, "STS is not activated in this region for this account."),
    "ResourceInUseException": (400, "Stream is not ACTIVE, instead in state UPDATING"),
    "ResourceNotFoundException": (400, "Stream not found."),
    "UnauthorizedOperation": (403, "You are not authorized to perform this operation."),
    "UnknownOperationException": (400, "Unknown operation"),
    "AccountDisabled": (403, "The account is disabled."),
    "SubscriptionRequired": (403, _SUBSCRIBE),
    # What no put and no AssumeRole of ours should ever be told.
    "ExpiredIteratorException": (400, "The iterator has expired."),
    "ExpiredNextTokenException": (400, "The pagination token has expired."),
    "IDPRejectedClaim": (403, "The identity provider rejected the claim."),
    "InvalidAction": (400, "Could not find the operation."),
    "InvalidAuthorizationMessageException": (400, "The message cannot be decoded."),
    "JWTPayloadSizeExceededException": (400, "The token is too large."),
    "MalformedHttpRequestException": (400, "The request cannot be read."),
    "MalformedPolicyDocument": (400, "The policy cannot be read."),
    "MalformedQueryString": (404, "The query string contains a syntax error."),
    "MissingAction": (400, "The request names no action."),
    "OutboundWebIdentityFederationDisabledException": (403, "The feature is not enabled."),
    "PackedPolicyTooLarge": (400, "The packed size of the policies is too large."),
    "SessionDurationEscalationException": (403, "The session would last too long."),
    # The request itself.
    "InvalidParameterCombination": (400, "Parameters must not be used together."),
    "InvalidParameterValue": (400, "A parameter is not valid."),
    "MissingParameter": (400, "A parameter is missing."),
    "DryRunOperationException": (400, "Request would have succeeded, but DryRun flag is set."),
    "InvalidArgumentException": (400, "Invalid argument"),
    "RequestEntityTooLargeException": (413, "Request size exceeded the limit"),
    "SerializationException": (400, "Start of structure or map found where not expected."),
    "ValidationError": (400, "1 validation error detected"),
    "ValidationException": (400, "1 validation error detected"),
}

IN_STS = {
    "AccessDeniedException": "AccessDenied",
    "ExpiredTokenException": "ExpiredToken",
    "IncompleteSignatureException": "IncompleteSignature",
    "InvalidSignatureException": "SignatureDoesNotMatch",
    "MissingAuthenticationTokenException": "MissingAuthenticationToken",
    "UnknownOperationException": "InvalidAction",
    "UnrecognizedClientException": "InvalidClientTokenId",
    "ValidationException": "ValidationError",
}
"""What STS calls what the services with JSON call otherwise."""


class AwsError(Exception):
    """A call is refused, and nothing is stored; what is not given is as in ``ERRORS``."""

    def __init__(self, code: str, message: str = "", status: int = 0) -> None:
        """Take the code as a service that uses JSON spells it."""
        known = ERRORS.get(code, (NOT_DECLARED, ""))
        self.code = code
        self.message = message or known[1]
        self.status = status or known[0]
        super().__init__(f"{code}: {self.message}")


def invalid(value: object, field: str, constraint: str) -> AwsError:
    """Return the error of a value that the service's model does not allow."""
    text = f"1 validation error detected: Value '{value}' at '{field}' failed to satisfy constraint"
    return AwsError(VALIDATION, f"{text}: Member must {constraint}")


def refusal(error: AwsError, service: str) -> Reply:
    """Return the answer that tells of an error, in the words of a service."""
    if service != "sts":
        told = {"__type": error.code, "message": error.message} if error.code else {}
        return Reply.of(told, error.status)
    code = IN_STS.get(error.code, error.code)
    status = ERRORS[code][0] if code != error.code and code in ERRORS else error.status
    kind = "Receiver" if status >= 500 else "Sender"  # the server's own
    text = (
        f'<ErrorResponse xmlns="{STS}"><Error><Type>{kind}</Type><Code>{escape(code)}</Code>'
        f"<Message>{escape(error.message)}</Message></Error>"
        "<RequestId>00000000-0000-0000-0000-000000000000</RequestId></ErrorResponse>"
    )
    return Reply(status, text.encode(), XML)

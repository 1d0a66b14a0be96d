"""What an AWS error means for the batch it answered, by the table in ``codes``, in words."""

import re

import msgspec

from forwarder.aws import error_codes
from forwarder.config import masking
from forwarder.model import Outcome, OutcomeKind

MAX_ERROR_CHARS = 400
"""Characters of an error text; the labels of a log line are worth more than AWS's prose."""

UNANSWERED = error_codes.UNANSWERED
LOCAL_SETTING = error_codes.LOCAL_SETTING
OTHER = "Other"
AwsErrorClass = error_codes.AwsErrorClass

_WITH_MESSAGE = (AwsErrorClass.THROTTLED, AwsErrorClass.CONFIGURATION)
_SECRET = re.compile(r"[A-Za-z0-9+/=]{40,}|'[^']*'|\"[^\"]*\"")
_SIGNED = re.compile(r"\b(authorization|bearer|basic|signature|credential)\b\S*.*", re.IGNORECASE)
"""From here on a message may repeat what signs a request."""
_CODE = re.compile(r"(?:[A-Z]{1,5}[a-z]{2,20}[0-9]?){1,10}")
"""How AWS spells codes. Others are not shown: an endpoint may put there whatever it was sent."""
_MAX_CODE_CHARS = 64
_SKEWED = ("Signature expired", "Signature not yet current")
"""How AWS words an ``InvalidSignature`` that is a matter of clocks."""
_SHARD = re.compile(r"\bshardId-[0-9]{12}\b")


class AwsFailure(msgspec.Struct, frozen=True):
    """An error as the service told it; ``status`` is the HTTP status, 0: no answer at all.

    Where it was found here (``LOCAL_SETTING``), message and remedy are the program's own.
    """

    operation: str
    code: str
    status: int = 0
    message: str = ""
    remedy: str = ""


def table_code(code: str) -> str:
    """Return a code as the table spells it."""
    return code.removesuffix("Exception")


def metric_label(code: str) -> str:
    """Return the code if it is known, else ``Other``: labels of metrics are bounded."""
    bare = table_code(code)
    return bare if bare in error_codes.AWS_ERRORS else OTHER


def aws_error_class(failure: AwsFailure) -> AwsErrorClass:
    """Decide what may be done; an unknown code is judged by its HTTP status."""
    known = _class_of_known(failure)
    if known is AwsErrorClass.PERMANENT and failure.operation not in error_codes.PUT_OPERATIONS:
        return AwsErrorClass.CONFIGURATION  # a role's fault never costs a record
    if known is not None:
        return known
    wanting = 300 <= failure.status < 500  # noqa: PLR2004  # RFC 9110: redirects, client errors
    return AwsErrorClass.CONFIGURATION if wanting else AwsErrorClass.TRANSIENT


def is_of_keys(failure: AwsFailure) -> bool:
    """Tell whether other keys would help: not where clocks differ."""
    clock = error_codes.AWS_ERRORS["RequestTimeTooSkewed"].remedy
    return aws_error_class(failure) is AwsErrorClass.CREDENTIALS and _remedy(failure) != clock


def outcome_kind(failure: AwsFailure) -> OutcomeKind:
    """Return the answer for delivery; that STS is busy says nothing of the stream's limits."""
    found = error_codes.AWS_CLASS_ACTIONS[aws_error_class(failure)].kind
    if found is OutcomeKind.THROTTLED and failure.operation not in error_codes.PUT_OPERATIONS:
        return OutcomeKind.TRANSIENT
    return found


def throttled_shard(message: str) -> str:
    """Return the shard that Kinesis names where it throttles a record, empty if it names none."""
    found = _SHARD.search(message)
    return found[0] if found else ""


def failure_outcome(failure: AwsFailure, where: str, remedy: str = "") -> Outcome:
    """Turn a failure at ``where`` ("stream s in eu-west-1") into one answer for a batch.

    Only the first sentence of the service's message is quoted, and only where it cannot name
    anything sent: AWS repeats rejected values, and signed headers with their session token.
    """
    parts = [f"{failure.operation} on {where}: {_code_text(failure)}"]
    own = failure.code == LOCAL_SETTING
    if aws_error_class(failure) in _WITH_MESSAGE and failure.message and not own:
        parts.append(_sentence(failure.message))
    return _outcome(failure, ": ".join(parts), remedy or _remedy(failure))


def role_refused(failure: AwsFailure, role_arn: str, external_id: str | None) -> Outcome:
    """Say in words that a role cannot be assumed, as the answer for every batch of its lanes."""
    named = f"with ExternalId {external_id}" if external_id else "without an ExternalId"
    text = f"cannot assume {role_arn} {named}: {_code_text(failure)}"
    return _outcome(failure, text, failure.remedy or _role_remedy(failure))


def _class_of_known(failure: AwsFailure) -> AwsErrorClass | None:
    code = table_code(failure.code)
    if failure.operation == "PutRecordBatch" and code == "ServiceUnavailable":
        # Firehose has no code of its own for throttling. As the answer for one record of a
        # request that succeeded, or with these words, it is that; else the service is away.
        slowed = failure.status == 200 or "slow down" in failure.message.lower()  # noqa: PLR2004
        return AwsErrorClass.THROTTLED if slowed else AwsErrorClass.TRANSIENT
    rule = error_codes.AWS_ERRORS.get(code)
    return rule.fault if rule else error_codes.STATUSES.get(failure.status)


def _outcome(failure: AwsFailure, text: str, remedy: str) -> Outcome:
    answer = outcome_kind(failure)
    if answer is not OutcomeKind.CONFIGURATION:
        named = throttled_shard(failure.message) if answer is OutcomeKind.THROTTLED else ""
        return Outcome(answer, metric_label(failure.code), _bounded(text), named)
    # The remedy is whole whatever the service's own words took.
    said = _bounded(text, MAX_ERROR_CHARS - len(remedy) - 2)
    return Outcome(answer, metric_label(failure.code), f"{said}; {remedy}", remedy=remedy)


def _remedy(failure: AwsFailure) -> str:
    if failure.remedy:
        return failure.remedy
    service = error_codes.PUT_OPERATIONS.get(failure.operation)
    if service is None:
        return _role_remedy(failure)
    if failure.message.startswith(_SKEWED):
        return error_codes.AWS_ERRORS["RequestTimeTooSkewed"].remedy
    rule = error_codes.AWS_ERRORS.get(table_code(failure.code))
    words = (rule.remedy if rule else "") or error_codes.ANY_REMEDY
    return words.format(allow=service.allow, setting=service.setting)


def _role_remedy(failure: AwsFailure) -> str:
    return error_codes.ROLE_REMEDIES.get(table_code(failure.code), error_codes.ANY_ROLE_REMEDY)


def _code_text(failure: AwsFailure) -> str:
    if failure.code == UNANSWERED and failure.message:
        return f"{UNANSWERED} ({_masked(failure.message[:MAX_ERROR_CHARS])})"
    if failure.code == LOCAL_SETTING:
        return f"{LOCAL_SETTING}: {failure.message}"
    code = table_code(failure.code)
    return code if _is_code(code) else f"HTTP {failure.status}"


def _is_code(code: str) -> bool:
    if code in error_codes.AWS_ERRORS:
        return True
    spelled = len(code) <= _MAX_CODE_CHARS and _CODE.fullmatch(code) is not None
    return spelled and masking.mask(code) == code


def _sentence(message: str) -> str:
    first = message[: 4 * MAX_ERROR_CHARS].split("\n", 1)[0].split(". ", 1)[0]
    return _masked(_SECRET.sub("…", first))


def _masked(text: str) -> str:
    return masking.mask(_SIGNED.sub(masking.MASK, text))


def _bounded(text: str, longest: int = MAX_ERROR_CHARS) -> str:
    # JSON may hold half a surrogate pair, which no tick can store and no page can show.
    line = " ".join(text.encode(errors="replace").decode().split())
    return line if len(line) <= longest else line[: longest - 1] + "…"

import re
from pathlib import Path

import pytest
from botocore.loaders import Loader
from botocore.retries.standard import ThrottledRetryableChecker, TransientRetryableChecker

from forwarder.aws import error_codes, errors
from forwarder.aws.errors import AwsErrorClass, AwsFailure
from forwarder.model import OutcomeKind

PAGE = (Path(__file__).parents[3] / "docs" / "delivery.md").read_text()

WHERE = "stream acme in eu-west-1"


@pytest.mark.parametrize(
    ("expected", "code"),
    [
        (AwsErrorClass.THROTTLED, "ProvisionedThroughputExceededException"),
        (AwsErrorClass.THROTTLED, "LimitExceededException"),
        (AwsErrorClass.THROTTLED, "Throttling"),
        (AwsErrorClass.THROTTLED, "ThrottlingException"),
        (AwsErrorClass.THROTTLED, "RequestLimitExceeded"),
        (AwsErrorClass.THROTTLED, "KMSThrottlingException"),
        (AwsErrorClass.TRANSIENT, "InternalFailure"),
        (AwsErrorClass.TRANSIENT, "InternalFailureException"),
        (AwsErrorClass.TRANSIENT, "ServiceUnavailable"),
        (AwsErrorClass.TRANSIENT, "ServiceUnavailableException"),
        (AwsErrorClass.TRANSIENT, errors.UNANSWERED),
        (AwsErrorClass.CREDENTIALS, "ExpiredToken"),
        (AwsErrorClass.CREDENTIALS, "ExpiredTokenException"),
        (AwsErrorClass.CREDENTIALS, "UnrecognizedClientException"),
        (AwsErrorClass.CREDENTIALS, "InvalidSignatureException"),
        (AwsErrorClass.CREDENTIALS, "RequestTimeTooSkewed"),
        (AwsErrorClass.CONFIGURATION, "AccessDeniedException"),
        (AwsErrorClass.CONFIGURATION, "ResourceNotFoundException"),
        (AwsErrorClass.CONFIGURATION, "ResourceInUseException"),
        (AwsErrorClass.CONFIGURATION, "KMSAccessDeniedException"),
        (AwsErrorClass.CONFIGURATION, "KMSDisabledException"),
        (AwsErrorClass.CONFIGURATION, "KMSNotFoundException"),
        (AwsErrorClass.CONFIGURATION, "KMSInvalidStateException"),
        (AwsErrorClass.CONFIGURATION, "KMSOptInRequired"),
        (AwsErrorClass.PERMANENT, "InvalidArgumentException"),
        (AwsErrorClass.PERMANENT, "ValidationException"),
        (AwsErrorClass.PERMANENT, "SerializationException"),
    ],
)
def test_a_code_says_what_may_be_done(expected: AwsErrorClass, code: str) -> None:
    # The status of a known code does not matter: AWS denies with 400, emulators with 403.
    assert {
        errors.aws_error_class(AwsFailure("PutRecords", code, s)) for s in (0, 200, 400, 403, 500)
    } == {expected}


@pytest.mark.parametrize(
    ("expected", "status"),
    [
        (AwsErrorClass.TRANSIENT, 0),
        (AwsErrorClass.TRANSIENT, 200),
        (AwsErrorClass.TRANSIENT, 408),
        (AwsErrorClass.TRANSIENT, 429),
        (AwsErrorClass.TRANSIENT, 500),
        (AwsErrorClass.TRANSIENT, 502),
        (AwsErrorClass.TRANSIENT, 503),
        (AwsErrorClass.CONFIGURATION, 400),
        (AwsErrorClass.CONFIGURATION, 403),
        (AwsErrorClass.CONFIGURATION, 404),
        (AwsErrorClass.PERMANENT, 413),
    ],
)
def test_an_unknown_code_is_judged_by_its_status(expected: AwsErrorClass, status: int) -> None:
    assert errors.aws_error_class(AwsFailure("PutRecord", "NewThing", status)) is expected
    assert errors.aws_error_class(AwsFailure("PutRecord", "", status)) is expected


def test_a_role_that_is_invalid_never_costs_a_record() -> None:
    assert (
        errors.aws_error_class(AwsFailure("AssumeRole", "ValidationError", 400))
        is AwsErrorClass.CONFIGURATION
    )


@pytest.mark.parametrize(
    ("expected", "code"),
    [
        (OutcomeKind.THROTTLED, "ThrottlingException"),
        (OutcomeKind.TRANSIENT, "InternalFailure"),
        (OutcomeKind.CONFIGURATION, "ExpiredTokenException"),
        (OutcomeKind.CONFIGURATION, "AccessDeniedException"),
        (OutcomeKind.REFUSED, "ValidationException"),
    ],
)
def test_each_fault_is_an_answer_for_delivery(expected: OutcomeKind, code: str) -> None:
    assert errors.failure_outcome(AwsFailure("PutRecords", code, 400), WHERE).kind is expected


def test_labels_are_bounded() -> None:
    assert errors.metric_label("AccessDeniedException") == "AccessDenied"
    assert errors.metric_label("AccessDenied") == "AccessDenied"
    assert errors.metric_label("tenant-4711-Exception") == "Other"
    assert errors.metric_label("") == "Other"


@pytest.mark.parametrize("code", sorted(error_codes.AWS_ERRORS))
def test_what_a_person_must_mend_says_how(code: str) -> None:
    told = errors.failure_outcome(AwsFailure("PutRecords", code, 400), WHERE)
    assert (told.kind is OutcomeKind.CONFIGURATION) == ("; " in told.error)
    assert told.error.startswith(f"PutRecords on {WHERE}: {code}")


def test_who_was_denied_what_is_quoted() -> None:
    message = "User: arn:aws:sts::1:assumed-role/r is not authorized to perform: kinesis:PutRecord"
    told = errors.failure_outcome(
        AwsFailure("PutRecord", "AccessDeniedException", 400, message), WHERE
    )
    assert message in told.error


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("ValidationException", "Value 'needle' at 'records.1.member.partitionKey' failed"),
        ("InvalidSignatureException", "The Canonical String\nx-amz-security-token:needle"),
        ("AccessDeniedException", "Denied. x-amz-security-token needle"),
        ("AccessDeniedException", "Denied\nneedle"),
        ("AccessDeniedException", "Denied for 'needle'"),
        ("AccessDeniedException", 'Denied for "needle"'),
        ("AccessDeniedException", "Denied with " + "needle" * 20),
        ("InternalFailure", "needle"),
    ],
)
def test_nothing_sent_or_secret_is_quoted(code: str, message: str) -> None:
    assert (
        "needle"
        not in errors.failure_outcome(AwsFailure("PutRecords", code, 400, message), WHERE).error
    )


def test_a_text_is_one_bounded_line() -> None:
    message = "many words " * 100 + "\r\n\x0b and lines"
    told = errors.failure_outcome(AwsFailure("PutRecords", "AccessDenied", 400, message), WHERE)
    assert len(told.error) == errors.MAX_ERROR_CHARS
    assert told.error.isprintable()


def test_an_answer_that_never_came_says_so() -> None:
    told = errors.failure_outcome(
        AwsFailure("PutRecords", errors.UNANSWERED, 0, "ConnectionClosedError"), WHERE
    )
    assert told.error == f"PutRecords on {WHERE}: Unanswered (ConnectionClosedError)"


def test_a_refused_role_names_role_and_external_id() -> None:
    arn = "arn:aws:iam::111122223333:role/mparticle-kinesis-role"
    failure = AwsFailure("AssumeRole", "AccessDenied", 403, "User: x is not authorized")
    told = errors.role_refused(failure, arn, "orgid:1111")
    assert told.error.startswith(f"cannot assume {arn} with ExternalId orgid:1111: AccessDenied; ")
    assert "trust policy" in told.error
    assert "without an ExternalId" in errors.role_refused(failure, arn, None).error


def test_a_role_is_only_waited_for_while_sts_is_down() -> None:
    failure = AwsFailure("AssumeRole", errors.UNANSWERED, 0, "EndpointConnectionError")
    told = errors.role_refused(failure, "arn:aws:iam::1:role/r", None)
    assert told.kind is OutcomeKind.TRANSIENT
    assert ";" not in told.error


def modelled() -> list[str]:
    """Return every code that the service models of the installed library know."""
    found = set()
    for service in ("kinesis", "firehose", "sts"):
        shapes = Loader().load_service_model(service, "service-2")["shapes"]
        for name, shape in shapes.items():
            if shape.get("exception"):
                found |= {name, shape.get("error", {}).get("code", name)}
    return sorted(found)


@pytest.mark.parametrize("code", modelled())
def test_every_error_of_the_service_models_is_in_the_table(code: str) -> None:
    assert errors.table_code(code) in error_codes.AWS_ERRORS


RETRIED = {
    *ThrottledRetryableChecker._THROTTLED_ERROR_CODES,  # noqa: SLF001  # the SDK's own list
    *TransientRetryableChecker._TRANSIENT_ERROR_CODES,  # noqa: SLF001  # the SDK's own list
}


@pytest.mark.parametrize("code", sorted(RETRIED))
def test_what_the_sdk_tries_again_is_tried_again(code: str) -> None:
    assert error_codes.AWS_ERRORS[errors.table_code(code)].fault in {
        AwsErrorClass.THROTTLED,
        AwsErrorClass.TRANSIENT,
    }


@pytest.mark.parametrize("failing", list(AwsErrorClass))
def test_every_class_obliges_to_something(failing: AwsErrorClass) -> None:
    action = error_codes.AWS_CLASS_ACTIONS[failing]
    assert action.kind is not OutcomeKind.DELIVERED
    assert f"| {action.words} |" in PAGE


@pytest.mark.parametrize("failing", list(AwsErrorClass))
def test_the_page_shows_the_codes_of_every_class(failing: AwsErrorClass) -> None:
    (row,) = re.findall(rf"^\| {failing.value} \|.*$", PAGE, re.MULTILINE)
    shown = set(re.findall(r"`([A-Za-z0-9]+)`", row))
    assert {code for code, rule in error_codes.AWS_ERRORS.items() if rule.fault is failing} == shown


@pytest.mark.parametrize(
    ("expected", "status", "message"),
    [
        (AwsErrorClass.THROTTLED, 200, ""),
        (AwsErrorClass.THROTTLED, 503, "Slow down."),
        (AwsErrorClass.TRANSIENT, 503, "The service is unavailable. Back off and retry."),
    ],
)
def test_firehose_has_one_code_for_throttling_and_being_away(
    expected: AwsErrorClass, status: int, message: str
) -> None:
    failure = AwsFailure("PutRecordBatch", "ServiceUnavailableException", status, message)
    assert expected is errors.aws_error_class(failure)


def test_a_busy_sts_does_not_slow_the_stream_down() -> None:
    failure = AwsFailure("AssumeRole", "Throttling", 400, "Rate exceeded")
    assert OutcomeKind.TRANSIENT is errors.failure_outcome(failure, "STS").kind
    assert OutcomeKind.TRANSIENT is errors.role_refused(failure, "arn:aws:iam::1:role/r", None).kind


def test_a_throttled_record_names_its_shard() -> None:
    message = "Rate exceeded for shard shardId-000000000007 in stream s under account 1."
    failure = AwsFailure("PutRecords", "ProvisionedThroughputExceededException", 200, message)
    assert "shardId-000000000007" == errors.failure_outcome(failure, WHERE).shard
    unnamed = AwsFailure(
        "PutRecords", "ProvisionedThroughputExceededException", 200, "Rate exceeded"
    )
    assert "" == errors.failure_outcome(unnamed, WHERE).shard


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        ("PutRecords", "allow kinesis:PutRecord, kinesis:PutRecords or both"),
        ("PutRecordBatch", "allow firehose:PutRecordBatch"),
        ("AssumeRoleWithWebIdentity", "check the role's trust policy"),
    ],
)
def test_a_remedy_speaks_of_the_operation_that_was_denied(operation: str, words: str) -> None:
    told = errors.failure_outcome(AwsFailure(operation, "AccessDeniedException", 400), WHERE)
    assert told.remedy.startswith(words)
    assert told.error.endswith(f"; {told.remedy}")


def test_a_remedy_stands_whole_behind_the_longest_message() -> None:
    message = "many words " * 100
    told = errors.failure_outcome(AwsFailure("PutRecords", "AccessDenied", 400, message), WHERE)
    assert told.error.endswith(f"…; {told.remedy}")


@pytest.mark.parametrize("words", ["Signature expired: 1 is now", "Signature not yet current: 2"])
def test_a_signature_that_is_a_matter_of_clocks_says_so(words: str) -> None:
    failure = AwsFailure("PutRecords", "InvalidSignatureException", 400, words)
    assert "check the clock of this machine" == errors.failure_outcome(failure, "stream s").remedy


def test_what_a_reply_says_can_be_stored_and_shown() -> None:
    """Half a surrogate pair is JSON; in a lane's reason it would fail every tick and /readyz."""
    failure = AwsFailure("PutRecords", "Access\ud800", 400, "not \ud800 you")
    said = [errors.failure_outcome(failure, "stream s"), errors.role_refused(failure, "arn", None)]
    assert all(one.error == one.error.encode().decode() for one in said)
    assert "not ? you" in said[0].error
    assert "Access" not in said[0].error


SECRETS = [
    "AKIAIOSFODNN7EXAMPLE",
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "FwoGZXIvYXdzEBYaDHqa0AP1wzm4Kx9DsSLBAQ",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.sig",
    "fe5f80f77d5fa3beca038a248ff027d0445342fe2855ddc963176630326f1024",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "echoed",
    [
        "{}",
        "Credential={}/20261130/eu-west-1/kinesis/aws4_request",
        "denied for Authorization: AWS4-HMAC-SHA256 Credential={}",
        "denied, X-Amz-Security-Token: {}",
        "denied, Signature={}",
        "Bearer {}",
        "token {} is not accepted",
    ],
)
def test_what_an_endpoint_echoes_is_masked_wherever_it_stands(secret: str, echoed: str) -> None:
    text = echoed.format(secret)
    failures = [
        AwsFailure("PutRecords", text, 400, "denied"),
        AwsFailure("PutRecords", "AccessDeniedException", 400, text),
        AwsFailure("PutRecords", errors.UNANSWERED, 0, text),
        AwsFailure("AssumeRole", text, 400, text),
    ]
    for failure in failures:
        told = [errors.failure_outcome(failure, WHERE), errors.role_refused(failure, "arn", None)]
        assert all(secret not in one.error + one.code + one.remedy for one in told)


@pytest.mark.parametrize(
    "code",
    ["Secret-Needle", "needle", "Needle Needle", "Needle\nNeedle", "Needle" * 20, "n:Needle"],
)
def test_a_code_that_aws_would_not_spell_so_is_not_shown(code: str) -> None:
    told = errors.failure_outcome(AwsFailure("PutRecords", code, 400), WHERE)
    assert "eedle" not in told.error
    assert "Other" == told.code
    assert "HTTP 400" in told.error


def test_a_new_code_of_aws_is_shown_and_no_label() -> None:
    told = errors.failure_outcome(AwsFailure("PutRecords", "KMSBrandNewThingException", 400), WHERE)
    assert "KMSBrandNewThing" in told.error
    assert "Other" == told.code

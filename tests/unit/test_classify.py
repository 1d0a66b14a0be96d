import pytest

from forwarder.sinks import classify
from forwarder.sinks.base import Kind
from forwarder.sinks.classify import Failure, Fault

WHERE = "stream acme in eu-west-1"


@pytest.mark.parametrize(
    ("expected", "code"),
    [
        (Fault.THROTTLED, "ProvisionedThroughputExceededException"),
        (Fault.THROTTLED, "LimitExceededException"),
        (Fault.THROTTLED, "Throttling"),
        (Fault.THROTTLED, "ThrottlingException"),
        (Fault.THROTTLED, "RequestLimitExceeded"),
        (Fault.THROTTLED, "KMSThrottlingException"),
        (Fault.TRANSIENT, "InternalFailure"),
        (Fault.TRANSIENT, "InternalFailureException"),
        (Fault.TRANSIENT, "ServiceUnavailable"),
        (Fault.TRANSIENT, "ServiceUnavailableException"),
        (Fault.TRANSIENT, classify.UNANSWERED),
        (Fault.CREDENTIALS, "ExpiredToken"),
        (Fault.CREDENTIALS, "ExpiredTokenException"),
        (Fault.CREDENTIALS, "UnrecognizedClientException"),
        (Fault.CREDENTIALS, "InvalidSignatureException"),
        (Fault.CREDENTIALS, "RequestTimeTooSkewed"),
        (Fault.CONFIGURATION, "AccessDeniedException"),
        (Fault.CONFIGURATION, "ResourceNotFoundException"),
        (Fault.CONFIGURATION, "ResourceInUseException"),
        (Fault.CONFIGURATION, "KMSAccessDeniedException"),
        (Fault.CONFIGURATION, "KMSDisabledException"),
        (Fault.CONFIGURATION, "KMSNotFoundException"),
        (Fault.CONFIGURATION, "KMSInvalidStateException"),
        (Fault.CONFIGURATION, "KMSOptInRequired"),
        (Fault.PERMANENT, "InvalidArgumentException"),
        (Fault.PERMANENT, "ValidationException"),
        (Fault.PERMANENT, "SerializationException"),
    ],
)
def test_a_code_says_what_may_be_done(expected: Fault, code: str) -> None:
    # The status of a known code does not matter: AWS denies with 400, emulators with 403.
    assert {classify.fault(Failure("PutRecords", code, s)) for s in (0, 200, 400, 403, 500)} == {
        expected
    }


@pytest.mark.parametrize(
    ("expected", "status"),
    [
        (Fault.TRANSIENT, 0),
        (Fault.TRANSIENT, 200),
        (Fault.TRANSIENT, 408),
        (Fault.TRANSIENT, 429),
        (Fault.TRANSIENT, 500),
        (Fault.TRANSIENT, 502),
        (Fault.TRANSIENT, 503),
        (Fault.CONFIGURATION, 400),
        (Fault.CONFIGURATION, 403),
        (Fault.CONFIGURATION, 404),
        (Fault.PERMANENT, 413),
    ],
)
def test_an_unknown_code_is_judged_by_its_status(expected: Fault, status: int) -> None:
    assert classify.fault(Failure("PutRecord", "NewThing", status)) is expected
    assert classify.fault(Failure("PutRecord", "", status)) is expected


def test_a_role_that_is_invalid_never_costs_a_record() -> None:
    assert classify.fault(Failure("AssumeRole", "ValidationError", 400)) is Fault.CONFIGURATION


@pytest.mark.parametrize(
    ("expected", "code"),
    [
        (Kind.THROTTLED, "ThrottlingException"),
        (Kind.TRANSIENT, "InternalFailure"),
        (Kind.CONFIGURATION, "ExpiredTokenException"),
        (Kind.CONFIGURATION, "AccessDeniedException"),
        (Kind.REFUSED, "ValidationException"),
    ],
)
def test_each_fault_is_an_answer_for_delivery(expected: Kind, code: str) -> None:
    assert classify.outcome(Failure("PutRecords", code, 400), WHERE).kind is expected


def test_labels_are_bounded() -> None:
    assert classify.label("AccessDeniedException") == "AccessDenied"
    assert classify.label("AccessDenied") == "AccessDenied"
    assert classify.label("tenant-4711-Exception") == "Other"
    assert classify.label("") == "Other"


@pytest.mark.parametrize("code", sorted(classify.FAULTS))
def test_what_a_person_must_mend_says_how(code: str) -> None:
    told = classify.outcome(Failure("PutRecords", code, 400), WHERE)
    assert (told.kind is Kind.CONFIGURATION) == ("; " in told.error)
    assert told.error.startswith(f"PutRecords on {WHERE}: {code}")


def test_who_was_denied_what_is_quoted() -> None:
    message = "User: arn:aws:sts::1:assumed-role/r is not authorized to perform: kinesis:PutRecord"
    told = classify.outcome(Failure("PutRecord", "AccessDeniedException", 400, message), WHERE)
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
    assert "needle" not in classify.outcome(Failure("PutRecords", code, 400, message), WHERE).error


def test_a_text_is_one_bounded_line() -> None:
    message = "many words " * 100 + "\r\n\x0b and lines"
    told = classify.outcome(Failure("PutRecords", "AccessDenied", 400, message), WHERE)
    assert len(told.error) == classify.LONGEST_ERROR
    assert told.error.isprintable()


def test_an_answer_that_never_came_says_so() -> None:
    told = classify.outcome(
        Failure("PutRecords", classify.UNANSWERED, 0, "ConnectionClosedError"), WHERE
    )
    assert told.error == f"PutRecords on {WHERE}: Unanswered (ConnectionClosedError)"


def test_a_refused_role_names_role_and_external_id() -> None:
    arn = "arn:aws:iam::111122223333:role/mparticle-kinesis-role"
    failure = Failure("AssumeRole", "AccessDenied", 403, "User: x is not authorized")
    told = classify.role_refused(failure, arn, "orgid:1111")
    assert told.error.startswith(f"cannot assume {arn} with ExternalId orgid:1111: AccessDenied; ")
    assert "trust policy" in told.error
    assert "without an ExternalId" in classify.role_refused(failure, arn, None).error


def test_a_role_is_only_waited_for_while_sts_is_down() -> None:
    failure = Failure("AssumeRole", classify.UNANSWERED, 0, "EndpointConnectionError")
    told = classify.role_refused(failure, "arn:aws:iam::1:role/r", None)
    assert told.kind is Kind.TRANSIENT
    assert ";" not in told.error


def test_every_remedy_is_for_a_known_code() -> None:
    assert set(classify.REMEDIES) - set(classify.FAULTS) == set()

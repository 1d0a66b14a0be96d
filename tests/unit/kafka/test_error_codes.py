"""Every error of Kafka and of its client has its class, and what somebody can mend its remedy."""

import inspect
import ssl
from collections.abc import Iterator

import pytest
from aiokafka import errors
from aiokafka.client import AIOKafkaClient

from forwarder.errors import FencedError, JournalError
from forwarder.kafka import client as kafka_client
from forwarder.kafka import error_codes
from forwarder.kafka.error_codes import (
    ACTIONS,
    LATER,
    TABLE,
    ErrorContext,
    KafkaErrorClass,
    error_class,
    remedy,
)
from forwarder.kafka.patches.batches import DamagedBatchError

DERIVED = {DamagedBatchError}
"""What is raised in the client's place, and has the row of what it is."""

OURS = {OSError, TimeoutError, AssertionError}
PLACE = ErrorContext("raw-events", "Write", "forwarder")


def below(kind: type[BaseException]) -> Iterator[type[BaseException]]:
    for one in kind.__subclasses__():
        yield one
        yield from below(one)


def test_every_error_of_the_client_has_its_row_and_there_is_no_other() -> None:
    known = {value for value in vars(errors).values() if isinstance(value, type)}
    listed: set[type[BaseException]] = {one for one in known if issubclass(one, Exception)}
    listed |= {errors.KafkaError, *below(errors.KafkaError)} - DERIVED
    assert listed == {kind for kind in TABLE if not issubclass(kind, OSError) and kind not in OURS}


@pytest.mark.parametrize("code", sorted(errors.kafka_errors))
def test_every_code_of_a_broker_has_its_row(code: int) -> None:
    kind = errors.for_code(code)
    assert code == kind.errno
    assert kind in TABLE


def test_a_client_that_knows_no_broker_is_told_to_look_for_them() -> None:
    assert error_codes.NO_NODE in inspect.getsource(AIOKafkaClient)
    error = AssertionError(error_codes.NO_NODE)
    assert KafkaErrorClass.TRANSIENT is error_class(error)
    assert "kafka.bootstrap_servers" in remedy(error, PLACE)


def test_later_codes_are_no_unknown_ones() -> None:
    assert list(LATER) == [errors.for_code(kind.errno) for kind in LATER]


def test_what_an_operator_has_to_mend_says_how() -> None:
    without = {kind.__name__ for kind, rule in TABLE.items() if not rule.remedy}
    assert not [
        kind
        for kind, rule in TABLE.items()
        if rule.fault is KafkaErrorClass.OPERATOR and kind.__name__ in without
    ]
    assert set(KafkaErrorClass) == set(ACTIONS)


@pytest.mark.parametrize("kind", TABLE, ids=lambda kind: kind.__name__)
def test_every_remedy_can_be_said_of_a_place_and_of_none(kind: type[BaseException]) -> None:
    error = kind.__new__(kind)
    for place in (PLACE, ErrorContext()):
        assert "{" not in remedy(error, place)


NAMED = [
    (errors.TopicAuthorizationFailedError("t"), "grant Write on topic t to"),
    (errors.TopicAuthorizationFailedError({"b", "a"}), "grant Write on topic a, b to"),
    (errors.TopicAuthorizationFailedError(), "grant Write on topic raw-events to"),
    (errors.GroupAuthorizationFailedError("g"), "grant Read on group g to"),
    (errors.GroupAuthorizationFailedError(), "grant Read on group forwarder to"),
    (errors.TransactionalIdAuthorizationFailed("x"), "transactional ids of group forwarder"),
    (errors.ClusterAuthorizationFailedError(), "grant IdempotentWrite on the cluster"),
    (errors.InvalidTimestampError(), "set the clock of this machine"),
    (errors.InvalidTransactionTimeout(), "transaction.max.timeout.ms of the brokers to 45000"),
    (errors.MessageSizeTooLargeError(), "set max.message.bytes of topic raw-events"),
    (errors.NotEnoughReplicasError(), "replicas of topic raw-events are in sync"),
    (errors.SaslAuthenticationFailed(), "check kafka.security"),
    (ssl.SSLCertVerificationError(), "check kafka.security.ca_file"),
    (ssl.SSLError(), "check kafka.security.protocol"),
    (ConnectionRefusedError(), "check kafka.bootstrap_servers"),
]


@pytest.mark.parametrize(("error", "text"), NAMED)
def test_the_remedy_names_the_right_the_topic_or_the_setting(
    error: BaseException, text: str
) -> None:
    assert text in remedy(error, PLACE)


def test_what_the_client_wraps_is_judged_by_what_it_was() -> None:
    wrapped = errors.KafkaError(repr(errors.InvalidSessionTimeoutError()))
    assert KafkaErrorClass.OPERATOR is error_class(wrapped)
    assert "kafka.session_timeout" in remedy(wrapped, PLACE)
    text = "Unexpected error in join group 'g' response: FencedInstanceId"
    assert "group_instance_id" in remedy(errors.KafkaError(text), PLACE)
    caused = errors.KafkaError("Unexpected error during batch delivery")
    caused.__cause__ = errors.InvalidTimestampError()
    assert "clock" in remedy(caused, PLACE)
    assert KafkaErrorClass.TRANSIENT is error_class(errors.KafkaError("whatever"))


def test_what_nobody_knows_is_fatal() -> None:
    assert KafkaErrorClass.FATAL is error_class(RuntimeError())


def test_an_error_of_the_program_says_what_why_and_what_to_do() -> None:
    cause = errors.TopicAuthorizationFailedError("t")
    error = kafka_client.client_error(JournalError, "g/t/0", cause, PLACE)
    assert "g/t/0: [Error 29] TopicAuthorizationFailedError: t" == error.what
    assert f"{error.what}; {error.remedy}" == str(error)
    assert error.lasting
    assert not kafka_client.client_error(FencedError, "x", errors.ProducerFenced()).lasting
    assert not kafka_client.client_error(JournalError, "x", errors.NotEnoughReplicasError()).lasting


def test_the_page_lists_every_class() -> None:
    assert {one.value for one in KafkaErrorClass} == {
        "transient",
        "fenced",
        "operator",
        "data",
        "fatal",
    }
    assert error_codes.__doc__

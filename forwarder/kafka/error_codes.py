"""What Kafka and its client answer, and what is done about it: one table, error -> class -> remedy.

The numbered ones are Kafka's own codes (https://kafka.apache.org/protocol#protocol_error_codes) as
aiokafka names them, and those of the later ones that a worker may meet, which it takes for unknown;
the others are the client's. A test holds the table against all of both.
docs/runbook.md shows to people what they can do.
"""

import re
import socket
import ssl
from enum import Enum

import msgspec
from aiokafka import errors as kafka


class KafkaErrorClass(Enum):
    """The classes of errors; ``ACTIONS`` says what each obliges to."""

    TRANSIENT = "transient"
    FENCED = "fenced"
    OPERATOR = "operator"
    DATA = "data"
    FATAL = "fatal"


ACTIONS = {
    KafkaErrorClass.TRANSIENT: "try again after a backoff; the remedy is for one that lasts",
    KafkaErrorClass.FENCED: "drop the partition; open it again once the group confirms who owns it",
    KafkaErrorClass.OPERATOR: "go on trying, and say what to mend: it lasts until somebody has",
    KafkaErrorClass.DATA: "stop what it concerns alone, and name it",
    KafkaErrorClass.FATAL: "drop the client and begin anew: it and the brokers do not agree",
}


class ErrorContext(msgspec.Struct, frozen=True):
    """What was asked of what, for the words of a remedy; empty where that is not known."""

    topic: str = ""
    operation: str = ""
    group: str = ""


class KafkaErrorRule(msgspec.Struct, frozen=True):
    """One row: the class of an error and, where somebody can act, what to do.

    ``{topic}``, ``{operation}`` and ``{group}`` are those of the place.
    """

    fault: KafkaErrorClass
    remedy: str = ""


Errors = dict[type[BaseException], KafkaErrorRule]


class GroupMaxSizeReached(kafka.BrokerResponseError):  # type: ignore[misc]  # no types are shipped
    """The group has as many members as it may."""

    errno, message = 81, "GROUP_MAX_SIZE_REACHED"


class FencedInstanceId(kafka.BrokerResponseError):  # type: ignore[misc]  # as above
    """Another member has joined with the same ``group.instance.id``."""

    errno, message = 82, "FENCED_INSTANCE_ID"


class InvalidRecord(kafka.BrokerResponseError):  # type: ignore[misc]  # as above
    """A record breaks a rule of its topic, such as a missing key where it is compacted."""

    errno, message = 87, "INVALID_RECORD"


class NewerProducer(kafka.BrokerResponseError):  # type: ignore[misc]  # as above
    """Another producer has taken the transactional id over (``PRODUCER_FENCED``)."""

    errno, message = 90, "PRODUCER_FENCED"


class TransactionAbortable(kafka.BrokerResponseError):  # type: ignore[misc]  # as above
    """The broker asks for the transaction to be aborted; the producer may go on then."""

    errno, message = 120, "TRANSACTION_ABORTABLE"


LATER = (GroupMaxSizeReached, FencedInstanceId, InvalidRecord, NewerProducer, TransactionAbortable)
for _later in LATER:
    kafka.kafka_errors.setdefault(_later.errno, _later)

_RIGHTS = "to the principal that this process logs in as"
_BROKERS = "start the brokers that are down, and see their logs"
_VERSION = "use brokers of Kafka 2.5 or later, or set what stands between them and the worker right"
_SIZE = (
    "set max.message.bytes of {topic} to what docs/commands.md lists (16777216 for the topics of "
    "the journal)"
)
_CLOCK = (
    "set the clock of this machine: brokers take no record whose time is further from theirs than "
    "message.timestamp.after.max.ms and message.timestamp.before.max.ms of {topic}"
)
_LOGIN = (
    "check kafka.security: mechanism, username and password, and that the brokers know that user"
)
_LISTENER = (
    "check kafka.security.protocol and kafka.security.mechanism against the listener behind the "
    "port in kafka.bootstrap_servers"
)
_ALONE = "give the worker a kafka.group_id that no other program uses"
_TOPIC = "create the topic by hand, as docs/commands.md lists it, or mend what the brokers say"
_TOKEN = "renew the delegation token, or log in with a user and a password"  # noqa: S105  # advice


def _rules(fault: KafkaErrorClass, *errors: type[BaseException], remedy: str = "") -> Errors:
    return dict.fromkeys(errors, KafkaErrorRule(fault, remedy))


TABLE: Errors = {
    **_rules(
        KafkaErrorClass.TRANSIENT,
        kafka.NoError,
        kafka.Cancelled,
        kafka.CommitFailedError,
        kafka.ConsumerStoppedError,
        kafka.CorrelationIdError,
        kafka.DuplicateSequenceNumber,
        kafka.FetchSessionIdNotFound,
        kafka.GroupIdNotFound,
        kafka.IllegalGenerationError,
        kafka.InvalidFetchSessionEpoch,
        kafka.KafkaError,
        kafka.KafkaProtocolError,
        kafka.MemberIdRequired,
        kafka.NotControllerError,
        kafka.NotLeaderForPartitionError,
        kafka.OperationNotAttempted,
        kafka.OutOfOrderSequenceNumber,
        kafka.ProducerClosed,
        kafka.ReassignmentInProgress,
        kafka.RebalanceInProgressError,
        kafka.StaleControllerEpochError,
        kafka.StaleLeaderEpochCodeError,
        kafka.StaleMetadata,
        kafka.TooManyInFlightRequests,
        kafka.TopicAlreadyExistsError,
        kafka.TransactionCoordinatorFenced,
        kafka.UnknownMemberIdError,
        kafka.QuotaViolationError,
        TransactionAbortable,
    ),
    **_rules(
        KafkaErrorClass.TRANSIENT,
        kafka.BrokerNotAvailableError,
        kafka.GroupCoordinatorNotAvailableError,
        kafka.GroupLoadInProgressError,
        kafka.KafkaTimeoutError,
        kafka.KafkaUnavailableError,
        kafka.LeaderNotAvailableError,
        kafka.MetadataEmptyBrokerList,
        kafka.NotCoordinatorForGroupError,
        kafka.ReplicaNotAvailableError,
        kafka.RequestTimedOutError,
        TimeoutError,
        remedy=_BROKERS,
    ),
    **_rules(
        KafkaErrorClass.TRANSIENT,
        kafka.KafkaConnectionError,
        kafka.NoBrokersAvailable,
        kafka.NodeNotReadyError,
        OSError,
        remedy="check kafka.bootstrap_servers and kafka.security.protocol, the network, and that "
        "the brokers run",
    ),
    **_rules(
        KafkaErrorClass.TRANSIENT,
        kafka.UnknownTopicOrPartitionError,
        AssertionError,  # the client's, about a partition that its metadata does not have
        remedy="create {topic}, or grant Describe on it " + _RIGHTS,
    ),
    **_rules(
        KafkaErrorClass.TRANSIENT,
        kafka.NotEnoughReplicasError,
        kafka.NotEnoughReplicasAfterAppendError,
        remedy="fewer replicas of {topic} are in sync than its min.insync.replicas: start the "
        "brokers that hold the others, or lower it to fewer than the topic has replicas",
    ),
    **_rules(
        KafkaErrorClass.TRANSIENT,
        kafka.ConcurrentTransactions,
        remedy="the end of the transaction before cannot be written: start the brokers that are "
        "down, and see that every topic has the replicas in sync that min.insync.replicas asks for",
    ),
    **_rules(
        KafkaErrorClass.TRANSIENT,
        kafka.CorruptRecordException,
        kafka.KafkaStorageError,
        kafka.UnknownError,
        remedy="see the log of the broker that leads the partition, and its disks",
    ),
    **_rules(
        KafkaErrorClass.FENCED,
        kafka.InvalidProducerEpoch,
        kafka.InvalidProducerIdMapping,
        kafka.InvalidTxnState,
        NewerProducer,
        kafka.ProducerFenced,
        kafka.UnknownProducerId,
    ),
    **_rules(
        KafkaErrorClass.OPERATOR,
        kafka.TopicAuthorizationFailedError,
        remedy="grant {operation} on {topic} " + _RIGHTS,
    ),
    **_rules(
        KafkaErrorClass.OPERATOR,
        kafka.GroupAuthorizationFailedError,
        remedy="grant Read on {group} " + _RIGHTS,
    ),
    **_rules(
        KafkaErrorClass.OPERATOR,
        kafka.TransactionalIdAuthorizationFailed,
        remedy="grant Describe and Write on the transactional ids of {group} (prefixed) " + _RIGHTS,
    ),
    **_rules(
        KafkaErrorClass.OPERATOR,
        kafka.ClusterAuthorizationFailedError,
        remedy="grant IdempotentWrite on the cluster " + _RIGHTS,
    ),
    **_rules(
        KafkaErrorClass.OPERATOR,
        kafka.AuthenticationFailedError,
        kafka.SaslAuthenticationFailed,
        remedy=_LOGIN,
    ),
    **_rules(
        KafkaErrorClass.OPERATOR,
        kafka.AuthenticationMethodNotSupported,
        kafka.IllegalSaslStateError,
        kafka.ListenerNotFound,
        kafka.UnsupportedSaslMechanismError,
        ssl.SSLError,
        remedy=_LISTENER,
    ),
    **_rules(
        KafkaErrorClass.OPERATOR,
        ssl.SSLCertVerificationError,
        remedy="check kafka.security.ca_file: it has to hold the authority that signed the "
        "brokers' certificates, and kafka.bootstrap_servers the names that stand in them",
    ),
    **_rules(
        KafkaErrorClass.OPERATOR,
        socket.gaierror,
        remedy="check the names in kafka.bootstrap_servers, and this machine's name service",
    ),
    **_rules(
        KafkaErrorClass.OPERATOR,
        kafka.DelegationTokenAuthDisabled,
        kafka.DelegationTokenAuthorizationFailed,
        kafka.DelegationTokenExpired,
        kafka.DelegationTokenNotFound,
        kafka.DelegationTokenOwnerMismatch,
        kafka.DelegationTokenRequestNotAllowed,
        kafka.InvalidPrincipalType,
        remedy=_TOKEN,
    ),
    **_rules(
        KafkaErrorClass.OPERATOR,
        kafka.SecurityDisabled,
        remedy="the brokers have no authorizer: set authorizer.class.name on them",
    ),
    **_rules(KafkaErrorClass.OPERATOR, kafka.InvalidTimestampError, remedy=_CLOCK),
    **_rules(
        KafkaErrorClass.OPERATOR,
        kafka.InvalidTransactionTimeout,
        remedy="set transaction.max.timeout.ms of the brokers to 45000 or more",
    ),
    **_rules(
        KafkaErrorClass.OPERATOR,
        kafka.MessageSizeTooLargeError,
        kafka.RecordListTooLargeError,
        remedy=_SIZE,
    ),
    **_rules(
        KafkaErrorClass.OPERATOR,
        kafka.InvalidCommitOffsetSizeError,
        kafka.OffsetMetadataTooLargeError,
        remedy="set offset.metadata.max.bytes of the brokers to 4096 or more",
    ),
    **_rules(
        KafkaErrorClass.OPERATOR,
        kafka.InvalidSessionTimeoutError,
        remedy="set kafka.session_timeout between group.min.session.timeout.ms and "
        "group.max.session.timeout.ms of the brokers",
    ),
    **_rules(
        KafkaErrorClass.OPERATOR,
        kafka.InconsistentGroupProtocolError,
        kafka.InvalidGroupIdError,
        kafka.NonEmptyGroup,
        remedy=_ALONE,
    ),
    **_rules(
        KafkaErrorClass.OPERATOR,
        kafka.InvalidConfigurationError,
        kafka.InvalidPartitionsError,
        kafka.InvalidReplicationAssignmentError,
        kafka.InvalidReplicationFactorError,
        kafka.InvalidTopicError,
        kafka.PolicyViolationError,
        remedy=_TOPIC,
    ),
    **_rules(
        KafkaErrorClass.OPERATOR,
        kafka.IncompatibleBrokerVersion,
        kafka.UnrecognizedBrokerVersion,
        kafka.UnsupportedVersionError,
        remedy=_VERSION,
    ),
    **_rules(
        KafkaErrorClass.OPERATOR,
        kafka.UnsupportedForMessageFormatError,
        remedy="convert {topic} to message format 2 (log.message.format.version of 0.11 or later)",
    ),
    **_rules(
        KafkaErrorClass.OPERATOR,
        GroupMaxSizeReached,
        remedy="raise group.max.size of the brokers, or run fewer workers",
    ),
    **_rules(
        KafkaErrorClass.OPERATOR,
        FencedInstanceId,
        remedy="two workers that live share one kafka.group_instance_id: give every worker its own",
    ),
    **_rules(
        KafkaErrorClass.OPERATOR,
        InvalidRecord,
        remedy="set cleanup.policy of {topic} to delete: a compacted topic takes no record without "
        "a key",
    ),
    **_rules(
        KafkaErrorClass.OPERATOR,
        kafka.LogDirNotFound,
        remedy="see the log directories of the brokers",
    ),
    **_rules(
        KafkaErrorClass.DATA,
        kafka.NoOffsetForPartitionError,
        kafka.OffsetOutOfRangeError,
        kafka.RecordTooLargeError,
        kafka.UnsupportedCodecError,
    ),
    **_rules(
        KafkaErrorClass.FATAL,
        kafka.BrokerResponseError,
        kafka.IllegalArgumentError,
        kafka.IllegalOperation,
        kafka.IllegalStateError,
        kafka.InvalidFetchRequestError,
        kafka.InvalidRequestError,
        kafka.InvalidRequiredAcksError,
        kafka.KafkaConfigurationError,
        remedy="report this with the worker's log: the client and the brokers do not agree",
    ),
}


_BY_NAME = {kind.__name__: kind for kind in TABLE if kind is not kafka.KafkaError}
_NAME = re.compile(r"[A-Za-z]+")

NO_NODE = "Did we not perform bootstrap?"
"""What the client asserts where its metadata names no broker: of one that has just come back."""


def rule_for(error: BaseException) -> KafkaErrorRule:
    """Return the row of an error, or of the nearest class above it that has one."""
    if type(error) is kafka.KafkaError:
        # The client wraps what it did not expect: what it was stands in the cause or in the text.
        if isinstance(error.__cause__, kafka.KafkaError | OSError):
            return rule_for(error.__cause__)
        names = [name for name in _NAME.findall(str(error)) if name in _BY_NAME]
        return TABLE[_BY_NAME[names[0]] if names else kafka.KafkaError]
    if isinstance(error, AssertionError) and NO_NODE in str(error):
        return TABLE[kafka.NoBrokersAvailable]
    return next(
        (TABLE[kind] for kind in type(error).__mro__ if kind in TABLE),
        KafkaErrorRule(KafkaErrorClass.FATAL),
    )


def error_class(error: BaseException) -> KafkaErrorClass:
    """Return the class of an error."""
    return rule_for(error).fault


def remedy(error: BaseException, place: ErrorContext) -> str:
    """Return what an operator can do about an error; what the place does not say is left open."""
    topic = _named(error, kafka.TopicAuthorizationFailedError) or place.topic
    group = _named(error, kafka.GroupAuthorizationFailedError) or place.group
    return rule_for(error).remedy.format(
        operation=place.operation or "Describe, Read and Write",
        topic=f"topic {topic}" if topic else "the topic",
        group=f"group {group}" if group else "the group",
    )


def unknown_topic_remedy(topic: str) -> str:
    """Return what an operator can do about a topic that Kafka does not show."""
    return remedy(kafka.UnknownTopicOrPartitionError(), ErrorContext(topic, "Describe"))


def too_small_remedy(topic: str) -> str:
    """Return what an operator can do about a topic that takes no message large enough."""
    return remedy(kafka.MessageSizeTooLargeError(), ErrorContext(topic))


def replicas_remedy(topic: str) -> str:
    """Return what an operator can do about a topic of which too few replicas are in sync."""
    return remedy(kafka.NotEnoughReplicasError(), ErrorContext(topic))


def _named(error: BaseException, kind: type[BaseException]) -> str:
    """Return what an error of this kind says that it is about: a text, or a set of them."""
    said = error.args[0] if isinstance(error, kind) and error.args else ()
    names = {said} if isinstance(said, str) else said
    return ", ".join(sorted(map(str, names))) if isinstance(names, set | frozenset) else ""

"""The one contract for what a gateway reports: ``GatewayReporter``; see ``ops.reporter``."""

from enum import StrEnum


class EventOutcome(StrEnum):
    """What became of an event that a request held."""

    ACCEPTED = "accepted"
    """Kafka has it."""
    INVALID = "invalid"
    """It breaks a rule of the API, or a limit."""
    TOO_LARGE = "too_large"
    """It fits into no record of the topic."""
    FULL = "full"
    """``limits.buffered_bytes`` was reached."""
    UNAVAILABLE = "unavailable"
    """Kafka did not take it in time."""
    STORE = "store"
    """The endpoint store did not answer."""


class StoreCall(StrEnum):
    """What is asked of the endpoint store."""

    MERGE = "merge"
    READ = "read"
    DELETE = "delete"
    READ_USER = "read_user"
    DELETE_USER = "delete_user"


class GatewayReporter:
    """What is reported. Every method may be left as it is: then that is not shown.

    All calls come from the gateway's event loop. None may wait, raise, or have an effect.
    """

    def events(self, app: str, outcome: EventOutcome, count: int) -> None:
        """Count events of a request once it is answered; ``app``: a configured one, or an input's.

        Caller: the APIs.
        """

    def endpoints(self, app: str, *, accepted: int, refused: int) -> None:
        """Count updates of endpoints. Caller: the Pinpoint API."""

    def appended(self, topic: str, records: int, size: int, seconds: float) -> None:
        """Count a batch that Kafka has, and how long that took. Caller: the producer."""

    def producer_failed(self, reason: str, remedy: str) -> None:
        """Note why Kafka takes nothing, or one partition of it. Caller: the producer."""

    def producer_started(self) -> None:
        """Note that Kafka takes records again. Caller: the producer."""

    def store_answered(self, call: StoreCall, seconds: float) -> None:
        """Count a call that the endpoint store answered. Caller: the store."""

    def store_failed(self, call: StoreCall, reason: str, remedy: str) -> None:
        """Note why the endpoint store did not answer. Caller: the store."""

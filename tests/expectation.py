"""What has to come out of Kafka records that were really sent, as the settings say."""

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Protocol

from forwarder.connection import BatchMode, Connection
from tests import oracle
from tests.builders import Rec
from tests.conservation import Letter, Wanted

LATER = 2**52
"""A wall clock after every record."""


class Sent(Protocol):
    """A record of the input as Kafka accepted it."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp_ms(self) -> int: ...
    @property
    def value(self) -> bytes | None: ...


def wanted(sent: Iterable[Sent], connections: Sequence[Connection]) -> dict[str, list[Wanted]]:
    """Return the events each connection has to forward, in the order of the input."""
    found: dict[str, list[Wanted]] = {connection.name: [] for connection in connections}
    for one in sorted(sent, key=attrgetter("topic", "partition", "offset")):
        seen = oracle.read([Rec(one.offset, one.timestamp_ms, one.value)], LATER)[0]
        for upload in seen:
            for connection in connections:
                found[connection.name] += _of_upload(one, upload, connection)
    return found


def _of_upload(one: Sent, seen: oracle.Seen, connection: Connection) -> list[Wanted]:
    if not oracle.matches(seen.content, connection):
        return []
    device = (one.topic, one.partition, *oracle.device(seen))
    by_session = connection.settings.mode is BatchMode.SESSION
    return [
        Wanted(
            (*device, session(event)) if by_session else device,
            identify(event),
            oracle.governed(event, connection.settings),
        )
        for event in seen.events
        if oracle.wanted(event, connection.settings)
    ]


def session(event: Mapping[str, Any]) -> str:
    """Return the name of the session an event belongs to, empty for none."""
    name = event["data"].get("session_uuid") or event["data"].get("session_id") or ""
    return name.text if isinstance(name, oracle.Number) else str(name)


def identify(event: Mapping[str, Any]) -> str:
    """Return the id that the traffic gave an event."""
    return str(event["data"]["source_message_id"])


def letters(sent: Iterable[Sent], reasons: Mapping[bytes, str]) -> list[Letter]:
    """Return the dead letters of the records that are no uploads; ``reasons`` by their value."""
    return [
        Letter(reasons[one.value], one.topic, one.partition, one.offset, "", one.value)
        for one in sent
        if one.value is not None and one.value in reasons
    ]

"""What has to come out of Kafka records that were really sent, as the settings say."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
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


class Contexts:
    """Judges the documents of a lane in batch mode: whose context each of them has to carry."""

    def __init__(self, sent: Iterable[Sent], connection: Connection) -> None:
        self._settings = connection.settings
        self._uploads: dict[Hashable, list[oracle.Seen]] = {}
        self._at: dict[str, tuple[Hashable, int]] = {}
        for one in sorted(sent, key=attrgetter("topic", "partition", "offset")):
            for seen in oracle.read([Rec(one.offset, one.timestamp_ms, one.value)], LATER)[0]:
                if oracle.matches(seen.content, connection):
                    self._take((one.topic, one.partition, *oracle.device(seen)), seen)

    def _take(self, device: Hashable, seen: oracle.Seen) -> None:
        uploads = self._uploads.setdefault(device, [])
        for event in seen.events:
            self._at[identify(event)] = (device, len(uploads))
        uploads.append(seen)

    def explains(self, names: Sequence[str], document: Mapping[str, Any]) -> bool:
        """Tell whether a document of these events says what their uploads say.

        Uploads that put no event into the window may have been merged too, if they came between
        its last event and its end: both is right, since nothing says when a window ends.
        """
        device, first = self._at[names[0]]
        _, last = self._at[names[-1]]
        uploads = self._uploads[device]
        pile = oracle.Pile(0)
        for seen in uploads[first : last + 1]:
            pile.learn(seen)
        found = _context(document)
        while _context(oracle.content(pile, self._settings)) != found:
            last += 1
            if last == len(uploads) or self._opens(uploads[last]):
                return False
            pile.learn(uploads[last])
        return True

    def _opens(self, seen: oracle.Seen) -> bool:
        return any(oracle.wanted(event, self._settings) for event in seen.events)


def _context(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document without its events and what is derived."""
    derived = {"events", "message_id", "batch_id"}
    return {key: value for key, value in document.items() if key not in derived}


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

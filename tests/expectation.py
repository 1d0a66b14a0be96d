"""What has to come out of Kafka records that were really sent, as the settings say."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from forwarder.config.connection import BatchMode, Connection, Settings
from tests import oracle
from tests.builders import Rec
from tests.conservation import Letter, Wanted, mark

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


Told = Callable[[int], Sequence[Connection | None]]
"""Tells what may have governed a record of this offset; None: the lane was not there."""


Marks = dict[tuple[int, bool, bool], bytes]
"""The marks of one upload's events as settings have them forwarded, by the object."""


class Lane:
    """What one lane has to forward of one partition, whose records are told in order."""

    def __init__(self, told: Told, modes: set[BatchMode]) -> None:
        """Begin; ``modes`` are all the batch modes it ever had."""
        self.wanted: list[Wanted] = []
        self._told = told
        self._by_session = modes == {BatchMode.SESSION}
        self._in_rows = BatchMode.SESSION in modes

    def take(self, one: Sent, seen: oracle.Seen, marks: Marks | None = None) -> None:
        """Add an upload; ``marks`` are shared by the lanes that are told of it."""
        marks = {} if marks is None else marks
        told = self._told(one.offset)
        choices = [c for c in told if c is not None and oracle.matches(seen.content, c)]
        owner = (one.topic, one.partition, *oracle.owner(seen))
        for event in seen.events if choices else ():
            keen = [c.settings for c in choices if oracle.wanted(event, c.settings)]
            if keen:
                row = (*owner, oracle.session(event)) if self._in_rows else owner
                self.wanted.append(
                    Wanted(
                        row if self._by_session else owner,
                        identify(event),
                        _mark(event, keen[0], marks),
                        row,
                        optional=len(keen) < len(told),
                    )
                )


def _mark(event: dict[str, Any], settings: Settings, marks: Marks) -> bytes:
    known = (id(event), settings.include_location_information, settings.int64_as_string)
    if known not in marks:
        marks[known] = mark(oracle.governed(event, settings))
    return marks[known]


def uploads(one: Sent) -> list[oracle.Seen]:
    """Return the uploads of a record; none of one that is not made of uploads."""
    return oracle.read([Rec(one.offset, one.timestamp_ms, one.value)], LATER)[0]


class _Told(NamedTuple):
    """What a document may take from one upload; ``opens``: an event of it is forwarded."""

    seen: oracle.Seen
    opens: bool


class Contexts:
    """Judges the documents of a lane in batch mode: whose context each of them has to carry."""

    def __init__(self, connection: Connection) -> None:
        """Begin without uploads."""
        self._connection = connection
        self._settings = connection.settings
        self._uploads: dict[Hashable, list[_Told]] = {}
        self._at: dict[str, tuple[Hashable, int]] = {}

    def take(self, one: Sent, seen: oracle.Seen) -> None:
        """Add an upload; those of an owner come in the order of the input."""
        if not oracle.matches(seen.content, self._connection):
            return
        owner = (one.topic, one.partition, *oracle.owner(seen))
        told = self._uploads.setdefault(owner, [])
        for event in seen.events:
            self._at[identify(event)] = (owner, len(told))
        opens = any(oracle.wanted(event, self._settings) for event in seen.events)
        # An hour's events would not fit into memory, and their context is all that is asked for.
        content = {key: value for key, value in seen.content.items() if key != "events"}
        told.append(
            _Told(oracle.Seen(seen.offset, seen.first, seen.time, seen.clock, content, []), opens)
        )

    def explains(self, names: Sequence[str], document: Mapping[str, Any]) -> bool:
        """Tell whether a document of these events says what their uploads say.

        Uploads that put no event into the window may have been merged too, if they came between
        its last event and its end: both is right, since nothing says when a window ends.
        """
        owner, first = self._at[names[0]]
        _, last = self._at[names[-1]]
        told = self._uploads[owner]
        pile = oracle.Pile(0)
        for seen, _ in told[first : last + 1]:
            pile.learn(seen)
        found = _context(document)
        while _context(oracle.content(pile, self._settings)) != found:
            last += 1
            if last == len(told) or told[last].opens:
                return False
            pile.learn(told[last].seen)
        return True


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

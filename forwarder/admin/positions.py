"""How operators name a point in the log: a time, or a place in it."""

import re
from datetime import UTC, datetime
from typing import NamedTuple

from forwarder.errors import ConfigurationError
from forwarder.model import Address, Partition

_PLACE = re.compile(r"(?:([a-zA-Z0-9._-]{1,249})/)?([0-9]{1,9}):([0-9]{1,15})(?:\.([0-9]{1,9}))?")
_MILLISECONDS = re.compile(r"[0-9]{10,15}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

WANTED = (
    "a time with its zone (2026-01-31T12:00:00Z), milliseconds since the epoch, or places as "
    "[TOPIC/]PARTITION:OFFSET[.INDEX],…"
)


class OutboxPlace(NamedTuple):
    """An address in the outbox of one partition; no topic: whichever there is only one of."""

    topic: str | None
    number: int
    address: Address

    def of(self, partition: Partition) -> bool:
        """Tell whether this is a place of that partition."""
        return self.number == partition.number and self.topic in {None, partition.topic}


class RangeEdge(NamedTuple):
    """One end of a stretch of the outbox: a time, or places in some partitions."""

    time_ms: int | None
    places: tuple[OutboxPlace, ...]

    def place(self, partition: Partition) -> Address | None:
        """Return the address given for a partition."""
        return next((place.address for place in self.places if place.of(partition)), None)


def parse_edge(text: str, option: str) -> RangeEdge:
    """Read an end of a stretch; raises ConfigurationError with what is accepted."""
    if _MILLISECONDS.fullmatch(text):
        return RangeEdge(int(text), ())
    found = [_PLACE.fullmatch(part) for part in text.split(",")]
    if all(found):
        return RangeEdge(None, tuple(_place(match) for match in found if match))
    return RangeEdge(parse_time(text, option, WANTED), ())


def parse_time(text: str, option: str, wanted: str) -> int:
    """Return an ISO 8601 time in milliseconds since the epoch; raises ConfigurationError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        complaint = f"{option}: must be {wanted}, is {text!r}"
        raise ConfigurationError([complaint]) from None
    if moment.tzinfo is None:
        complaint = f"{option}: {text} has no zone; add Z for UTC, or an offset such as +02:00"
        raise ConfigurationError([complaint])
    return round((moment - _EPOCH).total_seconds() * 1000)


def format_time(time_ms: int | None) -> str:
    """Write a time for people, in UTC, to the second; a dash for none."""
    if time_ms is None:
        return "-"
    moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _place(match: "re.Match[str]") -> OutboxPlace:
    topic, number, offset, index = match.groups()
    return OutboxPlace(topic, int(number), (int(offset), int(index or 0)))

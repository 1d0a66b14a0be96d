"""How operators name a range of the outbox, by times or places, and the batches that lie in it."""

import re
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from forwarder.admin.contract import GroupSurvey
from forwarder.errors import ConfigurationError
from forwarder.journal import outbox
from forwarder.model import Address, Batch, Partition

READ_BYTES = 4 * 1024 * 1024
"""Stored bytes fetched at once."""

LATE_MS = 600_000
"""How much later than a batch was closed its record may be stored, or the other way round where
clocks differ. A batch waits for its tick, and ticks wait while Kafka is away: beyond this an
edge given as a time may miss some, and places do not."""


_NOTHING = "--to: is not after --from, so that nothing lies between them"

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


class OutboxRange(NamedTuple):
    """From the first edge on, up to the second and without it; None: as far as the outbox goes.

    ``resume``: only what lies at or behind these places too, and only in their partitions.
    """

    since: RangeEdge | None = None
    until: RangeEdge | None = None
    resume: RangeEdge | None = None

    def check(self) -> None:
        """Raise ConfigurationError for a stretch that holds nothing."""
        times = [edge.time_ms for edge in (self.since, self.until) if edge]
        if len(times) == 2 and None not in times and times[0] >= times[1]:  # type: ignore[operator]  # noqa: PLR2004  # both edges
            raise ConfigurationError([_NOTHING])

    def check_places(self, partitions: Sequence[Partition]) -> None:
        """Raise ConfigurationError unless every place lies in just one of these partitions.

        A place that is passed over would look like a stretch without batches.
        """
        named = zip(("--from", "--to", "--resume"), self, strict=True)
        edges = [(option, edge.places) for option, edge in named if edge]
        if faults := [it for option, places in edges for it in _faults(option, places, partitions)]:
            raise ConfigurationError(faults)
        for partition in partitions:
            ends = [edge.place(partition) for edge in (self.since, self.until) if edge]
            if len(ends) == 2 and ends[0] and ends[1] and ends[0] >= ends[1]:  # noqa: PLR2004  # both edges
                raise ConfigurationError([_NOTHING])

    def covers(self, partition: Partition) -> bool:
        """Tell whether a partition takes part: with places only those that are named do."""
        named = [edge for edge in self if edge and edge.places]
        return all(edge.place(partition) is not None for edge in named)

    def has(self, partition: Partition, address: Address, batch: Batch) -> bool:
        """Tell whether a batch lies in it."""
        return not self._before(partition, address, batch) and not self._after(
            partition, address, batch
        )

    def _before(self, partition: Partition, address: Address, batch: Batch) -> bool:
        if self.since and self.since.time_ms is not None and batch.closed_at < self.since.time_ms:
            return True
        begins = [edge.place(partition) for edge in (self.since, self.resume) if edge]
        return any(place is not None and address < place for place in begins)

    def _after(self, partition: Partition, address: Address, batch: Batch) -> bool:
        if self.until is None:
            return False
        if self.until.time_ms is not None:
            return batch.closed_at >= self.until.time_ms
        return address >= (self.until.place(partition) or address)


def _faults(
    option: str, places: Sequence[OutboxPlace], among: Sequence[Partition]
) -> Iterator[str]:
    seen: set[Partition] = set()
    for place in places:
        name = str(place.number) if place.topic is None else f"{place.topic}/{place.number}"
        found = [partition for partition in among if place.of(partition)]
        if not found:
            yield f"{option}: there is no partition {name} among those that are meant"
        elif len(found) > 1:
            several = " and ".join(map(str, found))
            yield f"{option}: {name} may be {several}; write TOPIC/{place.number}:OFFSET"
        elif found[0] in seen:
            yield f"{option}: names {found[0]} twice; give one place for each partition"
        seen.update(found)


async def read_batches(
    survey: GroupSurvey, partition: Partition, lane: str, stretch: OutboxRange, least: int = 0
) -> AsyncIterator[tuple[Address, Batch]]:
    """Yield the batches of a lane that lie in a stretch, in the order of the outbox.

    None of them lies below offset ``least``.
    """
    if not stretch.covers(partition):
        return
    at, end = await offsets(survey, partition, stretch)
    at = max(at, least)
    while at < end:
        records, at = await survey.outbox(partition, at, end, READ_BYTES, lane)
        for offset, value in records:
            for address, batch in outbox.decode_record(offset, value):
                if stretch.has(partition, address, batch):
                    yield address, batch


async def offsets(
    survey: GroupSurvey, partition: Partition, stretch: OutboxRange
) -> tuple[int, int]:
    """Return the offsets between which every batch of a stretch is stored."""
    bounds = await survey.outbox_bounds(partition)
    start, end = bounds.start, bounds.end
    since, until = stretch.since, stretch.until
    for begin in (since, stretch.resume):
        if begin is not None:
            start = max(start, await _first(survey, partition, begin, end))
    if until is not None and until.time_ms is not None:
        late = await survey.outbox_at(partition, until.time_ms + LATE_MS)
        end = end if late is None else min(end, late)
    elif until is not None and (place := until.place(partition)) is not None:
        end = min(end, place[0] + 1)
    return start, end


async def _first(survey: GroupSurvey, partition: Partition, since: RangeEdge, end: int) -> int:
    if since.time_ms is None:
        place = since.place(partition)
        return place[0] if place else end
    found = await survey.outbox_at(partition, max(0, since.time_ms - LATE_MS))
    return end if found is None else found

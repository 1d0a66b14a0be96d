"""A dead letter topic made by hand, with its producer, as the commands see it."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from forwarder.errors import FencedError
from forwarder.journal import dead_letters
from forwarder.journal.dead_letters import RedriveMessage
from forwarder.model import DeadLetter, LogBounds, Partition
from tests.batches import GROUP, TOPIC

LETTERS = "letters"


class Stored(NamedTuple):
    """One record of the topic."""

    offset: int
    timestamp: int
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


@dataclass
class Letters:
    """The topic; ``inputs`` is what came back, ``input`` what may still be read there."""

    topic: str = LETTERS
    logs: dict[int, list[Stored]] = field(default_factory=lambda: {0: [], 1: []})
    inputs: list[RedriveMessage] = field(default_factory=list)
    input: dict[tuple[Partition, int], Stored] = field(default_factory=dict)
    most: int = 1_000_000
    newest: "FakeRedriveProducer | None" = None
    dies_after: int = 10**9

    def store(
        self,
        letter: DeadLetter,
        number: int = 0,
        group: str = GROUP,
        most: int = 10**6,
        came_from: int | None = None,
    ) -> str:
        """Append a letter; return its place. ``came_from``: of another input partition."""
        origin = Partition(TOPIC, number if came_from is None else came_from)
        message = dead_letters.letter_message(letter, origin, group, most)
        self.append(number, message.value, message.headers)
        return f"{number}:{self.logs[number][-1].offset}"

    def append(self, number: int, value: bytes, headers: Sequence[tuple[str, bytes]]) -> None:
        """Append a record; every other offset is a marker's."""
        log = self.logs[number]
        offset = log[-1].offset + 2 if log else 0
        log.append(Stored(offset, 1000 * (offset + 1), value, headers))

    async def bounds(self) -> Mapping[int, LogBounds]:
        return {
            number: LogBounds(0, log[-1].offset + 2 if log else 0)
            for number, log in self.logs.items()
        }

    async def at_time(self, number: int, time_ms: int) -> int | None:
        return next((it.offset for it in self.logs[number] if it.timestamp >= time_ms), None)

    async def records(self, number: int, start: int, end: int) -> AsyncIterator[Stored]:
        for stored in list(self.logs[number]):
            if start <= stored.offset < end:
                yield stored

    async def original(self, partition: Partition, offset: int) -> Stored | None:
        return self.input.get((partition, offset))

    async def limits(self) -> Mapping[Partition, int]:
        return {Partition(TOPIC, number): self.most for number in self.logs}

    def redrive_producer(self) -> "FakeRedriveProducer":
        return FakeRedriveProducer(self)


class FakeRedriveProducer:
    """Writes whole transactions, until another producer was started."""

    def __init__(self, letters: Letters) -> None:
        self.letters = letters
        self.sizes: list[int] = []

    async def start(self) -> dict[int, int]:
        self.letters.newest = self
        return {number: bounds.end for number, bounds in (await self.letters.bounds()).items()}

    async def send(self, outgoing: Sequence[RedriveMessage]) -> None:
        if self.letters.newest is not self:
            what = "another producer took over"
            raise FencedError(what)
        self.letters.dies_after -= 1
        if self.letters.dies_after < 0:
            what = "it died"
            raise FencedError(what)
        self.sizes.append(len(outgoing) - 1)
        for one in outgoing:
            if one.to.topic == self.letters.topic:
                self.letters.append(one.to.number, one.value, one.headers)
            else:
                self.letters.inputs.append(one)

    async def close(self) -> None:
        pass

"""``forwarder dead-letters redrive``: send the original bytes back, each letter once.

A letter goes to the input partition it came from, with headers that say what it is; receipts go
to the dead letters' own partition in the same transaction. So either both are there or neither,
and a letter with a receipt is not sent a second time. A group has one producer for it: a start
ends what another has left open, and reads the receipts only then.
"""

import asyncio
import gzip
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from forwarder.admin.contract import DeadLetterTopic, RedriveProducer
from forwarder.admin.dead_letters import (
    AGAIN,
    SENT,
    LetterFilter,
    LetterRange,
    letter_ranges,
    letters_with_state,
)
from forwarder.admin.replay import SendThrottle
from forwarder.clock import Clock
from forwarder.collect.redrive import (
    CONNECTION_HEADER,
    DEVICE_HEADER,
    LETTER_HEADER,
    REASON_HEADER,
    TIME_HEADER,
    parse_headers,
)
from forwarder.journal import dead_letters
from forwarder.journal.dead_letters import Letter, RedriveMessage, Span
from forwarder.model import Partition, Record

MAX_LETTERS = 100
"""Letters of one transaction: a tick's worth."""

MAX_BYTES = 4 * 1024 * 1024

_FRAMING = 1024
"""More than headers and framing of one message take, beside a connection's name."""


class RedriveSelection(msgspec.Struct, frozen=True):
    """What an operator decides: which letters, which of them although they failed again.

    ``active`` are the connections that are configured and take anything, ``topics`` the input
    topics; ``again``: also what failed again, ``repeat``: also what has a receipt.
    """

    wanted: LetterFilter
    active: frozenset[str]
    topics: frozenset[str]
    limit: int
    again: bool = False
    repeat: bool = False


class RedriveTotals(msgspec.Struct):
    """What a re-drive does, or did; ``skipped`` counts by why not."""

    letters: int = 0
    bytes: int = 0
    counts: dict[tuple[str, str], int] = msgspec.field(default_factory=dict)
    skipped: dict[str, int] = msgspec.field(default_factory=dict)
    ends: dict[int, int] = msgspec.field(default_factory=dict)

    def take(self, letter: Letter, size: int) -> None:
        """Count one letter that goes back."""
        key = letter.reason, letter.connection
        self.letters += 1
        self.bytes += size
        self.counts[key] = self.counts.get(key, 0) + 1

    def skip(self, why: str) -> None:
        """Count one letter that stays, by the reason ``why``."""
        self.skipped[why] = self.skipped.get(why, 0) + 1

    def document(self) -> dict[str, Any]:
        """Return the totals as JSON output has them; the keys are stable."""
        return {
            "letters": self.letters,
            "bytes": self.bytes,
            "counts": [
                {"reason": reason, "connection": lane, "letters": n}
                for (reason, lane), n in sorted(self.counts.items())
            ],
            "skipped": dict(sorted(self.skipped.items())),
        }


async def plan(survey: DeadLetterTopic, choice: RedriveSelection) -> RedriveTotals:
    """Count what would be sent back, and what would not, and why; nothing is written."""
    tally, limits = RedriveTotals(), await survey.limits()
    for stretch in await letter_ranges(survey, choice.wanted):
        tally.ends[stretch.number] = stretch.end
        async for letter, state in letters_with_state(survey, stretch, choice.wanted.group):
            if choice.wanted.has(letter):
                await _weigh(survey, choice, limits, letter, state, tally)
    return tally


async def redrive(  # noqa: PLR0913  # what to send, up to where, how fast, and whom to tell
    survey: DeadLetterTopic,
    producer: RedriveProducer,
    choice: RedriveSelection,
    ends: Mapping[int, int],
    *,
    rate: float,
    clock: Clock,
    tell: Callable[[RedriveTotals], None] = lambda _: None,
) -> RedriveTotals:
    """Send back what is meant and lies below ``ends``; raises ForwarderError.

    Interrupted, the last transaction is there or not, whole; what was sent is known to the next
    run. ``tell`` is called after every transaction.
    """
    tally, pace, limits = RedriveTotals(), SendThrottle(rate, clock), await survey.limits()
    settled = await producer.start()
    most = MAX_LETTERS if not rate else max(1, min(MAX_LETTERS, int(rate)))
    for found in await letter_ranges(survey, choice.wanted, settled):
        stretch = msgspec.structs.replace(found, end=min(found.end, ends.get(found.number, 0)))
        load = RedriveTransaction(survey.topic, stretch, choice.wanted.group)
        async for letter, state in letters_with_state(survey, stretch, choice.wanted.group):
            value = None
            if choice.wanted.has(letter):
                value = await _weigh(survey, choice, limits, letter, state, tally)
            if value is None:
                load.break_run()
                continue
            await pace.wait()
            load.add(letter, value)
            if load.count >= most or load.bytes >= MAX_BYTES:
                await _send(producer, load)
                tell(tally)
        await _send(producer, load)
        tell(tally)
    return tally


class RedriveTransaction:
    """What goes back in one transaction, with its receipt."""

    def __init__(self, topic: str, stretch: LetterRange, group: str) -> None:
        """Create an empty transaction."""
        self._own = Partition(topic, stretch.number)
        self._group = group
        self._parcels: list[RedriveMessage] = []
        self._spans: list[Span] = []
        self._joined = False
        self.bytes = 0

    @property
    def count(self) -> int:
        """Return how many letters the transaction has so far."""
        return len(self._parcels)

    def add(self, letter: Letter, value: bytes) -> None:
        """Take a letter along; the receipt names runs of letters that follow on each other."""
        if letter.origin is None:
            return
        headers = redrive_headers(letter, self._own.topic)
        self._parcels.append(RedriveMessage(letter.origin, value, headers))
        self.bytes += len(value)
        if self._joined:
            self._spans[-1] = (self._spans[-1][0], letter.offset)
        else:
            self._spans.append((letter.offset, letter.offset))
        self._joined = True

    def break_run(self) -> None:
        """Note that a letter stays behind: no run goes on over it."""
        self._joined = False

    def take_messages(self) -> list[RedriveMessage]:
        """Return all messages with their receipt, and empty the load."""
        value, headers = dead_letters.make_receipt(self._spans, self._group)
        whole = [*self._parcels, RedriveMessage(self._own, value, headers)]
        self._parcels, self._spans, self._joined, self.bytes = [], [], False, 0
        return whole


def redrive_headers(letter: Letter, topic: str) -> list[tuple[str, bytes]]:
    """Return the headers under which a letter goes back; ``topic``: the dead letter topic."""
    texts = {
        REASON_HEADER: letter.reason,
        CONNECTION_HEADER: letter.connection,
        LETTER_HEADER: f"{topic}/{letter.place}",
        DEVICE_HEADER: letter.device,
        TIME_HEADER: str(letter.time) if letter.time else "",
    }
    return [(name, text.encode()) for name, text in texts.items() if text]


async def _send(producer: RedriveProducer, load: RedriveTransaction) -> None:
    if load.count:
        await producer.send(load.take_messages())


async def _weigh(  # noqa: PLR0913, PLR0917  # one letter, and everything it is judged by
    survey: DeadLetterTopic,
    choice: RedriveSelection,
    limits: Mapping[Partition, int],
    letter: Letter,
    state: str,
    tally: RedriveTotals,
) -> bytes | None:
    """Return the bytes that go back, None if the letter stays; count it either way."""
    await asyncio.sleep(0)
    why = _hindrance(choice, letter, state)
    value = letter.value
    if why is None and letter.truncated:
        original = await _original(survey, letter)
        value, why = original or b"", None if original else "its bytes are not there any more"
    if why is None and letter.origin is not None:
        why = _oversize(value, limits.get(letter.origin))
    if why is None and tally.letters >= choice.limit:
        why = "beyond --limit"
    if why is not None:
        tally.skip(why)
        return None
    tally.take(letter, len(value))
    return value


def _hindrance(choice: RedriveSelection, letter: Letter, state: str) -> str | None:
    """Return why a letter stays, if it does."""
    if state == SENT and not choice.repeat:
        return "sent back before"
    if state == AGAIN and not choice.again:
        return "failed again (--again)"
    if letter.reason in dead_letters.SEALED:
        return "a batch as Kafka stores it: send its records again in smaller ones"
    if letter.origin is None or letter.origin.topic not in choice.topics:
        return "its input topic is not configured"
    if letter.connection and letter.connection not in choice.active:
        return f"connection {letter.connection} is not configured, or inactive"
    return None


async def _original(survey: DeadLetterTopic, letter: Letter) -> bytes | None:
    """Return the bytes of a letter that was too large, from the input; whole records only."""
    if letter.origin is None or letter.reason not in dead_letters.WHOLE or letter.connection:
        return None
    found = await survey.original(letter.origin, letter.at)
    return found.value if found is not None and _is_of(found, letter) else None


def _is_of(record: Record, letter: Letter) -> bool:
    """Tell whether a letter is of this record: its topic may have been made anew since."""
    told = parse_headers(record.headers)
    return letter.time in {0, record.timestamp, told.time if told else 0}


def _oversize(value: bytes, limit: int | None) -> str | None:
    if limit is None:
        return "its input partition is not there any more"
    # As the producer compresses it: one that is refused would keep all behind it for ever.
    if len(value) + _FRAMING <= limit or len(gzip.compress(value)) + _FRAMING <= limit:
        return None
    return "larger than max.message.bytes of its input topic"

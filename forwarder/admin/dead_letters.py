"""``forwarder dead-letters``: which letters there are, and which were sent back."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec

from forwarder.admin.contract import DeadLetterTopic
from forwarder.admin.outbox_range import format_time
from forwarder.errors import ForwarderError
from forwarder.journal import dead_letters
from forwarder.journal.dead_letters import Letter, RedrivenSpans

WAITING, SENT, AGAIN = "waiting", "sent", "failed again"
"""States: not sent back; sent back, whatever came of it; a letter of what was sent back once."""

LATE_MS = 600_000
"""How far the clocks of workers may differ: a time is looked for from so much earlier on."""


class LetterFilter(msgspec.Struct, frozen=True):
    """Which letters are meant; nothing given: all of the group.

    ``since_ms`` and ``until_ms`` are when they became letters, ``topic``, ``partition``,
    ``first`` and ``last`` tell of the input where they came from.
    """

    group: str
    reasons: frozenset[str] = frozenset()
    connections: frozenset[str] = frozenset()
    since_ms: int | None = None
    until_ms: int | None = None
    topics: frozenset[str] = frozenset()
    partition: int | None = None
    first: int | None = None
    last: int | None = None
    places: frozenset[str] = frozenset()

    def has(self, letter: Letter) -> bool:
        """Tell whether the filter lets a letter through."""
        return self._named(letter) and self._timely(letter) and self._from_there(letter)

    def _named(self, letter: Letter) -> bool:
        return (
            letter.group == self.group
            and (not self.reasons or letter.reason in self.reasons)
            and (not self.connections or letter.connection in self.connections)
            and (not self.places or letter.place in self.places)
        )

    def _timely(self, letter: Letter) -> bool:
        since, until = self.since_ms, self.until_ms
        return (since is None or letter.stored_ms >= since) and (
            until is None or letter.stored_ms < until
        )

    def _from_there(self, letter: Letter) -> bool:
        origin = letter.origin
        return (
            (not self.topics or (origin is not None and origin.topic in self.topics))
            and (self.partition is None or (origin is not None and origin.number == self.partition))
            and (self.first is None or letter.at >= self.first)
            and (self.last is None or letter.at <= self.last)
        )


class LetterRange(msgspec.Struct, frozen=True):
    """One partition of the dead letter topic as it was found: from where on, up to where.

    Letters lie below ``end``; receipts for them may lie below ``settled``, too.
    """

    number: int
    start: int
    end: int
    settled: int


async def letter_ranges(
    survey: DeadLetterTopic, wanted: LetterFilter, settled: Mapping[int, int] | None = None
) -> list[LetterRange]:
    """Return where letters that are meant may lie; ``settled``: ends known from elsewhere."""
    found = []
    for number, bounds in sorted((await survey.bounds()).items()):
        start = bounds.start
        if wanted.since_ms is not None:
            at = await survey.at_time(number, max(0, wanted.since_ms - LATE_MS))
            start = bounds.end if at is None else max(start, at)
        end = bounds.end
        found.append(LetterRange(number, start, end, (settled or {}).get(number, end)))
    return found


async def redriven_letters(
    survey: DeadLetterTopic, stretch: LetterRange, group: str
) -> RedrivenSpans:
    """Return which letters of a partition were sent back: a receipt stands behind its letters."""
    known = RedrivenSpans()
    async for stored in survey.records(stretch.number, stretch.start, stretch.settled):
        known.add(dead_letters.receipt_spans(stored, group))
    return known


async def letters_with_state(
    survey: DeadLetterTopic, stretch: LetterRange, group: str
) -> AsyncIterator[tuple[Letter, str]]:
    """Yield every letter of a partition in order, each with its state; any group's."""
    known = await redriven_letters(survey, stretch, group)
    async for stored in survey.records(stretch.number, stretch.start, stretch.end):
        letter = dead_letters.parse_letter(stretch.number, stored)
        if letter is not None:
            yield letter, letter_state(letter, known)


def letter_state(letter: Letter, known: RedrivenSpans) -> str:
    """Return ``SENT``, ``AGAIN`` (sent back before, and failed again) or ``WAITING``."""
    if known.has(letter.offset):
        return SENT
    return AGAIN if letter.redriven else WAITING


async def list_letters(survey: DeadLetterTopic, wanted: LetterFilter, limit: int) -> dict[str, Any]:
    """Return counts of all that are meant, and the first ``limit`` of them."""
    counts: dict[tuple[str, str, str], list[int]] = {}
    found: list[dict[str, Any]] = []
    for stretch in await letter_ranges(survey, wanted):
        async for letter, state in letters_with_state(survey, stretch, wanted.group):
            if not wanted.has(letter):
                continue
            count = counts.setdefault((letter.reason, letter.connection, state), [0, 0])
            count[0] += 1
            count[1] += len(letter.value)
            if len(found) < limit:
                found.append(letter_document(letter, state))
    return {
        "topic": survey.topic,
        "counts": [
            {"reason": reason, "connection": lane, "state": state, "letters": n, "bytes": size}
            for (reason, lane, state), (n, size) in sorted(counts.items())
        ],
        "letters": found,
        "more": sum(n for n, _ in counts.values()) > len(found),
    }


def letter_document(letter: Letter, state: str) -> dict[str, Any]:
    """Return a letter with stable keys, without its bytes."""
    return {
        "place": letter.place,
        "state": state,
        "stored_at": format_time(letter.stored_ms),
        "stored_at_ms": letter.stored_ms,
        "record_time_ms": letter.time or None,
        "reason": letter.reason,
        "connection": letter.connection,
        "from": None if letter.origin is None else f"{letter.origin}:{letter.at}",
        "bytes": len(letter.value),
        "truncated": letter.truncated,
        "redriven": letter.redriven,
        "error": letter.error,
    }


async def find_letter(
    survey: DeadLetterTopic, number: int, offset: int, group: str
) -> tuple[Letter, str]:
    """Return the letter at a partition and offset of the topic, with its state.

    Raises ForwarderError if there is none.

    Any group's: whoever asks for a place has seen it somewhere.
    """
    bounds = (await survey.bounds()).get(number)
    if bounds is None or not bounds.start <= offset < bounds.end:
        text = f"{survey.topic} holds nothing at {number}:{offset}"
        raise ForwarderError(text)
    # To its end: a reading that is left half-way keeps the next one of the partition waiting.
    there = [
        dead_letters.parse_letter(number, it)
        async for it in survey.records(number, offset, offset + 1)
    ]
    if not there or (letter := there[0]) is None:
        text = f"{survey.topic} holds no dead letter at {number}:{offset}"
        raise ForwarderError(text)
    stretch = LetterRange(number, offset, bounds.end, bounds.end)
    return letter, letter_state(letter, await redriven_letters(survey, stretch, group))

"""Many records in one request: an answer for each, and the culprit of one refused as a whole."""

import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import lru_cache

from forwarder.sinks import classify
from forwarder.sinks.base import DELIVERED, Kind, Outcome
from forwarder.sinks.caller import UNSENT, Caller, Refusal
from forwarder.sinks.classify import Fault
from forwarder.sinks.receipts import is_number
from forwarder.sinks.wire import Entry, Records, Responses, Told

BISECT_REQUESTS = 64
"""A bound on looking for culprits: one among 500 takes 18 requests, three about 50."""

_SHARD = re.compile(r"[a-zA-Z0-9_.-]{1,128}")

Ask = Callable[[Sequence[Entry]], Awaitable[list[Outcome] | Refusal]]


def answers(
    caller: Caller, operation: str, reply: Records | Responses, count: int
) -> list[Outcome]:
    """Return one answer per record of a request that was not refused as a whole."""
    told = reply.each
    wrong = ""
    if len(told) != count:
        wrong = f"answered for {len(told)} of {count} records"
    elif reply.failed is not None and reply.failed != sum(1 for one in told if one.error_code):
        wrong = f"says that {reply.failed} records failed, and names others"
    # All are noted, also where the answer does not count: it may come once more.
    if not caller.takes(told):
        wrong = wrong or "names what was stored for another request"
    if wrong:
        return [caller.outcome(operation, classify.UNANSWERED, wrong)] * count
    return [_answer(caller, operation, one) for one in told]


def answer(caller: Caller, operation: str, told: Told) -> Outcome:
    """Return the answer for the one record of a request."""
    if not caller.takes((told,)):
        text = "names what was stored for another request"
        return caller.outcome(operation, classify.UNANSWERED, text)
    return _answer(caller, operation, told)


def _answer(caller: Caller, operation: str, told: Told) -> Outcome:
    """Return the answer for one record: only a number or an id of what is stored is success."""
    if told.error_code:
        return caller.outcome(operation, told.error_code, told.error_message or "")
    number = told.sequence_number
    if number and told.shard_id and is_number(number):
        stored = _stored(told.shard_id)
    else:
        stored = DELIVERED if told.record_id and not number else None
    if stored is None:
        return caller.outcome(operation, classify.UNANSWERED, "nothing says that it is stored")
    return stored


@lru_cache(maxsize=4096)
def _stored(shard: str) -> Outcome | None:
    # AWS limit of a shard's id.
    return Outcome(Kind.DELIVERED, shard=shard) if _SHARD.fullmatch(shard) else None


async def settled(
    entries: Sequence[Entry], reply: list[Outcome] | Refusal, ask: Ask, late: Callable[[], bool]
) -> list[Outcome]:
    """Return the answers of a request; one that a record spoils is asked again in parts."""
    if not isinstance(reply, Refusal):
        return reply
    if reply.fault is Fault.PERMANENT and len(entries) > 1:
        return await _bisected(entries, reply, ask, late)
    return [reply.outcome] * len(entries)


async def _bisected(
    entries: Sequence[Entry], refusal: Refusal, ask: Ask, late: Callable[[], bool]
) -> list[Outcome]:
    """Halve a refused request until each culprit is alone; the others get through."""
    found: list[Outcome | None] = [None] * len(entries)
    pending = list(_halves(0, len(entries)))
    for _ in range(BISECT_REQUESTS):
        if not pending:
            break
        if late():
            return [UNSENT if one is None else one for one in found]
        start, end = pending.pop()
        reply = await ask(entries[start:end])
        if not isinstance(reply, Refusal):
            found[start:end] = reply
        elif reply.fault is Fault.PERMANENT and end - start > 1:
            pending += _halves(start, end)
        else:
            found[start:end] = [reply.outcome] * (end - start)
    rest = _unsettled(found, refusal)
    return [rest if one is None else one for one in found]


def _unsettled(found: Sequence[Outcome | None], refusal: Refusal) -> Outcome:
    """Answer for what the bound left over: it is the setting unless something got through."""
    through = any(one is not None and one.kind is Kind.DELIVERED for one in found)
    told = refusal.outcome
    text = f"{told.error}; too many records are refused to sort out"
    return Outcome(Kind.TRANSIENT if through else Kind.CONFIGURATION, told.code, text)


def _halves(start: int, end: int) -> Iterator[tuple[int, int]]:
    middle = (start + end) // 2
    # The first half last: it is popped first, and records are tried in order.
    yield middle, end
    yield start, middle

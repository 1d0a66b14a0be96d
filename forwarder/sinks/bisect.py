"""Many records in one request: an answer for each, and the culprit of one refused as a whole."""

from collections.abc import Awaitable, Callable, Iterator, Sequence

from forwarder.aws.client import NO_OUTCOME, CallFailure
from forwarder.aws.errors import AwsErrorClass
from forwarder.model import Outcome, OutcomeKind
from forwarder.sinks.requests import RequestRecord

BISECT_REQUESTS = 64
"""Most requests to find refused records: one among 500 takes 18, three about 50."""

SendRequest = Callable[[Sequence[RequestRecord]], Awaitable[list[Outcome] | CallFailure]]


async def resolve_reply(
    records: Sequence[RequestRecord],
    reply: list[Outcome] | CallFailure,
    send: SendRequest,
    late: Callable[[], bool],
) -> list[Outcome]:
    """Return the answers of a request; one that a record spoils is asked again in parts."""
    if not isinstance(reply, CallFailure):
        return reply
    if reply.fault is AwsErrorClass.PERMANENT and len(records) > 1:
        return await _bisected(records, reply, send, late)
    return [reply.outcome] * len(records)


async def _bisected(
    records: Sequence[RequestRecord],
    refusal: CallFailure,
    send: SendRequest,
    late: Callable[[], bool],
) -> list[Outcome]:
    """Halve a refused request until each refused record is alone; the others are stored."""
    found: list[Outcome | None] = [None] * len(records)
    pending = list(_halves(0, len(records)))
    for _ in range(BISECT_REQUESTS):
        if not pending:
            break
        if late():
            return [NO_OUTCOME if one is None else one for one in found]
        start, end = pending.pop()
        reply = await send(records[start:end])
        if not isinstance(reply, CallFailure):
            found[start:end] = reply
        elif reply.fault is AwsErrorClass.PERMANENT and end - start > 1:
            pending += _halves(start, end)
        else:
            found[start:end] = [reply.outcome] * (end - start)
    rest = _outcomes_beyond_bound(found, refusal)
    return [rest if one is None else one for one in found]


def _outcomes_beyond_bound(found: Sequence[Outcome | None], refusal: CallFailure) -> Outcome:
    """Return the outcome of records that the bound left untried.

    A configuration error, unless another record got through: then transient.
    """
    through = any(one is not None and one.kind is OutcomeKind.DELIVERED for one in found)
    told = refusal.outcome
    text = f"{told.error}; too many records are refused to sort out"
    return Outcome(OutcomeKind.TRANSIENT if through else OutcomeKind.CONFIGURATION, told.code, text)


def _halves(start: int, end: int) -> Iterator[tuple[int, int]]:
    middle = (start + end) // 2
    # The first half last: it is popped first, and records are tried in order.
    yield middle, end
    yield start, middle

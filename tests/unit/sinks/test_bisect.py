"""Whatever is refused, thrown or late: every record has its answer, and the answer is true."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.aws.client import CallFailure
from forwarder.aws.errors import AwsErrorClass
from forwarder.model import DELIVERED, Outcome, OutcomeKind
from forwarder.sinks import bisect, requests
from forwarder.sinks.requests import RequestRecord
from tests.services.fake_kinesis import batch

SPOILT = CallFailure(
    AwsErrorClass.PERMANENT, "Validation", Outcome(OutcomeKind.REFUSED, "Validation", "refused")
)
AWAY = CallFailure(
    AwsErrorClass.TRANSIENT,
    "InternalFailure",
    Outcome(OutcomeKind.TRANSIENT, "InternalFailure", ""),
)
DENIED = CallFailure(
    AwsErrorClass.CONFIGURATION,
    "AccessDenied",
    Outcome(OutcomeKind.CONFIGURATION, "AccessDenied", "denied"),
)
ENTRIES = [requests.firehose_record(batch(number)) for number in range(500)]


class Faults(NamedTuple):
    """Records refused for good, requests that meet a fault, the request that comes too late."""

    culprits: set[int]
    calls: dict[int, CallFailure]
    late_after: int | None


class Service:
    """Refuses a request as a whole if one of its records is spoilt; notes what it stores."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.requests = 0
        self.stored: list[int] = []

    def late(self) -> bool:
        return self.faults.late_after is not None and self.requests > self.faults.late_after

    async def ask(self, entries: Sequence[RequestRecord]) -> list[Outcome] | CallFailure:
        self.requests += 1
        numbers = [int.from_bytes(one.batch.key, "big") for one in entries]
        if self.requests in self.faults.calls:
            return self.faults.calls[self.requests]
        if self.faults.culprits & set(numbers):
            return SPOILT
        self.stored += numbers
        return [DELIVERED] * len(entries)

    async def put(self, count: int) -> list[Outcome]:
        entries = ENTRIES[:count]
        return await bisect.resolve_reply(entries, await self.ask(entries), self.ask, self.late)


faults = st.builds(
    Faults,
    st.sets(st.integers(0, 499), max_size=40),
    st.dictionaries(st.integers(1, 40), st.sampled_from([AWAY, DENIED, SPOILT]), max_size=4),
    st.none() | st.integers(1, 60),
)


@given(st.integers(1, 500), faults)
@settings(max_examples=120, deadline=None)
def test_every_record_has_a_true_answer_within_a_bounded_number_of_requests(
    count: int, given_faults: Faults
) -> None:
    service = Service(given_faults)
    outcomes = asyncio.run(service.put(count))
    assert count == len(outcomes)
    delivered = [n for n, outcome in enumerate(outcomes) if outcome.kind is OutcomeKind.DELIVERED]
    assert sorted(service.stored) == delivered, "what is acknowledged is what is stored, once"
    assert service.requests <= 1 + bisect.BISECT_REQUESTS
    for number, outcome in enumerate(outcomes):
        if outcome.kind is OutcomeKind.REFUSED:
            assert number in given_faults.culprits or SPOILT in given_faults.calls.values()


@given(st.integers(1, 500), st.sets(st.integers(0, 499), max_size=3))
@settings(max_examples=60, deadline=None)
def test_three_culprits_at_most_are_found_in_one_put(count: int, culprits: set[int]) -> None:
    service = Service(Faults(culprits, {}, None))
    outcomes = asyncio.run(service.put(count))
    refused = {n for n, outcome in enumerate(outcomes) if outcome.kind is OutcomeKind.REFUSED}
    assert {n for n in culprits if n < count} == refused
    assert count - len(refused) == len(service.stored)


@given(st.lists(st.integers(0, 499), max_size=100, unique=True))
@settings(max_examples=30, deadline=None)
def test_records_are_stored_in_the_order_given(culprits: list[int]) -> None:
    service = Service(Faults(set(culprits), {}, None))
    asyncio.run(service.put(500))
    assert sorted(service.stored) == service.stored

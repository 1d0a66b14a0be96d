"""What lanes are told, and what they leave to be collected."""

import asyncio
import math

from forwarder.deliver.context import DeliveryResults, Lease
from forwarder.errors import JournalError
from tests.batches import batch
from tests.lanes import REFUSED


def test_a_lease_allows_puts_up_to_its_end_and_none_once_it_is_revoked() -> None:
    lease = Lease()
    assert not lease.allows(0.0)
    lease.extend(5.0)
    assert (True, True, False) == (lease.allows(4.9), lease.allows(5.0), lease.allows(5.1))
    lease.revoke()
    assert not lease.allows(-1e9)
    assert Lease(math.inf).allows(1e9)


async def test_what_is_collected_is_gone_and_a_failure_stays() -> None:
    told = 0

    def notify() -> None:
        nonlocal told
        told += 1

    results = DeliveryResults(notify)
    one = batch("1", payload=b"xyz")
    results.note_refused(one, REFUSED)
    assert 0 == told, "the acknowledgement of the same put is still to come"
    results.note_moved()
    results.want_lease()
    assert (2, 3, True, True) == (
        told, results.refused_bytes, results.cursor_moved, results.lease_wanted
    )  # fmt: skip
    results.fail(JournalError("first"))
    results.fail(JournalError("second"))
    assert [(one, REFUSED)] == results.collect()
    assert ([], 0, False, False) == (
        results.refused, results.refused_bytes, results.cursor_moved, results.lease_wanted
    )  # fmt: skip
    assert "first" == str(await asyncio.wait_for(results.failed, 1.0))

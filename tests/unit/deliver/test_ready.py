"""Addresses of batches that may be put: whatever comes in which order, the lowest is the first."""

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from forwarder.deliver.ready import ReadyAddresses

if TYPE_CHECKING:
    from forwarder.model import Address

STEPS = st.lists(
    st.tuples(st.sampled_from(["fresh", "later", "drop", "cut", "keep"]), st.integers(0, 30))
)


@given(STEPS)
def test_the_lowest_address_is_the_first_whatever_came_before(
    steps: list[tuple[str, int]],
) -> None:
    ready = ReadyAddresses()
    expected: list[tuple[Address, bool]] = []
    for step, number in steps:
        address = (number, 0)
        if step == "fresh":
            highest = max((one for one, is_fresh in expected if is_fresh), default=(0, 0))
            ready.fresh.append((highest[0] + number, 0))
            expected.append(((highest[0] + number, 0), True))
        elif step == "later":
            ready.add_later(address)
            expected.append((address, False))
        elif step == "drop" and expected:
            ready.drop_first()
            expected.remove(min(expected))  # of two that are equal, the later one
        elif step == "cut":
            ready.drop_fresh_from(address)
            expected = [entry for entry in expected if not (entry[1] and entry[0] >= address)]
        elif step == "keep":
            ready.keep(lambda one: one[0] % 2 == 0)
            later = {entry for entry in expected if not entry[1]}
            fresh = [entry for entry in expected if entry[1]]
            expected = [entry for entry in [*fresh, *later] if entry[0][0] % 2 == 0]
        addresses = sorted(one for one, _ in expected)
        assert addresses == ready.ascending()
        assert len(addresses) == len(ready)
        assert (addresses[0] if addresses else None) == ready.first()

"""The native core counts what several lanes hold together as Python does."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder import native
from forwarder.collect.windows.shares import Shares, make_shares

pytest.importorskip("forwarder.native._core", exc_type=ImportError)
pytestmark = pytest.mark.skipif(native.core() is None, reason="the native core is left aside")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), max_size=60))
def test_both_cores_count_the_same(steps: list[tuple[bool, int]]) -> None:
    pieces = [(number, 0, 1, 0, b"x" * number) for number in range(5)]
    native_one, python = make_shares(), Shares()
    assert type(native_one) is not Shares
    for takes, number in steps:
        for one in (native_one, python):
            if takes:
                one.take(pieces[number])
            else:
                one.release([pieces[number]])
        assert native_one.saved == python.saved
        assert len(native_one) == len(python)
        assert [native_one.holders(p) for p in pieces] == [python.holders(p) for p in pieces]

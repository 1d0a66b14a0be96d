"""A table is a dict, also once it is in parts."""

from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.collect.windows import table
from forwarder.collect.windows.table import Table

_STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "delete", "split"]), st.binary(max_size=2)), max_size=60
)


@settings(max_examples=300, deadline=None)
@given(_STEPS)
def test_it_holds_what_a_dict_holds(steps: list[tuple[str, bytes]]) -> None:
    found, expected = Table[int](), dict[bytes, int]()
    with mock.patch.object(table, "SPLIT_FROM", 5):
        for number, (step, key) in enumerate(steps):
            if step == "put":
                found[key] = expected[key] = number
            elif step == "split":
                found.split()
            elif key in expected:
                del found[key], expected[key]
            assert (key in found, found.get(key)) == (key in expected, expected.get(key))
            assert len(found) == len(expected)
            assert sorted(found.values()) == sorted(expected.values())
            assert sorted(found) == sorted(expected)
            assert {key: found[key] for key in found} == expected

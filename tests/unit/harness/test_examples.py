"""The option ``--examples``."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import ask


def test_a_property_is_tried_as_often_as_is_asked_for() -> None:
    seen: list[int] = []

    @settings(max_examples=3, database=None)
    @given(st.integers())
    def always(number: int) -> None:
        seen.append(number)

    ask(always, 40)
    always()

    assert 40 == len(seen)


def test_what_is_no_property_is_left_alone() -> None:
    def plain() -> None:
        """Do nothing."""

    ask(plain, 40)

    assert {} == vars(plain)

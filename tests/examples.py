"""``--examples N``: every property is tried with so many examples, for whoever has the time."""

import pytest
from hypothesis import settings

SETTINGS = "_hypothesis_internal_use_settings"
"""Where Hypothesis keeps what a test asks for; a test says whether it still does."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the option."""
    text = "examples of every property test, in place of the number each asks for"
    parser.addoption("--examples", type=int, default=0, metavar="N", help=text)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Ask for as many as the option says."""
    if wanted := config.getoption("--examples"):
        for item in items:
            ask(getattr(item, "obj", None), wanted)


def ask(test: object, examples: int) -> None:
    """Have a property tried with so many examples; what is no property is left alone."""
    asked = getattr(test, SETTINGS, None)
    if asked is not None:
        setattr(test, SETTINGS, settings(asked, max_examples=examples))

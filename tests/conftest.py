"""Fixtures for every test, and the marker of those that need a service."""

import pytest

pytest_plugins = ["tests.services.kafka", "tests.services.ministack"]

SERVICES = frozenset({"kafka", "ministack"})


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses a service's fixture, so that ``-m "not service"`` leaves nothing to start."""
    for item in items:
        if SERVICES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.service)

"""Fixtures for every test, and the marker of those that need a service."""

import signal

import pytest
from hypothesis import HealthCheck, settings

from forwarder.kafka import patches

pytest_plugins = [
    "tests.cores",
    "tests.examples",
    "tests.no_skips",
    "tests.services.kafka",
    "tests.services.kinesis_sinks",
    "tests.services.ministack",
    "tests.services.postgres",
]

# How long an example takes says more about the machine's other work than about the code.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

SERVICES = frozenset({"kafka", "ministack", "postgres"})


def pytest_configure() -> None:
    """Take signals, and so let the programs that tests start and interrupt take them.

    What a shell starts in its background, or with nohup, inherits SIGINT or SIGHUP ignored, and
    would hand that on.
    """
    patches.install()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses a service's fixture, so that ``-m "not service"`` leaves nothing to start."""
    for item in items:
        if SERVICES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.service)

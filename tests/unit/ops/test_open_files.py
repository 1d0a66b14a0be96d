"""The worker has files enough, and leaves most of them to Kafka and its sinks."""

import resource
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from forwarder.ops import open_files


@pytest.fixture(autouse=True)
def limits() -> Iterator[tuple[int, int]]:
    """Give back the limits that this process had, whatever stands in for the call by then."""
    give_back = resource.setrlimit
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    give_back(resource.RLIMIT_NOFILE, before)


def test_the_soft_limit_is_raised_as_far_as_is_sensible(limits: tuple[int, int]) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, limits[1]))
    expected = min(limits[1], open_files.WANTED_OPEN_FILES)
    assert expected == open_files.raise_limit()
    assert (expected, limits[1]) == resource.getrlimit(resource.RLIMIT_NOFILE)
    assert expected == open_files.raise_limit()


def test_a_system_that_refuses_is_lived_with_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 10_000))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    with capture_logs() as logs:
        assert 256 == open_files.raise_limit()
    assert [("open_files.low", 256)] == [(line["event"], line["limit"]) for line in logs]


@pytest.mark.parametrize(("limit", "probes"), [(4, 1), (64, 8), (1024, 128), (65_536, 128)])
def test_probes_get_a_small_part(limit: int, probes: int) -> None:
    assert probes == open_files.probe_connections(limit, 128)

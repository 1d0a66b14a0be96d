"""Which connections a process is deployed with; a few numbers choose among them."""

from functools import lru_cache
from typing import Any, Protocol

import msgspec

from forwarder.collect.pipeline import Lane, LaneSet
from forwarder.config.connection import Batching, Connection, Settings, Status
from forwarder.config.targets import KinesisTarget
from forwarder.formats.registry import BUILT_IN
from tests.model.input import RETRIED

LANES = ("acme", "beta", "gamma", "solo")
RENAMED = {"beta": "gamma"}
MODES: tuple[dict[str, Any], ...] = (
    {},
    {},
    {"wait_for_complete_batch": True},
    {"send_as_batch": False},
)
HASTY_MS = 4_000
WINDOWS_MS = (0, 4_000, 40_000)
"""How far apart events that come again are looked for."""

BETA = ("here", "here", "here", "absent", "inactive", "renamed")


class Deploy(msgspec.Struct, frozen=True):
    """What one rollout configures.

    ``mode``, ``narrow`` (no screen views) and ``hasty`` (shorter and smaller windows, smaller
    records) are acme's; beta and gamma forward no notifications, whatever they take up;
    ``beta`` says what became of that lane; ``deliver_from_ms`` is solo's, ``retired`` names
    what the operator gave up; ``duplicates_ms`` is the topic's.
    """

    mode: int = 0
    narrow: bool = False
    hasty: bool = False
    beta: str = "here"
    deliver_from_ms: int | None = None
    retired: tuple[str, ...] = ()
    everything: bool = False
    duplicates_ms: int = 0

    @property
    def lanes(self) -> list[str]:
        """Return the names of the lanes that are configured."""
        beta = {"absent": [], "renamed": ["gamma"]}.get(self.beta, ["beta"])
        return ["acme", *beta, "solo"] if not self.everything else list(LANES)

    def compiled(self) -> LaneSet:
        """Return the lanes, compiled once for all histories."""
        return LaneSet(RETRIED, tuple(_compiled(self.connection(name)) for name in self.lanes))

    def connection(self, name: str) -> Connection:
        """Return one connection."""
        if name == "acme":
            settings = {"send_screen_views": not self.narrow, **MODES[self.mode]}
            return _connection(name, HASTY_MS if self.hasty else 10_000, settings)
        if name == "solo":
            settings = {"send_as_batch": False, "send_screen_views": False}
            return _connection(name, 10_000, settings, since=self.deliver_from_ms)
        settings = {
            "wait_for_complete_batch": True,
            "include_location_information": False,
            "include_system_notifications": False,
        }
        inactive = self.beta == "inactive" and name == "beta"
        return _connection(name, 10_000, settings, inactive=inactive)


class Writer(Protocol):
    """Whoever writes to the journal: all there is to know of it is its deploy."""

    deploy: Deploy


def deploy(a: int, b: int, now_ms: int, duplicates: int = 0) -> Deploy:
    """Return the deploy that two numbers stand for; ``duplicates`` 0: none are ever looked for."""
    since = now_ms - 2_000 * (b // 12 % 4) if b // 6 % 2 else None
    beta = BETA[b % 6]
    retired = {"absent": ("beta",), "renamed": ("beta",)}.get(beta, ("gamma",))
    return Deploy(
        mode=a % 4,
        narrow=a // 4 % 2 == 1,
        hasty=a // 8 % 2 == 1,
        beta=beta,
        deliver_from_ms=since,
        retired=retired if b // 48 % 4 == 3 else (),
        duplicates_ms=WINDOWS_MS[(duplicates + a // 16) % 3] if duplicates else 0,
    )


EVERYTHING = Deploy(everything=True)


def _connection(
    name: str,
    age_ms: int,
    settings: dict[str, Any],
    *,
    inactive: bool = False,
    since: int | None = None,
) -> Connection:
    return Connection(
        name=name,
        sink=KinesisTarget(name, "eu-west-1", max_record_bytes=record_bytes(name, age_ms)),
        status=Status.INACTIVE if inactive else Status.ACTIVE,
        deliver_from_ms=since,
        settings=Settings(**settings),
        batching=Batching(
            max_age_ms=age_ms,
            max_events=2 if age_ms == HASTY_MS else 5,
            session_timeout_ms=8_000,
            session_grace_ms=2_000,
            session_max_ms=20_000,
        ),
    )


def record_bytes(name: str, age_ms: int) -> int:
    """Return the limit of a record: where it is 700, five events are two documents."""
    if name in {"beta", "gamma"}:
        return 700
    return 1_000 if age_ms == HASTY_MS else 1_200


@lru_cache(maxsize=256)
def _compiled(connection: Connection) -> Lane:
    return Lane(connection, RETRIED, BUILT_IN)

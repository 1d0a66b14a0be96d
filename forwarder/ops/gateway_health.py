"""How a gateway is: alive, ready, and in detail for people.

Alive is as with a worker. Ready means that it listens, does not drain, that Kafka takes records and
the endpoint store answers, and that there is room for requests. Else a load balancer had better
send requests to another one; whatever comes all the same is answered, as far as it can be.
"""

from collections.abc import Callable, Collection
from typing import Any

from forwarder.clock import Clock
from forwarder.ops.health import HEARTBEAT_TIMEOUT, StatusEntry

UP, WAITING = "up", "waiting"

NOT_ASKED = "it has not been asked yet"


class GatewayHealth:
    """What the probes answer from. Caller: the gateway; affects nothing else."""

    def __init__(self, clock: Clock, needs: Collection[str], is_full: Callable[[], bool]) -> None:
        """Create: alive, not ready. ``needs``: names of what it needs. ``is_full``: of requests."""
        self._clock = clock
        self._beaten = clock.steady()
        self._is_full = is_full
        self._listening = self._draining = False
        self._needs = {name: StatusEntry(WAITING, clock.wall_ms(), NOT_ASKED) for name in needs}

    def heartbeat(self) -> None:
        """Note that the loop makes progress."""
        self._beaten = self._clock.steady()

    def heartbeat_age(self) -> float:
        """Return the seconds since the last heartbeat."""
        return self._clock.steady() - self._beaten

    def alive(self) -> bool:
        """Tell whether the loop goes round."""
        return self.heartbeat_age() < HEARTBEAT_TIMEOUT

    def listens(self) -> None:
        """Note that requests are accepted."""
        self._listening = True

    def drains(self) -> None:
        """Note that the end has begun: not ready from now on."""
        self._draining = True

    def answers(self, name: str) -> bool:
        """Note that something needed answers; tell whether that is news."""
        return self._set(name, StatusEntry(UP, self._clock.wall_ms()))

    def fails(self, name: str, reason: str, remedy: str) -> bool:
        """Note that something needed does not answer, and why; tell whether that is news."""
        return self._set(name, StatusEntry(WAITING, self._clock.wall_ms(), reason, remedy))

    def ready(self) -> bool:
        """Tell whether requests can be accepted and what they need answers."""
        return (
            self._listening
            and not self._draining
            and not self._is_full()
            and all(entry.state == UP for entry in self._needs.values())
        )

    def described(self) -> dict[str, Any]:
        """Return everything as JSON can hold it."""
        full = {"reason": "gateway.limits.buffered_bytes is reached"} if self._is_full() else {}
        return {
            "ready": self.ready(),
            "listening": self._listening,
            "draining": self._draining,
            **full,
            **{name: entry.described() for name, entry in self._needs.items()},
        }

    def _set(self, name: str, entry: StatusEntry) -> bool:
        before = self._needs[name]
        if before.state == entry.state:
            entry.since_ms = before.since_ms
        self._needs[name] = entry
        return (before.state, before.reason) != (entry.state, entry.reason)

"""What lanes are given to deliver, and what they hand back to whoever owns them.

Nothing here knows a partition or a worker: a lane is told by value until when it may put
(``Lease``), and leaves what it came to in ``DeliveryResults``, to be collected.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from forwarder.clock import Clock
from forwarder.deliver.rate_limit import RateLimiter
from forwarder.deliver.readback import Readback, ScanLimiter
from forwarder.errors import JournalError
from forwarder.model import Batch, Outcome
from forwarder.ops.reporter import Reporter
from forwarder.sinks.contract import Sink


class LanePolicy(msgspec.Struct, frozen=True):
    """What a connection file says about delivering one lane of one partition.

    ``deliver_from_ms``: batches closed earlier are dropped unsent (D5); None: none are.
    ``keyed``: batches of one device go to one shard, so that the shard of the last tells of the
    next.
    """

    lane: str
    partition: str
    active: bool
    deliver_from_ms: int | None = None
    keyed: bool = True


class Lease:
    """Until when puts of one partition may start (D3, R3), in steady seconds.

    Written by the owner of the deliveries: extended by a tick that committed, revoked by a new
    assignment. Asked by its lanes before every put.
    """

    def __init__(self, until: float = float("-inf")) -> None:
        """Allow puts until then; by default none."""
        self.until = until

    def extend(self, until: float) -> None:
        """Let puts start until ``until``: a tick begun within this assignment has committed."""
        self.until = until

    def revoke(self) -> None:
        """Let no put start until the lease is extended again (R3)."""
        self.until = float("-inf")

    def allows(self, now: float) -> bool:
        """Tell whether a put may start at ``now``."""
        return now <= self.until


class Refused(NamedTuple):
    """A batch that its destination refuses for good, and with what answer."""

    batch: Batch
    outcome: Outcome


class DeliveryResults:
    """What the lanes of one partition have come to and nobody has collected yet.

    Written by the lanes and their read-back; collected by the owner of the deliveries, a partition
    when it draws a tick. An acknowledgement and the refusal that goes with it are written in one
    step, so that whoever collects between two steps of the event loop has both or neither (D4).

    ``cursor_moved``: a cursor is another than at the last tick. ``lease_wanted``: a put waits for
    the lease to be extended. ``refused_bytes``: the payload of ``refused``. ``failed`` is done once
    delivering cannot go on (what is stored cannot be read, or a fault nobody foresaw): the opening
    is to be ended. It is the only way on which deliveries tell of a failure.
    """

    def __init__(self, notify: Callable[[], None]) -> None:
        """Begin with nothing; ``notify`` is called after every change but for ``failed``."""
        self.cursor_moved = False
        self.lease_wanted = False
        self.refused: list[Refused] = []
        self.refused_bytes = 0
        self.failed: asyncio.Future[JournalError] = asyncio.get_running_loop().create_future()
        self._notify = notify

    def note_moved(self) -> None:
        """Note that batches were acknowledged or dropped, refusals of the same put included."""
        self.cursor_moved = True
        self._notify()

    def note_refused(self, batch: Batch, outcome: Outcome) -> None:
        """Note a batch to become a dead letter; the caller acknowledges it in the same step."""
        self.refused.append(Refused(batch, outcome))
        self.refused_bytes += len(batch.payload)

    def want_lease(self) -> None:
        """Note that a put could start but for the lease."""
        self.lease_wanted = True
        self._notify()

    def fail(self, error: JournalError) -> None:
        """Note that delivering cannot go on; the first reason counts."""
        if not self.failed.done():
            self.failed.set_result(error)

    def collect(self) -> list[Refused]:
        """Return what was refused, and clear all results but ``failed``."""
        refused, self.refused, self.refused_bytes = self.refused, [], 0
        self.cursor_moved = self.lease_wanted = False
        return refused


class LaneContext(msgspec.Struct, frozen=True, kw_only=True):
    """What one lane works with besides its policy, queue and sink.

    ``random`` gives numbers in [0, 1) for jitter. ``rate_limit`` is shared with the connection's
    lanes of other partitions. ``readback`` reads stored batches that were cut from memory; None:
    nothing can be read again, so that nothing is cut.
    """

    clock: Clock
    random: Callable[[], float]
    reporter: Reporter
    rate_limit: RateLimiter
    lease: Lease
    results: DeliveryResults
    readback: Readback | None = None


class DeliverContext(msgspec.Struct, frozen=True, kw_only=True):
    """What the deliveries of all partitions of a worker share.

    ``sinks`` by connection; ``queue_bytes`` is the most payload that one lane of one partition
    keeps in memory, ``scan_limiter`` has the budget for all of them together. ``rate_limits`` by
    connection; one is made when its first lane is.
    """

    sinks: Mapping[str, Sink]
    clock: Clock
    reporter: Reporter
    random: Callable[[], float]
    queue_bytes: int
    scan_limiter: ScanLimiter
    rate_limits: dict[str, RateLimiter] = msgspec.field(default_factory=dict)

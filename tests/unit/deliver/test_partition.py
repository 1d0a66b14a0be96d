"""All lanes of one partition: what an opening makes of them, and what a tick collects."""

import asyncio
import math
from collections.abc import Collection

from forwarder.config.connection import Connection, Status
from forwarder.config.targets import FileTarget
from forwarder.deliver.lane_notes import LAG_FIELD, REASON_FIELD
from forwarder.deliver.partition import PartitionDeliveries
from forwarder.errors import JournalError
from forwarder.journal.contract import OutboxSlice
from forwarder.journal.state import LaneState
from forwarder.model import DELIVERED, Batch, Outcome, Reason
from forwarder.ops.reporter import LaneStatus
from tests import doubles
from tests.batches import batch
from tests.lagging import of
from tests.lanes import CONFIGURATION, REFUSED, deliver_context
from tests.world import virtually

NAMES = ("acme", "beta")


class Sink(doubles.ScriptedSink):
    """Answers as it is told for a batch, else takes it."""

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: dict[str, Outcome] = {}

    def answer(self, batch: Batch, tried: int) -> Outcome:  # noqa: ARG002  # always the same
        return self.outcomes.get(batch.id, DELIVERED)


class Scene:
    """The deliveries of two connections."""

    def __init__(self, end: int = 0, *, inactive: str = "", breaks: str = "") -> None:
        self.asked = 0
        self.breaks = breaks
        self.sink = Sink()
        sinks = dict.fromkeys(NAMES, self.sink)
        context = deliver_context(sinks, doubles.LoopClock(), doubles.Notes(), queue_bytes=10_000)
        connections = [
            Connection(
                name,
                FileTarget("out"),
                status=Status.INACTIVE if name == inactive else Status.ACTIVE,
            )
            for name in NAMES
        ]
        self.stored = {name: LaneState() for name in NAMES}
        self.deliveries = PartitionDeliveries(
            context,
            "raw/0",
            connections,
            self.stored,
            end=(end, 0),
            read=self.read,
            notify=self.notify,
        )

    def notify(self) -> None:
        self.asked += 1

    async def read(self, lanes: Collection[str], start: int, end: int, size: int) -> OutboxSlice:
        assert (set(NAMES), 0 <= start < end, size > 0) == (set(lanes), True, True)
        if self.breaks:
            raise JournalError(self.breaks)
        return OutboxSlice([], end, 0)

    def commit(self, end: int, **fresh: Batch) -> None:
        addressed = {name: [((end - 1, 0), of(name, one))] for name, one in fresh.items()}
        self.deliveries.committed((end, 0), {}, addressed)


@virtually
async def test_nothing_is_put_before_the_lease_is_extended_and_it_is_asked_for() -> None:
    scene = Scene()
    scene.commit(1, acme=batch("1"))
    await asyncio.sleep(1.0)
    assert (0, True, 1) == (
        len(scene.sink.puts), scene.deliveries.results.lease_wanted, scene.asked
    )  # fmt: skip
    scene.deliveries.lease.extend(math.inf)
    scene.deliveries.wake()
    await asyncio.sleep(1.0)
    assert ["1"] == [one.id for one in scene.sink.landed]
    await scene.deliveries.close()


@virtually
async def test_a_refusal_is_collected_with_the_cursor_that_passes_it() -> None:
    scene = Scene()
    scene.deliveries.lease.extend(math.inf)
    scene.sink.outcomes["bad"] = REFUSED
    scene.commit(1, acme=batch("bad", key="a"))
    await asyncio.sleep(0.01)
    scene.commit(2, acme=batch("good", key="b"))
    await asyncio.sleep(100.0)
    cursor = scene.deliveries.cursor("acme", scene.stored["acme"])
    assert ((2, 0), frozenset()) == cursor
    assert {"acme": 1} == scene.deliveries.waiting_events()
    assert not scene.deliveries.is_idle()
    [letter] = scene.deliveries.collect_refused()
    assert (Reason.REFUSED, "acme", 1) == (letter.reason, letter.connection, letter.events)
    assert "Validation: not that one" == letter.error
    assert scene.deliveries.is_idle()
    assert [] == scene.deliveries.collect_refused()
    await scene.deliveries.close()


@virtually
async def test_a_lane_that_is_not_delivered_here_is_told_as_it_is_stored() -> None:
    scene = Scene()
    stored = LaneState(cursor=(7, 1), acked=frozenset({(8, 0)}))
    assert ((7, 1), frozenset({(8, 0)})) == scene.deliveries.cursor("other", stored)
    assert scene.deliveries.notes("other", {REASON_FIELD: {}}, 1_000) is None
    await scene.deliveries.close()


@virtually
async def test_a_lane_that_flows_has_no_notes_and_one_that_is_paused_says_why() -> None:
    scene = Scene()
    scene.deliveries.lease.extend(math.inf)
    assert scene.deliveries.notes("acme", {}, 1_000_000) is None
    scene.sink.outcomes["1"] = CONFIGURATION
    scene.commit(1, acme=batch("1"))
    await asyncio.sleep(1.0)
    assert LaneStatus.PAUSED is scene.deliveries.lanes["acme"].status
    found = scene.deliveries.notes("acme", {}, 1_000_000)
    assert found is not None
    assert ("not allowed", False) == (found[REASON_FIELD]["reason"], LAG_FIELD in found)
    await scene.deliveries.close()


@virtually
async def test_an_inactive_lane_holds_nobody_up_and_keeps_its_cursor() -> None:
    scene = Scene(end=3, inactive="beta")
    scene.deliveries.lease.extend(math.inf)
    scene.deliveries.wake()
    await asyncio.sleep(1.0)
    assert scene.deliveries.is_idle()
    found = [scene.deliveries.cursor(name, scene.stored[name])[0] for name in NAMES]
    assert [(3, 0), (0, 0)] == found
    await scene.deliveries.close()


@virtually
async def test_an_outbox_that_cannot_be_read_ends_it_in_the_one_way_there_is() -> None:
    scene = Scene(end=3, breaks="the broker is away")
    scene.deliveries.lease.extend(math.inf)
    scene.deliveries.wake()
    assert "the broker is away" == str(await scene.deliveries.results.failed)
    await scene.deliveries.close()

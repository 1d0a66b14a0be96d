"""The scans of a partition, and what asks for them: that none is forgotten."""

import asyncio

from forwarder.deliver.readback import Readback, ScanLimiter
from forwarder.journal.contract import OutboxRecord, OutboxSlice
from forwarder.model import Address
from tests.lagging import Partition, some
from tests.world import virtually

KIB = 1024


@virtually
async def test_a_lane_that_asks_just_as_the_scans_end_is_served() -> None:
    class Quiet:
        resumed = 0

        def wanted_from(self) -> None:
            return None

        def offer(self, record: OutboxRecord) -> int:
            raise AssertionError(record)

        def skip_to(self, upto: Address) -> None:
            raise AssertionError(upto)

        def resume_after_scan(self) -> None:
            self.resumed += 1

    partition, lanes = Partition(), {"acme": Quiet(), "zeta": Quiet()}
    scans = Readback(ScanLimiter(partition.clock), partition.read, (0, 0), partition.results.fail)
    scans.serve(lanes)
    scans.ask("acme")
    loop, task = asyncio.get_running_loop(), scans._task  # noqa: SLF001  # when it ends

    def ask_at_its_end() -> None:
        assert task is not None
        if task.done():
            scans.ask("zeta")
        else:
            loop.call_soon(ask_at_its_end)

    loop.call_soon(ask_at_its_end)
    await asyncio.sleep(1)
    assert 1 == lanes["zeta"].resumed
    await scans.close()
    scans.ask("acme")
    await asyncio.sleep(1)
    assert 1 == lanes["acme"].resumed


@virtually
async def test_scans_that_somebody_else_cancels_end_the_opening() -> None:
    async def cancelled(*_: object) -> OutboxSlice:
        raise asyncio.CancelledError  # as a client that was closed

    partition = Partition(read=cancelled)
    partition.commit(acme=some("a", 3, KIB))
    partition.lane("acme", cursor=(0, 0))
    partition.readback.ask("acme")
    await asyncio.sleep(1)
    assert partition.results.failed.done()
    await partition.close()

"""Random histories of one partition: crashes, unknown outcomes, zombies, deploys, bad sinks."""

import asyncio
from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forwarder import testing
from forwarder.connection import Connection
from forwarder.surroundings import Phase
from tests.world import World, connection

DEVICES = st.sampled_from(["d1", "d2", "d3"])
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["custom_event"] * 6 + ["screen_view", "session_end"]),
        st.sampled_from(["s1", "s1", "s2", ""]),
    ),
    min_size=1,
    max_size=2,
)
DEPLOYS = st.tuples(
    st.sampled_from(["batch", "batch", "session", "single"]),  # how acme makes documents
    st.booleans(),  # whether acme filters screen views
    st.sampled_from(["here", "here", "here", "absent", "inactive"]),  # beta
)
FLOW = st.tuples(st.just("flow"), DEVICES, EVENTS, st.sampled_from([0.1, 0.7, 1.5]))
TROUBLE = st.one_of(
    st.tuples(st.just("feed"), DEVICES, EVENTS, st.sampled_from([0, 3_000, 15_000])),
    st.tuples(st.just("garbage")),
    st.tuples(st.just("collect"), st.integers(1, 6)),
    st.tuples(st.just("tick")),
    st.tuples(st.just("begin_tick")),
    st.tuples(st.just("sleep"), st.sampled_from([0.01, 0.3, 1.0, 5.0, 13.0])),
    st.tuples(st.just("expire")),
    st.tuples(st.just("fail"), st.sampled_from(["aborted", "unanswered"])),
    st.tuples(st.just("crash"), DEPLOYS),
    st.tuples(st.just("take_over"), DEPLOYS),
    st.tuples(st.just("rebalance")),
    st.tuples(st.just("stale")),
    st.tuples(
        st.just("mood"),
        st.sampled_from(["acme", "beta", "solo"]),
        st.sampled_from(["up", "down", "mute", "closed", "picky"]),
    ),
    st.tuples(st.just("cut"), st.sampled_from(["acme", "beta", "solo"])),
)
ACTIONS = st.integers(0, 9).flatmap(lambda n: FLOW if n < 7 else TROUBLE)
MODES: dict[str, dict[str, Any]] = {
    "batch": {},
    "session": {"wait_for_complete_batch": True},
    "single": {"send_as_batch": False},
}


class Story:
    """One history, and what it allows in the end."""

    def __init__(self) -> None:
        self.world = World()
        self.deploy: tuple[str, bool, str] = ("batch", False, "here")
        self.filtered = False
        self.rested = False
        self.ticks: list[asyncio.Task[None]] = []

    def connections(self) -> list[Connection]:
        """Return what today's deploy configures, and note what it may cost."""
        mode, filtered, beta = self.deploy
        self.filtered |= filtered
        self.rested |= beta == "inactive"
        found = [
            connection("acme", send_screen_views=not filtered, **MODES[mode]),
            connection("solo", send_as_batch=False),
        ]
        if beta != "absent":
            found.append(connection("beta", active=beta == "here", wait_for_complete_batch=True))
        return found

    async def play(self, actions: Sequence[tuple[Any, ...]]) -> None:
        await self.world.open(self.connections())
        await self.world.owner.tick()
        for name, *arguments in actions:
            await getattr(self, f"do_{name}")(*arguments)
            await self.recover()
        await self.conclude()

    async def do_feed(self, device: str, events: list[tuple[str, str]], late_ms: int) -> None:
        self.world.feed(device, events, late_ms)

    async def do_flow(self, device: str, events: list[tuple[str, str]], seconds: float) -> None:
        self.world.feed(device, events)
        self.world.collect(4)
        await asyncio.sleep(seconds)
        await self.world.owner.tick()

    async def do_garbage(self) -> None:
        self.world.feed_raw(b"{")

    async def do_collect(self, count: int) -> None:
        self.world.collect(count)

    async def do_tick(self) -> None:
        await self.world.owner.tick()

    async def do_begin_tick(self) -> None:
        self.ticks.append(asyncio.create_task(self.world.owner.tick()))
        await asyncio.sleep(0)

    async def do_sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def do_expire(self) -> None:
        await self.world.owner.expire(self.world.clock.wall_ms())

    async def do_fail(self, how: str) -> None:
        self.world.journals.outcomes.append(how)

    async def do_crash(self, deploy: tuple[str, bool, str]) -> None:
        await self.world.crash()
        self.deploy = deploy
        await self.world.open(self.connections())

    async def do_take_over(self, deploy: tuple[str, bool, str]) -> None:
        self.deploy = deploy
        await self.world.open(self.connections())

    async def do_rebalance(self) -> None:
        await self.world.rebalance()

    async def do_stale(self) -> None:
        self.world.journals.stale = not self.world.journals.stale

    async def do_mood(self, lane: str, mood: str) -> None:
        self.world.moods[lane] = mood

    async def do_cut(self, lane: str) -> None:
        if lane in self.world.owner.deliveries:
            self.world.owner.deliveries[lane].queue.evict(0)

    async def recover(self) -> None:
        """Let zombies try, and open again after a failed tick (R4)."""
        for zombie in self.world.zombies:
            if zombie.phase is Phase.OPEN:
                before = self.world.oracle.state.n
                await zombie.tick()
                assert before <= self.world.oracle.state.n
        if self.world.owner.phase is not Phase.OPEN:
            await self.world.crash()
            await self.world.open(self.connections())

    async def conclude(self) -> None:
        """Open with every lane and destination well, read and deliver everything, count."""
        world = self.world
        await asyncio.gather(*self.ticks)
        world.moods.clear()
        world.journals.outcomes.clear()
        await world.crash()
        mode, filtered, _ = self.deploy
        self.deploy = (mode, filtered, "here")
        await world.open(self.connections())
        world.collect()
        world.owner.finish()
        await world.until_idle()
        self.judge()
        await world.close()

    def judge(self) -> None:
        world = self.world
        for lane in ("acme", "beta", "solo"):
            for number, (_, kind) in world.kinds.items():
                optional = (lane == "acme" and self.filtered and kind == "screen_view") or (
                    lane == "beta" and self.rested
                )
                found = world.oracle.events[(lane, number)]
                assert found == 1 or (optional and not found), f"I1: {lane} {number} {found}"
        bad = [m.offset for m in world.input if m.value == b"{"]
        undecodable = {o: n for (name, o), n in world.letters().items() if not name}
        assert undecodable == dict.fromkeys(bad, 1), "I9: dead letters of the decoder"
        assert world.oracle.watermark == len(world.input), "I14: W reaches the end"
        for lane, batches in world.oracle.batches.items():
            done = world.oracle.landed.get(lane, set()) | {
                i for name, i in world.oracle.excused if name == lane
            }
            assert {b.id for b in batches.values()} <= done, "a batch was never delivered"


@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(st.lists(ACTIONS, min_size=15, max_size=50), st.booleans())
def test_every_event_is_committed_once_and_delivered_whatever_happens(
    actions: list[tuple[Any, ...]],
    in_order: bool,  # noqa: FBT001  # drawn
) -> None:
    story = Story()
    story.world.in_order = {"solo", "acme"} if in_order else set()
    testing.run_virtually(story.play(actions))

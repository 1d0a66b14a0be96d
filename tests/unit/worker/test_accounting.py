"""What a process takes in, over every opening of a partition, is accounted for at every moment."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.collect import redrive
from forwarder.config.connection import Connection
from forwarder.model import Batch, Collected, DeadLetter, Released
from tests import doubles
from tests.books import Books
from tests.world import Notes, World, connection, upload, virtually

SETS = [
    [connection("solo", send_as_batch=False), connection("acme", send_screen_views=False)],
    [
        connection("solo", send_batches_without_events=True),
        connection("acme", wait_for_complete_batch=True),
    ],
    [connection("acme", active=False, send_custom_events=False), connection("solo")],
    [connection("solo", deliver_from_ms=1_700_000_030_000)],
]
KINDS = ["custom_event", "screen_view", "session_end", "odd"]
NAMES = ["", "acme", "solo", "gone"]


class Keeping(Notes):
    """Keeps the books of one process."""

    def __init__(self) -> None:
        super().__init__()
        self.books = Books()

    def collected(self, partition: str, collected: Collected) -> None:
        super().collected(partition, collected)
        self.books.collected(collected)

    def delivered(self, lane: str, batches: Sequence[Batch]) -> None:
        super().delivered(lane, batches)
        self.books.delivered(lane, batches)

    def dead_letters(self, partition: str, letters: Sequence[DeadLetter]) -> None:
        super().dead_letters(partition, letters)
        self.books.dead_letters(letters)

    def taken_over(self, lane: str, events: int) -> None:
        self.books.taken_over(lane, events)

    def passed_over(self, lane: str, events: int) -> None:
        self.books.passed_over(lane, events)

    def released(self, partition: str, what: Released) -> None:  # noqa: ARG002
        self.books.released(what)


class Process:
    """A world, what is done in it, and the books of all its openings."""

    def __init__(self, chosen: list[Connection]) -> None:
        self.world = World()
        self.world.base_interval = 1.0
        self.notes = self.world.notes = Keeping()
        self.chosen = chosen
        self.number = 0

    async def act(self, step: tuple[str, int, int]) -> None:
        name, a, b = step
        await getattr(self, f"do_{name}")(a, b)
        self.judge()
        await asyncio.sleep((0, 0.01, 0.3, 1.1, 3)[b % 5])
        self.judge()

    def judge(self) -> None:
        owned = [one for one in (self.world.owned, *self.world.zombies) if one is not None]
        waiting: Counter[str] = Counter()
        for one in owned:
            waiting.update(one.waiting())
        assert [] == self.notes.books.faults(waiting)

    async def do_feed(self, a: int, b: int) -> None:
        self.append(self.upload(a, b))
        self.world.collect(1 + b % 3)

    async def do_back(self, a: int, b: int) -> None:
        """Send a dead letter back, or a refused batch."""
        told = {redrive.REASON_HEADER: ("invalid_json", "refused_by_sink")[a % 2]}
        if name := NAMES[b % len(NAMES)]:
            told[redrive.CONNECTION_HEADER] = name
        value = self.upload(a, b)
        if a % 3:
            value = b'{"message_id":"m%d",%b' % (self.number, value[1:])
        self.append(value, tuple((key, text.encode()) for key, text in told.items()))
        self.world.collect()

    async def do_odd(self, a: int, b: int) -> None:  # noqa: ARG002
        self.append(
            (b"{", b'{"mpid":7,"mp_deviceid":"d1"}', None, b'{"events":[],"mpid":7}')[a % 4]
        )
        self.world.collect()

    async def do_tick(self, a: int, b: int) -> None:  # noqa: ARG002
        outcome = ("ok", "ok", "aborted", "unanswered")[a % 4]
        self.world.journals.outcomes = [outcome]
        await self.world.owner.ticks.tick()
        if not self.world.owner.is_open():
            await self.do_crash(0, a)

    async def do_crash(self, a: int, b: int) -> None:
        """Lose the opening, or find at once that another took over; perhaps deploy."""
        if a % 3 == 1:
            self.world.owner.suspend()
        else:
            await self.world.crash()
            self.judge()
        if b % 4 == 0:
            self.chosen = SETS[b // 4 % len(SETS)]
        self.world.journals.outcomes = []
        await self.world.open(self.chosen)
        self.judge()
        self.world.collect()

    async def do_mood(self, a: int, b: int) -> None:
        self.world.moods[("acme", "solo")[a % 2]] = ("up", "down", "picky", "mute", "closed")[b % 5]

    async def do_rebalance(self, a: int, b: int) -> None:  # noqa: ARG002
        await self.world.rebalance()

    async def do_expire(self, a: int, b: int) -> None:  # noqa: ARG002
        await self.world.owner.expire(self.world.clock.wall_ms())

    async def do_shed(self, a: int, b: int) -> None:  # noqa: ARG002
        self.world.owner.close_for_memory(1)

    def upload(self, a: int, b: int) -> bytes:
        events = []
        for index in range(a % 4):
            self.number += 1
            kind, session = KINDS[(a + b + index) % len(KINDS)], f"s{b % 2}"
            events.append((self.number, kind, session))
        return upload(f"d{b % 3}", *events)

    def append(self, value: bytes | None, headers: tuple[tuple[str, bytes], ...] = ()) -> None:
        world = self.world
        at = world.clock.wall_ms()
        message: Any = doubles.Message(len(world.input), at, value, headers)
        world.input.append(message)


NAMED = [
    *["feed"] * 3, *["tick"] * 3, "back", "odd", "crash", "mood", "rebalance", "expire", "shed",
]  # fmt: skip
STEPS = st.lists(
    st.tuples(
        st.sampled_from(NAMED),
        st.integers(0, 11),
        st.integers(0, 20),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SETS), STEPS)
def test_whatever_becomes_of_an_opening_its_events_are_accounted_for(
    chosen: list[Connection], steps: list[tuple[str, int, int]]
) -> None:
    @virtually
    async def play() -> None:
        process = Process(chosen)
        await process.world.open(chosen)
        await process.world.owner.ticks.tick()
        for step in steps:
            await process.act(step)
        await process.world.crash()
        for zombie in process.world.zombies:
            await zombie.close()
        process.judge()

    play()

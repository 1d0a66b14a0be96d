"""Dead letters that come back through an owned partition, in virtual time."""

import asyncio

from forwarder.collect import redrive
from forwarder.model import DeadLetter, Reason
from tests import doubles
from tests.partition_oracle import PARTITION
from tests.world import BATCH, EVENT, SINGLE, World, finished, opened, reopened, upload, virtually

KEY = "ab" * 16
REFUSED_ID, TAKEN_ID = "0aaa", "1bbb"


def send_back(world: World, value: bytes, reason: str, lane: str = "") -> None:
    """Append what the command writes."""
    told = {
        redrive.REASON_HEADER: reason,
        redrive.CONNECTION_HEADER: lane,
        redrive.DEVICE_HEADER: KEY,
    }
    headers = tuple((name, text.encode()) for name, text in told.items() if text)
    at = world.clock.wall_ms()
    world.input.append(doubles.Message(len(world.input), at, value, headers))


def document(number: int, name: str) -> bytes:
    """Return a batch with one event."""
    whole = upload("d1", (number, "custom_event", "s1"))
    return b'{"message_id":"%b",%b' % (name.encode(), whole[1:])


def letters(world: World) -> list[DeadLetter]:
    return list(world.journals.log(PARTITION).dead_letters)


@virtually
async def test_a_batch_that_comes_back_is_delivered_with_its_id() -> None:
    world = await opened([*SINGLE, *BATCH])
    send_back(world, document(900, TAKEN_ID), "refused_by_sink", "acme")
    world.collect()
    await finished(world)
    assert ([TAKEN_ID], []) == (world.ids("acme"), world.ids("solo"))
    assert {TAKEN_ID} == world.oracle.landed["acme"]


@virtually
async def test_a_batch_that_is_refused_again_is_marked_and_keeps_its_key() -> None:
    world = await opened()
    world.moods["solo"] = "picky"
    send_back(world, document(900, REFUSED_ID), "refused_by_sink", "solo")
    for number in range(20):
        world.feed(f"d{number}", [EVENT])
    world.collect()
    for _ in range(60):
        await world.owner.ticks.tick()
        await asyncio.sleep(5)
    found = {letter.redriven: letter for letter in letters(world)}
    assert (Reason.REFUSED, "solo", bytes.fromhex(KEY)) == (
        found[True].reason,
        found[True].connection,
        found[True].device,
    )
    assert document(900, REFUSED_ID) == found[True].value
    assert (1, 1) == (found[True].events, found[False].events)
    assert not found[False].redriven
    assert found[False].device
    world.moods.clear()
    await finished(world)


@virtually
async def test_what_comes_back_comes_once_whatever_is_replayed() -> None:
    """An open window before it holds the watermark, so that a restart reads it again."""
    world = await opened(BATCH)
    first = world.feed("d1", [EVENT])
    send_back(world, upload("d1", (900, "custom_event", "s1")), "not_encodable", "acme")
    send_back(world, document(901, TAKEN_ID), "refused_by_sink", "acme")
    send_back(world, b"{", "invalid_json")
    world.collect()
    assert 1 == world.owner.pipeline.open_windows()
    await world.owner.ticks.tick()
    for _ in range(3):
        await reopened(world, BATCH)
        assert 0 == world.owner.position
        world.collect()
        await world.owner.ticks.tick()
    await finished(world)
    assert [[900], [901], first] == world.documents("acme")
    assert [True] == [letter.redriven for letter in letters(world)]


@virtually
async def test_a_crash_before_the_tick_loses_nothing_that_came_back() -> None:
    world = await opened(BATCH)
    send_back(world, upload("d1", (900, "custom_event", "s1")), "not_encodable", "acme")
    world.collect()
    await world.crash()
    await reopened(world, BATCH)
    world.collect()
    await finished(world)
    assert [[900]] == world.documents("acme")

"""An opening that has ended gives its memory back at once, whatever ended it, without a collector.

What there is at an opening is kept out of collections for long.
"""

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from forwarder.errors import FencedError, JournalError
from tests.membership import P0, P1, Scene
from tests.world import virtually


@pytest.fixture(autouse=True)
def uncollected() -> Iterator[None]:
    """Collect nothing during a test."""
    gc.disable()
    yield
    gc.enable()


def fail_from_outside(scene: Scene) -> None:
    scene.owned().fail(JournalError("no answer"))


def fail_a_tick(scene: Scene) -> None:
    scene.journals.commit_failures.append(FencedError("another worker"))
    scene.feed()


def fail_the_deliveries(scene: Scene) -> None:
    scene.owned().deliveries.results.fail(JournalError("no answer"))


ENDS = [fail_from_outside, fail_a_tick, fail_the_deliveries]


def seen(scene: Scene) -> list[weakref.ref[object]]:
    """Return references to what holds an opening's memory."""
    opened = scene.owned()
    return [weakref.ref(one) for one in (opened, opened.pipeline, opened.ticks)]


@virtually
async def test_an_opening_that_failed_is_gone_once_there_is_another() -> None:
    for end in ENDS:
        async with Scene() as scene:
            await scene.source.assign(P0)
            scene.feed()
            await asyncio.sleep(100)
            before = seen(scene)
            end(scene)
            await asyncio.sleep(100)
            scene.feed()  # the worker has its last poll at hand until the next
            await asyncio.sleep(100)
            assert 2 == len(scene.journals.opened)
            assert [None] * 3 == [one() for one in before], end.__name__


@virtually
async def test_an_opening_is_gone_with_its_partition() -> None:
    async with Scene() as scene:
        await scene.source.assign(P0)
        scene.feed()
        await asyncio.sleep(100)
        before = seen(scene)
        await scene.source.assign(P1)
        scene.feed(P1)
        await asyncio.sleep(100)
        assert [None] * 3 == [one() for one in before]

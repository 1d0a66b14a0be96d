"""After a random history Kafka loses something: the next opening refuses, and guesses nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from forwarder.model import Commit
from tests.model.deploys import EVERYTHING
from tests.model.history import history, quietly
from tests.model.kafka import Stored
from tests.model.loop import Fault
from tests.model.world import World

SEEDS = range(200, 206)
Loss = Callable[[Stored], None]


def state_cut_above_its_base(stored: Stored) -> None:
    stored.state.start = len(stored.state.entries)


def state_shorter(stored: Stored) -> None:
    newest, _ = stored.state.entries[-1]
    stored.state.entries = [e for e in stored.state.entries if e[0] is not newest]


def state_recreated(stored: Stored) -> None:
    stored.state.entries.clear()
    stored.state.start = 0


def outbox_shorter(stored: Stored) -> None:
    newest, _ = stored.outbox.entries[-1]
    stored.outbox.entries = [e for e in stored.outbox.entries if e[0] is not newest]


def input_recreated(stored: Stored) -> None:
    del stored.input[: len(stored.input) // 2 + 1]


def commit_of_a_later_release(stored: Stored) -> None:
    newest = stored.commits[-1]
    stored.commits.append(Commit(newest.offset, newest.metadata.replace('"v":1', '"v":9')))


LOSSES: list[Loss] = [
    state_cut_above_its_base,
    state_shorter,
    state_recreated,
    outbox_shorter,
    input_recreated,
    commit_of_a_later_release,
]


@contextmanager
def drained(seed: int) -> Iterator[World]:
    """Give the world of a history that went well, with nobody left in it."""
    setting, _ = history(seed)
    world = World(setting._replace(partitions=1))
    try:
        play_all(world, seed)
        yield world
    finally:
        world.close()


def play_all(world: World, seed: int) -> None:
    """Play two histories, one after the other, then let everybody go."""
    for action in [*history(seed)[1], *history(seed + 1)[1]]:
        world.act(action)
    world.drain()
    for process in list(world.processes):
        process.kill(lose_flying=True)
        world.group.leave(process.source)
    world.broker.stale = False


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_what_was_lost_is_refused(loss: Loss) -> None:
    with quietly():
        for seed in SEEDS:
            with drained(seed) as world:
                loss(world.broker.stored[0])
                world.start(EVERYTHING)
                with pytest.raises(Fault, match="I20: refused"):
                    world.run(20.0)


def test_without_a_loss_nothing_is_refused() -> None:
    with quietly(), drained(SEEDS[0]) as world:
        world.start(EVERYTHING)
        world.run(20.0)

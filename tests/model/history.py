"""Random histories: made from a seed, played, and made shorter where one fails."""

import contextlib
import gc
import random
from collections.abc import Callable, Iterator, Sequence
from unittest import mock

import structlog

from forwarder.collect import duplicates, pipeline
from forwarder.collect.duplicates import LookBackSizes
from forwarder.collect.lane import CollectBounds
from forwarder.collect.windows import fit
from forwarder.collect.windows.tails import TailSizes
from forwarder.deliver import queue
from forwarder.formats.mparticle import event_filter
from forwarder.journal import outbox, snapshot
from forwarder.journal import state as states
from forwarder.worker import opening, partition
from tests.model import slowly
from tests.model.oracle import LOOK
from tests.model.world import Action, Setting, play

WEIGHTS = {
    "flow": 22.0,
    "feed": 12.0,
    "odd": 1.5,
    "sleep": 6.0,
    "kill": 3.0,
    "deploy": 2.5,
    "rebalance": 4.0,
    "hear": 2.0,
    "freeze": 2.0,
    "trouble": 6.0,
    "away": 0.7,
    "mood": 4.0,
    "stale": 0.7,
    "markers": 1.2,
    "limits": 2.0,
}
DAYS: tuple[dict[str, float], ...] = (
    {},
    {},
    {},
    {"deploy": 12.0, "kill": 6.0},
    {"freeze": 10.0, "rebalance": 5.0, "mood": 4.0},
)
"""What happens more often on some days: rollouts, machines that sleep."""

_STRIP = event_filter._strip  # noqa: SLF001  # what poison events break


Breaks = Callable[[Setting, Sequence[Action]], bool]


def history(seed: int) -> tuple[Setting, list[Action]]:
    """Return the history of a seed."""
    rnd = random.Random(seed)  # noqa: S311  # a reproducible stream
    setting = Setting(
        partitions=rnd.choice((1, 1, 2)),
        workers=rnd.choice((1, 2, 2, 3)),
        base_interval=rnd.choice((1.5, 2.5, 6.0)),
        in_order=int(rnd.random() < 0.15),
        deploy=rnd.choice((0, 0, rnd.randrange(4096))),
        down_at_end=rnd.randrange(16),
        pause=rnd.choice((0.0, 0.003, 0.03, 0.2)),
        window_memory=rnd.choice((1 << 30, 1 << 30, 12_000)),
        duplicates=rnd.choice((0, 1, 2, 3)),
    )
    weights = [w * rnd.choice((0.2, 1, 1, 3)) for w in WEIGHTS.values()]
    for name, more in rnd.choice(DAYS).items():
        weights[list(WEIGHTS).index(name)] += more
    names = rnd.choices(list(WEIGHTS), weights, k=rnd.randrange(8, 34))
    return setting, [
        Action(name, rnd.randrange(64), rnd.randrange(48), rnd.randrange(400), rnd.randrange(11))
        for name in names
    ]


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Prepare the real modules: no logs, small bounds, and a way to be poisoned."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50), processors=[_drop])
    gc.collect()
    gc.disable()  # worlds are full of cycles, and a few of them at a time are no burden
    try:
        with slowly.applied() as stack:
            for owner, name, small in BOUNDS:
                stack.enter_context(mock.patch.object(owner, name, small))
            yield
    finally:
        gc.enable()
        structlog.configure(**before)


def _strip(content: dict[str, object]) -> None:
    if "poison" in content:
        raise RecursionError
    _STRIP(content)  # type: ignore[arg-type]  # as the original has it


BOUNDS = (
    (queue, "MAX_UNCOMMITTED_ACKS", 6),
    (states, "CHUNK_ENTRIES", 3),
    (states, "PART_BYTES", 700),
    (outbox, "RECORD_BYTES", 600),
    (snapshot, "SLICE_BYTES", 300),
    (opening, "SLICE_BYTES", 300),
    (opening, "ENTRIES_PER_SLICE", 2),
    (pipeline, "RELEASED_PER_POLL", 2),
    (partition, "WINDOWS_PER_SLICE", 2),
    (
        pipeline,
        "BOUNDS",
        CollectBounds(encoded_bytes=700, tails=TailSizes(first_look=40, short=150, long=300)),
    ),
    (fit, "MIN_CONTEXT_BYTES", 500),
    (duplicates, "SIZES", LookBackSizes(LOOK.block, LOOK.identities)),
    (states, "CONTEXT_APART", 300),
    (event_filter, "_strip", _strip),
)
"""Small bounds, so that small histories pass them, and a way for events to be poisoned."""


def _drop(*_: object) -> str:
    raise structlog.DropEvent


def kind(fault: str | None) -> str:
    """Return which property a fault is about; nothing if it is about none."""
    return (fault or "").split(":", maxsplit=1)[0]


def shrink(
    setting: Setting, actions: Sequence[Action], wanted: str, tries: int = 400
) -> tuple[Setting, list[Action]]:
    """Return a shorter history that breaks the same property."""
    left = tries

    def breaks(s: Setting, shorter: Sequence[Action]) -> bool:
        nonlocal left
        left -= 1
        return left > 0 and kind(play(s, shorter)[0]) == wanted

    found = _fewer(setting, list(actions), breaks)
    for simpler in (
        setting._replace(down_at_end=15),
        setting._replace(workers=1),
        setting._replace(partitions=1),
        setting._replace(deploy=0),
        setting._replace(in_order=0),
        setting._replace(pause=0.0),
        setting._replace(window_memory=1 << 30),
        setting._replace(duplicates=0),
    ):
        if simpler != setting and breaks(simpler, found):
            setting = simpler
    return setting, _smaller(setting, found, breaks)


def _fewer(setting: Setting, actions: list[Action], breaks: Breaks) -> list[Action]:
    step = max(1, len(actions) // 2)
    while step:
        at = 0
        while at < len(actions):
            shorter = actions[:at] + actions[at + step :]
            if breaks(setting, shorter):
                actions = shorter
            else:
                at += step
        step //= 2
    return actions


def _smaller(setting: Setting, actions: list[Action], breaks: Breaks) -> list[Action]:
    for at in range(len(actions)):
        for field in range(1, len(actions[at])):
            simpler = [*actions[at]]
            simpler[field] = 0
            changed = [*actions]
            changed[at] = Action._make(simpler)
            if changed != actions and breaks(setting, changed):
                actions = changed
    return actions


def text(setting: Setting, actions: Sequence[Action]) -> str:
    """Return a history as the program that plays it."""
    lines = [f"    {action!r}," for action in actions]
    return "\n".join([f"play({setting!r}, [", *lines, "])"])


__all__ = ["history", "kind", "play", "quietly", "shrink", "text"]

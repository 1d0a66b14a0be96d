"""How garbage is collected, seen from what becomes of cycles; and what is kept of freed memory."""

import gc
import platform
import subprocess
import sys
import weakref
from collections.abc import Iterator

import pytest

from forwarder.worker import memory


class Node:
    """One that can point to itself."""

    me: "Node"


def cycle() -> "tuple[Node, weakref.ref[Node]]":
    node = Node()
    node.me = node
    return node, weakref.ref(node)


@pytest.fixture(autouse=True)
def usual() -> Iterator[None]:
    thresholds, callbacks = gc.get_threshold(), list(gc.callbacks)
    memory.tune_gc()
    yield
    gc.callbacks[:] = callbacks
    gc.set_threshold(*thresholds)
    gc.unfreeze()


def test_what_outlived_a_full_collection_is_not_looked_at_by_the_next() -> None:
    node, seen = cycle()
    gc.collect()
    before = gc.get_freeze_count()
    del node
    gc.collect()
    assert before > 0
    assert seen() is not None


def test_garbage_among_it_goes_with_the_tenth() -> None:
    node, seen = cycle()
    gc.collect()
    del node
    for _ in range(memory.FULL_EVERY):
        gc.collect()
    assert seen() is None


def test_garbage_that_came_since_goes_with_any() -> None:
    gc.collect()
    node, seen = cycle()
    del node
    gc.collect(1)
    assert seen() is None


def test_the_young_are_looked_at_while_as_many_old_ones_go() -> None:
    looks: list[int] = []
    gc.callbacks.append(lambda phase, info: looks.extend([info["generation"]] * (phase == "stop")))
    kept = [[n] for n in range(10 * memory.RECORDS_PER_COLLECTION)]
    gc.collect()
    looks.clear()
    young = memory.YoungCollections()
    for n in range(len(kept)):
        kept[n] = [n]  # one comes, one goes
    assert [] == looks
    for _ in range(10):
        young.add_records(memory.RECORDS_PER_COLLECTION // 2)
    assert [0, 0, 0, 0, 1] == looks


BLOCKS = """
import resource
from forwarder.worker.memory import tune_malloc
tune_malloc()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def blocks(count):
    for _ in range(count):
        kept = [b"x" * 2_000_000 for _ in range(4)]
blocks(1)
begun = faults()
blocks(20)
print(faults() - begun)
"""
"""Four blocks of 2 MB at a time, each of 500 pages."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only GNU's library is tuned")
def test_freed_blocks_are_there_for_the_next_without_a_page_fault_each() -> None:
    run = [sys.executable, "-c", BLOCKS]
    answer = subprocess.run(run, check=True, capture_output=True, text=True, timeout=60)
    assert int(answer.stdout) < 20 * 4 * 500 / 10

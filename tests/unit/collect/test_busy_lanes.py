"""What a partition knows of its lanes without looking at all of them is what all of them say."""

import random

import pytest

from forwarder.collect.pipeline import CollectBounds, Pipeline
from forwarder.config.connection import Batching, Connection, Match, Settings
from forwarder.config.targets import FileTarget
from forwarder.model import Collected
from tests.builders import NOW, PARTITION, START, Rec, encoded, lane_set

APPS = "abcde"


def connection(app: str) -> Connection:
    """Return one that wants one app's uploads, each with another window and mode."""
    number = APPS.index(app)
    return Connection(
        app,
        FileTarget("none"),
        match=Match(application=frozenset({app})),
        settings=Settings(wait_for_complete_batch=number == 1),
        batching=Batching(max_age_ms=(number + 1) * 10_000, max_events=3 + number),
    )


def record(rng: random.Random, offset: int, time: int) -> Rec:
    """Return an upload of some app, or of one that nobody wants."""
    value = {
        "mpid": rng.randrange(3),
        "application_info": {"package": rng.choice(APPS + "x")},
        "events": [{"event_type": "custom_event", "data": {}}] * rng.randrange(4),
    }
    return Rec(offset, time, encoded(value))


def check(pipeline: Pipeline) -> None:
    """Compare what is known of the lanes with what each of them says."""
    lanes = pipeline._lanes  # noqa: SLF001  # nobody else sees what all of them say
    assert sum(one.memory_bytes() for one in lanes.values()) == pipeline.memory_bytes()
    assert {n: one.first_unsaved() for n, one in lanes.items()} == {
        name: pipeline.unsaved().get(name) for name in lanes
    }
    assert pipeline.has_pending_documents == any(one.pending for one in lanes.values())
    due = [d for one in lanes.values() if (d := one.windows.next_deadline()) is not None]
    found = pipeline.next_deadline()
    assert (not due) or (found is not None and found <= min(due))
    waiting = {name: one.waiting_events() for name, one in lanes.items()}
    assert {n: c for n, c in waiting.items() if c} == {
        n: c for n, c in pipeline.waiting_events().items() if c
    }


def save(pipeline: Pipeline, rng: random.Random, below: int) -> None:
    """Save the windows of a lane, and settle that or not."""
    saving = pipeline.begin_checkpoint(rng.choice(APPS), below)
    while saving.take(rng.randrange(1, 3_000)):
        if rng.random() < 0.3:
            check(pipeline)
    if rng.random() < 0.5:
        saving.settle()


@pytest.mark.parametrize("seed", range(12))
def test_what_is_known_of_all_lanes_is_what_each_says(seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311  # repeatable
    pipeline = Pipeline(PARTITION, lane_set(*map(connection, APPS)))
    offset, time, events = 0, START, 0
    came, left = 0, 0
    for _ in range(200):
        out = Collected()
        match rng.randrange(8):
            case 0:
                out = pipeline.expire(time - rng.randrange(20_000), rng.randrange(1, 4), NOW)
            case 1:
                out = pipeline.shed(rng.randrange(4_000), 3, NOW)
            case 2:
                save(pipeline, rng, offset)
            case _ if not pipeline.has_pending_documents:
                poll = []
                for _ in range(rng.randrange(12)):
                    time += rng.randrange(4_000)
                    poll.append(record(rng, offset, time))
                    offset += 1
                out = pipeline.collect(poll, NOW)
        came += sum(out.accepted.values())
        left += sum(batch.count for batch in out.batches)
        if rng.random() < 0.4:  # and between two looks several things happen
            check(pipeline)
    events = sum(batch.count for batch in pipeline.finish(NOW).batches)
    check(pipeline)
    assert came == left + events
    assert came > 100
    assert (0, None) == (pipeline.memory_bytes(), pipeline.oldest_opened())


def test_lanes_share_what_may_wait_plain_as_they_need_it() -> None:
    found = lane_set(*[connection(app) for app in APPS])
    pipeline = Pipeline(PARTITION, found)
    lanes = {name: one.windows for name, one in pipeline._lanes.items()}  # noqa: SLF001  # as above
    told: dict[str, int] = {}
    for name, windows in lanes.items():
        windows.compress_above = lambda size, name=name: told.update({name: size})  # type: ignore[method-assign,misc]
    pipeline.compress_above(10_000)
    assert dict.fromkeys(APPS, 10_000) == told
    rng, told_of = random.Random(7), 0  # noqa: S311  # no secret
    for at in range(40):
        pipeline.collect([record(rng, at, START)], START)
        if pipeline.memory_bytes() > 10_000:
            told_of += 1
    assert told_of
    assert sum(told.values()) < 5 * 10_000
    pipeline.finish(NOW)
    told.clear()
    pipeline.collect([], NOW)
    assert dict.fromkeys(APPS, 10_000) == told


def test_what_opens_beside_saved_windows_of_a_greater_age_is_due_at_its_own_time() -> None:
    def lane(max_age_ms: int) -> Connection:
        return Connection("a", FileTarget("none"), batching=Batching(max_age_ms=max_age_ms))

    def of_user(offset: int, mpid: int) -> Rec:
        value = {"mpid": mpid, "events": [{"event_type": "custom_event", "data": {}}]}
        return Rec(offset, START + 1_000 * offset, encoded(value))

    before = Pipeline(PARTITION, lane_set(lane(3_600_000)))
    before.collect([of_user(0, 1)], NOW)
    held = before.begin_checkpoint("a", 1).take(1_000_000)
    pipeline = Pipeline(PARTITION, lane_set(lane(10_000)))
    pipeline.restore("a", held)
    pipeline.collect([of_user(1, 1)], NOW)
    check(pipeline)
    pipeline.collect([of_user(2, 2)], NOW)
    check(pipeline)
    assert START + 12_000 == pipeline.next_deadline()
    (batch,) = pipeline.expire(START + 12_000, 10, NOW).batches
    assert (2, 0) == batch.first


def test_a_lane_that_fills_and_empties_again_and_again_leaves_few_deadlines() -> None:
    def lane(app: str) -> Connection:
        wanted = Match(application=frozenset({app}))
        return Connection(app, FileTarget("none"), match=wanted, batching=Batching(max_events=2))

    def of_app(offset: int, app: str) -> Rec:
        value = {"mpid": 1, "application_info": {"package": app}, "events": [{}]}
        return Rec(offset, START + 10 * offset, encoded(value))

    pipeline = Pipeline(PARTITION, lane_set(lane("a"), lane("b")))
    pipeline.collect([of_app(0, "b")], NOW)  # what waits there is due before all the others
    for at in range(1, 1_000):
        pipeline.collect([of_app(at, "a")], NOW)
        check(pipeline)
    kept = pipeline._busy._deadlines  # noqa: SLF001  # what grows there is seen nowhere else
    assert len(kept) < 100


def test_a_lane_with_documents_to_be_made_does_not_wait_for_what_is_open_in_it() -> None:
    def of_user(offset: int, mpid: int) -> Rec:
        return Rec(offset, START, encoded({"mpid": mpid + 1, "events": [{}]}))

    small = Connection("a", FileTarget("none"), batching=Batching(max_events=2))
    bounds = CollectBounds(encoded_bytes=1)
    pipeline = Pipeline(PARTITION, lane_set(small), bounds=bounds)
    pipeline.collect([of_user(at, at) for at in range(3)], NOW)
    check(pipeline)
    (first,) = pipeline.collect([of_user(3, 0), of_user(4, 1)], NOW).batches
    assert pipeline.has_pending_documents
    check(pipeline)
    (second,) = pipeline.collect([of_user(5, 3)], NOW).batches
    assert [(0, 0), (1, 0)] == [first.first, second.first]

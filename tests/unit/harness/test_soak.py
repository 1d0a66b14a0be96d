"""What a soak takes for wanted, optional or repeated, and that its plan can be repeated."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from forwarder.config import loader
from forwarder.config.connection import Connection
from forwarder.config.targets import KinesisTarget
from tests.conservation import Landed, Verdict
from tests.fake_aws.books import Put
from tests.soak import history, releases, repeats
from tests.soak.disturb import Recovery
from tests.soak.history import History
from tests.soak.releases import Release
from tests.soak.repeats import Hit, Repeats, Share
from tests.soak.report import Result
from tests.soak.watch import Ticks


def lane(name: str, deliver_from_ms: int | None = None) -> Connection:
    return Connection("acme", KinesisTarget(name, "us-east-1"), deliver_from_ms=deliver_from_ms)


OLD, NEW = lane("old"), lane("new")


def governing(lives: History, offset: int, first_seen: int = 0) -> Sequence[Connection | None]:
    """Return who governs an offset of partition 0, where nothing waits below a watermark."""
    return history.told(lives.lanes["acme"], 0, first_seen, lambda at: at)(offset)


def deployed(*content: Connection) -> History:
    """Return the history of a lane that gets other content from 100 to 120, 200 to 220, ..."""
    lives = History()
    for number, connection in enumerate(content):
        lives.begin([connection], {0: 100 * number})
        lives.done(["acme"], {0: 100 * number + 20 if number else 0})
    return lives


def test_a_lane_that_never_changed_wants_what_it_says() -> None:
    assert governing(deployed(OLD), 5) == [OLD]


def test_while_a_deploy_goes_on_both_contents_may_govern() -> None:
    lives = deployed(OLD, NEW)

    assert [governing(lives, at) for at in (99, 100, 119, 120)] == [
        [OLD],
        [OLD, NEW],
        [OLD, NEW],
        [NEW],
    ]


def test_a_deploy_taken_back_leaves_all_open_until_it_is_back() -> None:
    lives = History()
    lives.begin([OLD], {0: 0})
    lives.done(["acme"], {0: 0})
    lives.begin([NEW], {0: 100})
    lives.begin([OLD], {0: 110})
    lives.done(["acme"], {0: 130})

    assert governing(lives, 99) == [OLD]
    assert governing(lives, 105) == [OLD, NEW]
    assert governing(lives, 125) == [OLD, NEW, OLD]
    assert governing(lives, 130) == [OLD]


def test_a_lane_that_was_added_wants_all_from_its_first_event_on() -> None:
    lives = History()
    lives.begin([OLD], {0: 50})
    lives.done(["acme"], {0: 90})

    assert governing(lives, 60, first_seen=70) == [OLD, None]
    assert governing(lives, 70, first_seen=70) == [OLD]
    assert governing(lives, 90, first_seen=200) == [OLD]


def test_of_a_lane_that_went_for_good_nothing_is_sure_any_more() -> None:
    lives = deployed(OLD)
    lives.leave("acme", {0: 300}, 1_000)
    lives.leave("acme", {0: 900}, 9_000)

    assert governing(lives, 299) == [OLD]
    assert governing(lives, 300) == [OLD, None]
    assert lives.lanes["acme"].gone_ms == 1_000


def test_the_latest_deliver_from_counts() -> None:
    assert deployed(OLD, lane("old", 700), lane("old", 400)).lanes["acme"].deliver_from_ms == 700


def test_what_waits_below_a_watermark_began_at_most_one_window_earlier() -> None:
    waiting = history.waits([(offset, 1_000 * offset) for offset in range(10, 30)], 5_000)

    assert [waiting(at) for at in (5, 12, 20, 99)] == [0, 10, 15, 24]


def rolling(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311  # repeatable, not secret


def test_the_same_seed_gives_the_same_releases() -> None:
    def made(seed: int) -> list[Release]:
        dice, found = rolling(seed), [Release(previous=True)]
        for number in range(20):
            found.append(releases.change(found[-1], dice, number, previous=True))
        return found

    assert made(3) == made(3)
    assert made(3) != made(4)


def test_releases_go_forward_only_from_older_code() -> None:
    dice, found = rolling(6), [Release(previous=True)]
    for number in range(20):
        found.append(releases.change(found[-1], dice, number, previous=True))
        back = releases.taken_back(found[-2], found[-1])
        assert back.previous == found[-1].previous
    older = [release.previous for release in found]
    assert older == sorted(older, reverse=True)
    assert {True, False} == set(older)


def test_every_release_is_a_configuration_without_faults(tmp_path: Path) -> None:
    dice, release = rolling(5), Release()
    for number in range(40):
        release = releases.change(release, dice, number, previous=False)
        for name, content in release.connections("soak").items():
            file = tmp_path / f"{name}.yaml"
            file.write_text(yaml.safe_dump(content))
            assert loader.load_connection(file).connection.name == name
        assert release.renamed not in release.retired
    assert releases.final(release).comes
    assert not {*release.gone} - {*releases.final(release).retired}


def test_a_new_name_that_was_taken_back_is_given_up_and_never_used_again() -> None:
    before = Release()
    after = replace(before, number=1, named=2, gone=("named-1",))

    back = releases.taken_back(before, after)

    assert (back.renamed, back.gone) == ("named-1", ("named-2",))
    assert releases.CHANGES["rename"](back, rolling(1)).renamed == "named-3"
    assert releases.final(back).retired == ("named-2",)


def put(at: int, worker: str, *ids: str, fate: str = "answered") -> Put:
    return Put(at, worker, "stream", fate, [Landed(name, b"") for name in ids])


@pytest.mark.parametrize(
    ("first", "again", "cause"),
    [
        (put(900, "a", "m", fate="lost"), put(950, "a", "m"), repeats.LOST),
        (put(990, "a", "m"), put(3_500, "b", "m"), "kill"),
        (put(990, "b", "m"), put(2_500, "b", "m"), "broker"),
        (put(3_100, "b", "m"), put(5_000, "a", "m"), "wake"),
        (put(500, "a", "m"), put(600, "a", "m"), repeats.UNEXPLAINED),
    ],
)
def test_a_repeat_has_the_cause_that_came_between(first: Put, again: Put, cause: str) -> None:
    hits = [
        Hit(1_000, "kill", ("a",)),
        Hit(2_000, "broker", ("a", "b")),
        Hit(3_000, "wake", ("b",)),
        Hit(4_000, "drain", ("b",)),
    ]

    found = repeats.explain([first, again], hits, 1_000)

    assert found.causes == {cause: 1}
    assert bool(found.examples) == (cause == repeats.UNEXPLAINED)


def test_a_ticks_worth_is_what_the_worker_put_within_the_tick_before() -> None:
    stored = [
        put(10, "a", "1"),
        put(700, "a", "2", "3"),
        put(1_501, "a", "5"),
        put(800, "b", "4"),
        put(2_600, "b", "2"),
    ]

    (found,) = repeats.explain(stored, [Hit(1_500, "kill", ("a",))], 1_000).shares

    assert found == Share("kill", hits=1, repeats=1, worst=1, worth=3)


FINE = Result(
    Verdict([], 0, 0, 0, 0, []), Repeats(0, {}, [], []), [Recovery("kill", 1.0, "")],
    Counter(), [(1.0, "pod-0", 2**20)], Counter({("warning", "lane.status"): 3}), [], 1, 0, 1.0,
)  # fmt: skip


def test_a_soak_without_a_fault_says_so() -> None:
    assert FINE.faults == 0
    assert "0 faults" in FINE.text()


@pytest.mark.parametrize(
    "changed",
    [
        {"verdict": FINE.verdict._replace(letters_lost=1)},
        {"recoveries": [Recovery("kill", None, "stuck")]},
        {"logged": Counter({("error", "partition.refused"): 1})},
        {"wrong": ["the watermark stands still"]},
        {"repeats": Repeats(9, {}, [Share("kill", 1, 9, 9, 8)], [])},
        {"repeats": Repeats(1, {}, [Share("drain", 1, 1, 1, 8)], [])},
        {"repeats": Repeats(1, {}, [], ["repeat: m"])},
    ],
)
def test_whatever_is_wrong_ends_a_soak_badly(changed: dict[str, object]) -> None:
    found = FINE._replace(**changed)  # type: ignore[arg-type]  # fields by name

    assert found.faults == 1
    assert "1 faults" in found.text()


async def nobody() -> dict[tuple[str, int], tuple[int, str]]:
    return {("raw", 0): (3, '{"v": 1, "n": 7}')}


async def test_a_tick_is_seen_by_its_number() -> None:
    assert await Ticks(nobody, 2).look() == {0: 7, 1: -1}


def test_a_standstill_is_the_longest_time_without_a_tick_of_some_partition() -> None:
    ticks = Ticks(nobody, 2)
    for at, numbers in ((1.0, {0: 1, 1: 1}), (2.0, {0: 2, 1: 1}), (6.0, {0: 3, 1: 2})):
        ticks.note(numbers, at)

    assert ticks.standstill(0.0, 6.5) == 5.0
    assert ticks.standstill(2.5, 6.5) == 3.5
    assert ticks.standstill(5.5, 8.0) == 2.0

"""``python -m tests.bench.page``: writes docs/performance.md and docs/scaling.md.

Both are made of docs/performance.json, which ``python -m tests.bench --page`` writes, of
tests/bench/tried.tsv, what was tried and what it brought, and of tests/bench/left.tsv, where the
CPU of a load goes whose target is missed: load as in ``TARGETS``, part, per cent, why it stays.
"""

import json
import statistics
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench import scaling

ROOT = Path(__file__).parents[2]
DATA = ROOT / "docs" / "performance.json"
PAGE = ROOT / "docs" / "performance.md"
SCALING = ROOT / "docs" / "scaling.md"
TRIED = Path(__file__).parent / "tried.tsv"
LEFT = Path(__file__).parent / "left.tsv"
TEXT = Path(__file__).parent / "performance.md.in"

MISSED = "**no**"

Figures = dict[str, Any]


class Target(NamedTuple):
    """What a figure has to be."""

    load: str
    wanted: str
    limit: float
    value: Callable[[Figures], float]
    least: bool = False
    """The limit is the least it may be; otherwise the most."""
    digits: int = 2

    def row(self, figures: Figures) -> tuple[str, str, str, str]:
        """Return load, what is wanted, what was measured, and whether it is met."""
        try:
            value = self.value(figures)
        except KeyError:
            return self.load, self.wanted, "-", "not measured"
        met = value >= self.limit if self.least else value <= self.limit
        return self.load, self.wanted, f"{value:,.{self.digits}f}", "yes" if met else MISSED


def median(figures: Figures, load: str, who: str = "worker") -> float:
    """Return what somebody spent on an event, in CPU µs."""
    spent: list[float] = figures["loads"][load]["spent"][who]
    return statistics.median(spent)


def times(load: str, who: str, other: str = "", by: str = "worker") -> Callable[[Figures], float]:
    """Return what tells how many times what ``who`` spends ``by`` does, maybe on another load."""
    return lambda figures: median(figures, load, by) / median(figures, other or load, who)


def told(load: str, key: str) -> Callable[[Figures], float]:
    """Return what tells a figure of a worker."""
    return lambda figures: float(figures["loads"][load]["workers"]["worker"][key])


def other(name: str, key: str) -> Callable[[Figures], float]:
    """Return what tells another figure."""
    return lambda figures: float(figures["others"][name][key])


def replay(figures: Figures) -> float:
    """Return how many times faster than it is collected an event is read again."""
    found = figures["others"]["crash"]
    return float(found["collecting_us"] / found["replaying_us"])


READ_SCALE = 3.4
"""CPU µs that reading took where targets in µs were set; they are held as multiples of it."""

TARGETS = (
    Target("1 event, 2,000 devices", "at most 2.9 x reading", 2.9, times("1-event", "read")),
    Target("", "at most 0.67 x the plain alternative", 0.67, times("1-event", "plain")),
    Target(
        "5 events",
        "at most 2.0 x reading a record of 1 event (6.8 µs where that is 3.4)",
        6.8 / READ_SCALE,
        times("5-events", "read", "1-event"),
    ),
    Target("", "at most 0.6 x the plain alternative", 0.6, times("5-events", "plain")),
    Target(
        "60,000 devices, 1.0 events a document",
        "at most 0.9 x the plain alternative",
        0.9,
        times("60k-1.0", "plain"),
    ),
    Target(
        "every event a document",
        "at most 8.8 x reading (30 µs where that is 3.4)",
        30 / READ_SCALE,
        times("individual", "read", "1-event"),
    ),
    Target(
        "pure Python, 1 event",
        "at least 1.18 x faster than the commit before",
        1.18,
        times("1-event", "pure Python", by="before"),
        least=True,
    ),
    Target(
        "10 connections, all different",
        "at most 3.2 x the cost of one",
        3.2,
        times("10-different", "worker", "1-event"),
    ),
    Target(
        "",
        "against reading a record of 1 event: at most 9.3 x (3.2 times 2.9)",
        3.2 * 2.9,
        times("10-different", "read", "1-event"),
    ),
    Target(
        "1,000 connections, each event for one",
        "at most 1.3 x the cost of one",
        1.3,
        times("1000-apart", "worker", "1-event"),
    ),
    Target(
        "",
        "against reading a record of 1 event: at most 3.8 x (1.3 times 2.9)",
        1.3 * 2.9,
        times("1000-apart", "read", "1-event"),
    ),
    Target("", "ready in at most 5 s", 5.0, told("1000-apart", "start_seconds"), digits=1),
    Target("", "at most 30 ms of CPU a scrape", 30.0, told("1000-apart", "scrape_ms"), digits=1),
    Target(
        "replay after a crash",
        "at least 1.5 x the rate of the whole job",
        1.5,
        lambda figures: median(figures, "1-event") / other("crash", "replaying_us")(figures),
        least=True,
    ),
    Target(
        "",
        "at least 1.5 x the rate of collecting alone, into windows that stay open",
        1.5,
        replay,
        least=True,
    ),
    Target(
        "1,000,000 devices, 1.7 events a document",
        "at most 1.15 x what 1,000 devices cost",
        1.15,
        times("1m-devices", "worker", "1k-devices"),
    ),
    Target("", "longest poll at most 20 ms", 20.0, other("memory", "longest_poll_ms"), digits=0),
    Target(
        "memory of an event that waits",
        "at most 900 bytes alone in its window",
        900.0,
        other("memory", "alone_bytes"),
        digits=0,
    ),
    Target(
        "", "at most 350 bytes, ten in a window", 350.0, other("memory", "of_ten_bytes"), digits=0
    ),
    Target(
        "32 partitions, one event a second in each",
        "at most 0.05 of a core",
        0.05,
        other("idle", "ticking_share"),
        digits=3,
    ),
    Target(
        "PutRecord",
        "at least 4,000 batches a CPU-second",
        4000.0,
        other("put-record-alone", "batches_a_cpu_second"),
        least=True,
        digits=0,
    ),
)


def targets(figures: Figures) -> list[str]:
    """Return the table of targets."""
    rows = [target.row(figures) for target in TARGETS]
    return table(("load", "wanted", "measured", "met"), rows)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Return a table as lines of Markdown."""
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return ["| " + " | ".join(line) + " |" for line in lines]


def loads(figures: Figures) -> list[str]:
    """Return the table of loads, ratios first."""
    rows = []
    for name, one in figures["loads"].items():
        worker = one["workers"]["worker"]
        own = median(figures, name)
        ratios = [
            f"{own / median(figures, name, who):.2f}" if who in one["spent"] else ""
            for who in ("read", "json", "plain")
        ]
        rows.append(
            [
                f"{one['title']} (`{name}`)",
                *ratios,
                f"{own:.1f}",
                f"{1e6 / own:,.0f}",
                f"{worker['events_a_document']:.1f}",
                f"{worker['peak_mib']:,}",
            ]
        )
    head = ["load", "x reading", "x read and parsed", "x plain", "µs", "events a CPU-second"]
    return table([*head, "events a document", "peak MiB"], rows)


def cores(figures: Figures) -> list[str]:
    """Return what pure Python and the commit before take, beside the native core."""
    rows = []
    for name, one in figures["loads"].items():
        for who in ("pure Python", "before"):
            if who in one["spent"]:
                spent = median(figures, name, who)
                ratio = f"{spent / median(figures, name):.2f}"
                rows.append([one["title"], who, ratio, f"{spent:.1f}"])
    return table(["load", "program", "x the worker with its native core", "µs"], rows)


def tried() -> list[str]:
    """Return the log of what was tried."""
    lines = [line.split("\t") for line in TRIED.read_text().splitlines()]
    return table(["what", "times as fast", "kept"], lines)


def left() -> list[str]:
    """Return where the CPU goes, a table for each load that was profiled."""
    rows = [line.split("\t") for line in LEFT.read_text().splitlines()]
    found = []
    for load, parts in groupby(rows, itemgetter(0)):
        found += [
            f"### {load}",
            "",
            *table(["part", "% of the CPU", "why it stays"], (part[1:] for part in parts)),
            "",
        ]
    return found[:-1] or ["No load has been profiled at this commit."]


def missed(figures: Figures) -> set[str]:
    """Return the loads of which a target is missed."""
    load, found = "", set()
    for target in TARGETS:
        load = target.load or load
        if target.row(figures)[-1] == MISSED:
            found.add(load)
    return found


def about(figures: Figures) -> str:
    """Return what the figures were measured on."""
    told = figures["about"]
    built = "with" if told["optimized"] else "without"
    return (
        f"Measured on {told['date']} at commit {told['commit']} (core: {told['core']}), with "
        f"Python {told['python']} built {built} PGO and LTO, on {told['cores']} cores of "
        f"{told['processor']}. {told.get('note', '')}".rstrip()
    )


def others(figures: Figures) -> list[str]:
    """Return what else was measured."""
    names = {
        ("crash", "collecting_us"): "collecting into open windows, CPU µs an event",
        ("crash", "replaying_us"): "reading it again after kill -9, CPU µs an event",
        ("idle", "idle_share"): "32 owned partitions without input, share of a core",
        ("idle", "ticking_share"): "the same, one event a second in each",
        ("memory", "alone_bytes"): "resident bytes of a 1 KB event that waits alone in its window",
        ("memory", "of_ten_bytes"): "the same, ten in a window, compressed above 128 MiB",
        ("memory", "longest_poll_ms"): "longest poll of 500 records meanwhile, ms",
        (
            "put-record-alone",
            "batches_a_cpu_second",
        ): "PutRecord, the sink alone: batches a CPU-second",
    }
    found = figures["others"]
    rows = [
        [
            title,
            f"{found[name][key]:,.4g}" if found[name][key] < 1000 else f"{found[name][key]:,.0f}",
        ]
        for (name, key), title in names.items()
        if key in found.get(name, {})
    ]
    return table(["", ""], rows)


def peers(figures: Figures) -> list[str]:
    """Return what other programs take, where they were measured."""
    found = figures.get("peers", {})
    if not found:
        return ["`make bench ARGS=--peers` measures Bytewax and Quix Streams on the same topic."]
    own = found["this worker"]
    rows = [[name, f"{spent / own:.1f}", f"{spent:.1f}"] for name, spent in found.items()]
    return table(["windows of ten minutes", "x this worker", "µs"], rows)


def text(figures: Figures) -> str:
    """Return the page."""
    parts = {
        "about": about(figures),
        "targets": "\n".join(targets(figures)),
        "loads": "\n".join(loads(figures)),
        "others": "\n".join(others(figures)),
        "cores": "\n".join(cores(figures)),
        "left": "\n".join(left()),
        "tried": "\n".join(tried()),
        "peers": "\n".join(peers(figures)),
    }
    page = TEXT.read_text()
    for name, part in parts.items():
        page = page.replace(f"<<{name}>>", part)
    return page


def data() -> Figures:
    """Return the figures that are kept."""
    found: Figures = json.loads(DATA.read_text())
    return found


def keep(figures: Figures) -> None:
    """Keep figures; what was not measured this time stays as it was."""
    before = data() if DATA.exists() else {}
    for part in ("loads", "others", "peers"):
        figures[part] = {**before.get(part, {}), **figures.get(part, {})}
    DATA.write_text(json.dumps(figures, indent=1) + "\n")


def pages() -> Iterator[tuple[Path, str]]:
    """Yield every page and what has to stand in it."""
    yield PAGE, text(data())
    yield SCALING, scaling.text(data())


def write() -> None:
    """Write the pages."""
    for path, content in pages():
        path.write_text(content)


if __name__ == "__main__":
    write()

"""One run: the load flows, the faults take their course, everything arrives and is judged."""

import asyncio
import contextlib
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from tests.acceptance.harness import Missing, until
from tests.faults import judge, load
from tests.faults.aws import Aws
from tests.faults.judge import Found
from tests.faults.lanes import role_arn
from tests.faults.rows import Plot, Row
from tests.faults.stage import Outcome, Plan, Span, Stage, case, opened
from tests.soak.load import Load, Producer

STANDSTILL = 180.0
"""Seconds without any progress after which a run has failed; a paused lane waits for up to 60."""

LOOK = 0.25
SAMPLE = 1.0
"""Seconds between two looks at memory."""

GAUGES = 5.5
"""Seconds after which the worker has looked at all its gauges again."""

WARM = 2.0
"""Seconds of load before anything is measured: a worker's first puts wait for their clients."""

DRAIN = 40.0

ERRORS = re.compile(
    r'forwarder_put_errors_total\{code="(?P<code>\w+)",connection="(?P<lane>[^"]+)".*'
)
SETTLED = ("forwarder_open_windows", "forwarder_outbox_lag_batches")
"""What has to come to nothing once the load is over."""


async def run(
    rows: Sequence[Row],
    plan: Plan,
    place: tuple[str, Aws, Path],
    folder: Path,
    say: Callable[[str], None],
) -> Outcome:
    """Run these rows beside each other; ``place``: Kafka, the fake AWS and its books."""
    bootstrap, aws, books = place
    async with opened(rows, plan, bootstrap, aws, folder) as stage:
        made = load.make(
            plan.seed, plan.devices, plan.rate,
            broken=max(row.broken for row in rows), large=max(row.large for row in rows),
        )  # fmt: skip
        producer = Producer(bootstrap, stage.topic)
        watching = asyncio.create_task(_watch_memory(stage))
        try:
            await _flow(stage, producer, made)
            say(f"sent {producer.sent.total():,} records; waiting for the rest")
            wrong = [*await _arrived(stage), *await _unproved(stage)]
        finally:
            watching.cancel()
        wrong += await _stopped(stage)
        asked = case(stage, books, made)
        found = await asyncio.to_thread(judge.judge, asked, plan.partitions, producer.sent.total())
        wrong += _input(producer, found)
        strange = judge.strangers(asked, found)
        wrong += [f"{len(strange)} stream records of no batch: {strange[:3]}"] if strange else []
        return Outcome(
            rows, found, stage.warm, stage.spans, producer.sent.total(), stage.memory, wrong
        )


async def _flow(stage: Stage, producer: Producer, made: Load) -> None:
    """Send the load while the rows' faults take their course."""
    flow = asyncio.create_task(producer.send(made))
    try:
        await asyncio.sleep(WARM)
        stage.warm = _now()
        await asyncio.gather(*(_play(stage, row) for row in stage.rows))
        producer.stop()
        await flow
    finally:
        flow.cancel()
        await asyncio.gather(flow, return_exceptions=True)


async def _play(stage: Stage, row: Row) -> None:
    calm = max(2.0, row.calm * stage.plan.scale)
    await asyncio.sleep(calm)
    began = _now()
    seconds = row.lasts(stage.plan.scale)
    await row.act(_plot(stage, row, seconds))
    stage.spans[row.name] = Span(began, _now())
    await asyncio.sleep(calm)


def _plot(stage: Stage, row: Row, seconds: float) -> Plot:
    async def last() -> None:
        await asyncio.sleep(seconds)
        with contextlib.suppress(Missing):
            await until(lambda: _met(stage, row), f"{row.meets} is met", STANDSTILL, LOOK)

    return Plot(
        stage.aws,
        lambda end: stage.stream(row.named(end)),
        lambda end: role_arn(stage.stream(row.named(end))),
        last,
        seconds,
    )


async def _met(stage: Stage, row: Row) -> bool:
    """Tell whether what a row is about has happened, and something to each of its lanes."""
    if not row.meets:
        return True
    if row.quiet:
        return row.meets in await stage.aws.codes()
    figures = await asyncio.to_thread(stage.worker.metrics)
    found = [ERRORS.fullmatch(name) for name, value in figures.items() if value]
    own = {row.named(end) for end in row.lanes}
    met = [(one["lane"], one["code"]) for one in found if one and one["lane"] in own]
    return own == {lane for lane, _ in met} and row.meets in {code for _, code in met}


async def _watch_memory(stage: Stage) -> None:
    while True:
        with contextlib.suppress(OSError, ValueError):
            stage.memory.append((_now(), _resident(stage.worker.pid)))
        await asyncio.sleep(SAMPLE)


def _resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def _arrived(stage: Stage) -> list[str]:
    """Wait until nothing waits anywhere; return what still does after a standstill."""
    left = await _waited(lambda: _uncollected(stage))
    if not left:
        await asyncio.sleep(GAUGES)
        left = await _waited(lambda: _undelivered(stage))
    return [f"still there: {name} {value:,.0f}" for name, value in left.items()]


async def _waited(look: Callable[[], Awaitable[dict[str, float]]]) -> dict[str, float]:
    """Wait until nothing is left, or as much as long before."""
    least, since = float("inf"), time.monotonic()
    while left := await look():
        if sum(left.values()) < least:
            least, since = sum(left.values()), time.monotonic()
        elif time.monotonic() - since > STANDSTILL:
            break
        await asyncio.sleep(LOOK)
    return left


async def _uncollected(stage: Stage) -> dict[str, float]:
    """Return how far the watermarks are from the ends."""
    ends = await stage.cluster.ends(stage.topic)
    at = await stage.cluster.committed(stage.group)
    lag = {p: end - at.get((stage.topic, p), (0, ""))[0] for p, end in ends.items()}
    return {f"records of partition {p}": float(left) for p, left in lag.items() if left}


async def _undelivered(stage: Stage) -> dict[str, float]:
    figures = await asyncio.to_thread(stage.worker.metrics)
    left = {name: n for name, n in figures.items() if n and name.startswith(SETTLED)}
    return left if figures else {"a worker that does not answer": 1.0}


async def _unproved(stage: Stage) -> list[str]:
    """Return the rows whose fault met nobody."""
    return [f"{r.name}: nothing met {r.meets}" for r in stage.rows if not await _met(stage, r)]


async def _stopped(stage: Stage) -> list[str]:
    """Let the worker drain; return what is not as it should be, in its log too."""
    if not stage.worker.running:
        return [f"the worker ended by itself:\n{stage.worker.tail()}"]
    stage.worker.signal(signal.SIGTERM)
    code = await stage.worker.ended(DRAIN)
    errors = Counter(
        str(line.get("event"))
        for line in stage.worker.log()
        if line.get("level") in {"error", "critical"}
    )
    wrong = [f"logged as error {count} times: {event}" for event, count in errors.items()]
    return wrong + ([f"the worker drained with exit code {code}"] if code else [])


def _input(producer: Producer, found: Found) -> list[str]:
    """Return what is wrong with the input itself: records lost, or there more than once."""
    there = Counter(found.values)
    lost, more = producer.sent - there, there - producer.sent
    told = [f"{lost.total()} confirmed records are not in the input"] if lost else []
    return told + ([f"{more.total()} records are in the input twice"] if more else [])


def _now() -> int:
    return time.time_ns() // 1_000_000

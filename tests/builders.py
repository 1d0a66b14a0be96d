"""Build events, uploads, records and connections in few words."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from forwarder.collect.pipeline import CollectBounds, LaneSet, Pipeline, compile_lanes
from forwarder.collect.replay_filter import ReplayFilter
from forwarder.config.connection import Batching, Connection, Match, Settings
from forwarder.config.targets import FileTarget, Target
from forwarder.formats.registry import BUILT_IN, MPARTICLE
from forwarder.model import LOWEST, Batch, Collected, HeldWindow, Partition, Position, add_count

DATA = Path(__file__).parent / "data"
PARTITION = Partition("raw-events", 3)
NOW = 4_000_000_000_000
"""Wall clock of tests that are not about it, in milliseconds: later than any record."""
START = 1_700_000_000_000
"""Record time of the first record."""

Json = dict[str, Any]
Setting: TypeAlias = Any
"""The value of a setting or of a key: text, a switch, a list …"""


@dataclass(frozen=True)
class Rec:
    """A record as a source hands it over."""

    offset: int
    timestamp: int
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()


def event(kind: str = "custom_event", **fields: object) -> Json:
    """Return an event with these fields in its ``data``."""
    return {"data": fields, "event_type": kind}


def upload(*events: Json, device: str = "d1", **context: object) -> Json:
    """Return an upload of a device."""
    return {"events": list(events), "mp_deviceid": device, **context}


def encoded(value: object) -> bytes:
    """Return JSON as most SDKs write it."""
    if isinstance(value, bytes):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def records(*uploads: object, start: int = 0, step: int = 1000, at: int = START) -> list[Rec]:
    """Return one record per upload (JSON, bytes or None), ``step`` milliseconds apart."""
    return [
        Rec(start + i, at + i * step, None if value is None else encoded(value))
        for i, value in enumerate(uploads)
    ]


def connection(
    name: str = "lane",
    *,
    match: Match | None = None,
    batching: Batching | None = None,
    sink: Target | None = None,
    **settings: Setting,
) -> Connection:
    """Return a connection with these settings."""
    return Connection(
        name,
        sink or FileTarget("out"),
        match=match or Match(),
        batching=batching or Batching(),
        settings=Settings(**settings),
    )


def pipeline(
    *connections: Connection,
    read: int = 0,
    replay: ReplayFilter | None = None,
    held: Iterable[HeldWindow] = (),
    bounds: CollectBounds | None = None,
) -> Pipeline:
    """Return a pipeline of these connections, with what an opening found for the lane."""
    replays = {} if replay is None else {"lane": replay}
    lanes = lane_set(*connections)
    made = Pipeline(PARTITION, lanes, read, replays=replays, bounds=bounds)
    if replay is not None:
        made.restore("lane", held)
    return made


def lane_set(*connections: Connection) -> LaneSet:
    """Return the lanes of these connections, compiled for mParticle's uploads."""
    return compile_lanes(connections, MPARTICLE.name, BUILT_IN)


def keying_rule(chosen: Connection) -> str:
    """Return the rule by which a connection's windows are keyed."""
    return lane_set(chosen).lanes[0].keying_rule


def saved(pipeline: Pipeline, below: int) -> list[HeldWindow]:
    """Save the lane's windows as a base does, in slices of one window; return what it stores."""
    saving = pipeline.begin_checkpoint("lane", below)
    found: list[HeldWindow] = []
    while taken := saving.take(1):
        found += taken
    saving.settle()
    return found


def replay(
    read: int, need: Position = LOWEST, closed: dict[bytes, Position] | None = None
) -> ReplayFilter:
    """Return what a lane knows that was read up to an offset and needs all from ``need`` on."""
    return ReplayFilter(need, read, closed)


def run(
    connections: Connection | Iterable[Connection],
    polls: Sequence[Rec] | Sequence[Sequence[Rec]],
    now: int = NOW,
) -> Collected:
    """Feed one poll, or several, and close everything; return all that came out."""
    chosen = [connections] if isinstance(connections, Connection) else list(connections)
    fed = pipeline(*chosen)
    parts: list[Sequence[Rec]] = []
    for poll in polls:
        if isinstance(poll, Rec):
            parts = [[one for one in polls if isinstance(one, Rec)]]
            break
        parts.append(poll)
    return merged([*(fed.collect(part, now) for part in parts), *finished(fed, now)])


def finished(fed: Pipeline, now: int = NOW) -> Iterator[Collected]:
    """Close everything, in as many slices as it takes."""
    yield fed.finish(now)
    while fed.has_pending_documents:
        yield fed.expire(0, 0, now)


def merged(outcomes: Iterable[Collected]) -> Collected:
    """Return several outcomes as one."""
    whole = Collected()
    for one in outcomes:
        for name in Collected.__struct_fields__:
            mine, more = getattr(whole, name), getattr(one, name)
            if isinstance(more, dict):
                for key, count in more.items():
                    add_count(mine, key, count)
            else:
                setattr(whole, name, mine + more)
    return whole


def documents(batches: Iterable[Batch]) -> list[Json]:
    """Return the batches' documents."""
    return [json.loads(batch.payload) for batch in batches]


def sample(name: str) -> Json:
    """Return a real document from ``tests/data``."""
    content: Json = json.loads((DATA / name).read_text())
    return content

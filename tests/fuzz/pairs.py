"""The same polls for both cores: what each makes of them is compared, value by value."""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from forwarder.collect.pipeline import CollectBounds, Pipeline, compile_lanes
from forwarder.config.connection import Batching, Connection, Match
from forwarder.config.targets import FileTarget, KinesisTarget, Target
from forwarder.formats.contract import Decoder, Scan
from forwarder.formats.registry import BUILT_IN
from tests import cores
from tests.builders import PARTITION, START, Rec, connection
from tests.fuzz.mutate import Mutator

FORMS = ("mparticle", "pinpoint")
POLLS = 8
"""Polls of a block: what decoders remember of one is used for the next."""
LONGEST_POLL = 60
_BRACKETS = 600
"""Of a mutated value. Beyond, how deep it may nest depends on the stack that is left, to a level or
two, in either core; ``extremes`` has values that are clearly on one side."""
POLL_BYTES = 1_000_000
NOW = START + 3_600_000
_HEADERS = ([("trace", b"1")], [("told", b"1"), ("x", None)], [("\udcff", b"\xff")])


class Difference(NamedTuple):
    """Where the cores differ: in which block, what each made, and of which records."""

    block: str
    native: str
    python: str
    records: Sequence[Rec]


class Block(NamedTuple):
    """Some polls of a format that are compared in one way; all of it follows from the number."""

    seed: int
    way: str
    form: str
    number: int

    def __str__(self) -> str:
        """Return how ``--block`` names it."""
        return f"{self.seed}:{self.way}:{self.form}:{self.number}"


class Pair(Protocol):
    """The same thing on both cores."""

    def differ(self, records: Sequence[Rec]) -> tuple[str, str] | None:
        """Give both a poll; return what each made of it where that is not the same."""


Polls = Callable[[random.Random], Iterable[Sequence[Rec]]]
"""Makes the polls of a block with its numbers."""


def mutated(mutator: Mutator) -> Polls:
    """Return what makes polls of mutated values, of odd times and headers now and then."""

    def polls(rng: random.Random) -> Iterator[list[Rec]]:
        offset, time = int(rng.random() * 3), START
        for _ in range(POLLS):
            poll: list[Rec] = []
            for _ in range(int(rng.random() * LONGEST_POLL)):
                offset += 1 if rng.random() < 0.95 else 1 + int(rng.random() * 5)
                time += rng.choice((0, 1, 20, 1000, 1000, -400, 40_000))
                chance = rng.random()
                stamp = time if chance < 0.98 else rng.choice((-1, 0, NOW + 10_000, 2**62))
                value = None if chance < 0.01 else mutator.value(rng)
                if value is not None and value.count(b"[") + value.count(b"{") > _BRACKETS:
                    continue
                headers: Any = rng.choice(_HEADERS) if rng.random() < 0.02 else ()
                poll.append(Rec(offset, stamp, value, headers))
            yield poll

    return polls


def given(values: Iterable[bytes]) -> Polls:
    """Return what makes polls of these values, as large as a source's."""

    def polls(_: random.Random) -> Iterator[list[Rec]]:
        poll: list[Rec] = []
        size = 0
        for offset, value in enumerate(values):
            poll.append(Rec(offset, START + offset, value))
            size += len(value)
            if size > POLL_BYTES or len(poll) == LONGEST_POLL:
                yield poll
                poll, size = [], 0
        yield poll

    return polls


def compared(block: Block, polls: Polls) -> tuple[int, Difference | None]:
    """Compare a block; return how many records it had, and where the cores differ first."""
    rng = random.Random(str(block))  # noqa: S311  # repeatable, not secret
    pair = PAIRS[block.way](rng, block.form)
    count = 0
    for poll in polls(rng):
        count += len(poll)
        found = pair.differ(poll)
        if found is not None:
            return count, Difference(str(block), *found, poll)
    found = pair.differ_at_last() if isinstance(pair, Pipelines) else None
    return count, None if found is None else Difference(str(block), *found, ())


class Scans:
    """A poll as decoders see it: uploads, odd records, clock, types."""

    def __init__(self, rng: random.Random, form: str) -> None:
        """Choose what lanes need of the uploads."""
        filters = [
            BUILT_IN.inputs[form].event_filter("lane", chosen.settings)
            for chosen in rng.sample(CONNECTIONS, 1)
        ]
        sessions, duplicates = rng.random() < 0.5, rng.random() < 0.3

        def made() -> Decoder:
            decoder = BUILT_IN.inputs[form].decoder
            return decoder(PARTITION, filters, sessions=sessions, duplicates=duplicates)

        with cores.on(cores.NATIVE):
            self._native = made()
        with cores.on(cores.PYTHON):
            self._python = made()
        self._clock = 0

    def differ(self, records: Sequence[Rec]) -> tuple[str, str] | None:
        """Compare a poll (``Pair``)."""
        with cores.on(cores.NATIVE):
            native = self._native.scan(records, self._clock, NOW, _is_told)
        with cores.on(cores.PYTHON):
            python = self._python.scan(records, self._clock, NOW, _is_told)
        self._clock = python.clock
        if native == python and _types(native) == _types(python):
            return None
        return next(
            (
                (repr(one), repr(other))
                for one, other in zip(_parts(native), _parts(python), strict=False)
                if repr(one) != repr(other)
            ),
            (repr(native), repr(python)),
        )


def _is_told(headers: Sequence[tuple[str, bytes | None]]) -> bool:
    return any(name == "told" for name, _ in headers)


def _parts(scan: Scan) -> Iterator[object]:
    """Yield what a poll came to, part by part, so that the first difference can be shown."""
    yield len(scan.uploads)
    yield from scan.uploads
    yield from scan.odd
    yield from (scan.clock, sorted(scan.types), scan.governed)


def _types(scan: Scan) -> list[tuple[type, ...]]:
    """Return what ``==`` takes for equal: bytes and views, numbers and truth values."""
    return [
        (type(one.offset), type(one.body), type(one.context), type(one.device), type(one.owner),
         type(one.types), type(one.sessions), type(one.governed), type(one.duplicate_keys),
         *map(type, one.types), *map(type, one.sessions), *map(type, one.governed))
        for one in scan.uploads
    ]  # fmt: skip


class Pipelines:
    """A poll as the journal gets it: batches, letters, counts."""

    def __init__(self, rng: random.Random, form: str) -> None:
        """Choose some connections; one-event documents of Pinpoint's are among them."""
        chosen = rng.sample(CONNECTIONS, 1 + int(rng.random() ** 2 * 4))
        sinks = [_sink(rng, form) for _ in chosen]
        lanes = [
            Connection(
                f"{one.name}-{number}", sink, match=one.match, settings=one.settings,
                batching=one.batching,
            )
            for number, (one, sink) in enumerate(zip(chosen, sinks, strict=True))
        ]  # fmt: skip
        few = CollectBounds(closed_windows=3) if rng.random() < 0.1 else None

        def made() -> Pipeline:
            return Pipeline(PARTITION, compile_lanes(lanes, form, BUILT_IN), bounds=few)

        with cores.on(cores.NATIVE):
            self._native = made()
        with cores.on(cores.PYTHON):
            self._python = made()
        self._now = START

    def differ(self, records: Sequence[Rec]) -> tuple[str, str] | None:
        """Compare a poll (``Pair``)."""
        self._now = max(self._now, *(min(one.timestamp, NOW) for one in records), 0)
        return self._both(lambda made: made.collect(records, self._now)) or self._both(
            lambda made: made.expire(self._now - 30_000, 5, self._now)
        )

    def differ_at_last(self) -> tuple[str, str] | None:
        """Compare what comes of the windows that are open yet."""
        found = self._both(lambda made: made.finish(NOW))
        while found is None and self._python.has_pending_documents:
            found = self._both(lambda made: made.expire(0, 0, NOW))
        return found

    def _both(self, call: Callable[[Pipeline], Any]) -> tuple[str, str] | None:
        with cores.on(cores.NATIVE):
            native = call(self._native)
        with cores.on(cores.PYTHON):
            python = call(self._python)
        held = self._native.memory_bytes(), self._python.memory_bytes()
        if native == python and held[0] == held[1]:
            return None
        for name in native.__struct_fields__:
            one, other = getattr(native, name), getattr(python, name)
            if isinstance(one, list) and one != other:
                both = [*zip(one, other, strict=False), (len(one), len(other))]
                one, other = next(pair for pair in both if pair[0] != pair[1])
            if one != other:
                return f"{name}: {one!r}", f"{name}: {other!r}"
        return f"memory_bytes: {held[0]}", f"memory_bytes: {held[1]}"


def _sink(rng: random.Random, form: str) -> Target:
    """Return where to, in one format or the other: it decides what documents are."""
    to = form if rng.random() < 0.8 else rng.choice(FORMS)
    if to == "pinpoint":
        return FileTarget("out", format=to, app_id="a1", aws_account_id="111122223333")
    if rng.random() < 0.3:
        return KinesisTarget("s", "us-east-1", max_record_bytes=rng.choice((10_240, 1_048_576)))
    return FileTarget("out", format=to)


CONNECTIONS = [
    connection("plain"),
    connection("all", send_batches_without_events=True, include_consent_state=True,
               include_mp_deviceid=True, include_user_attribute_change_events=True),
    connection("single", send_as_batch=False),
    connection("strict", include_location_information=False, include_user_identities=False,
               include_system_notifications=False, include_metadata=False),
    connection("sessions", wait_for_complete_batch=True,
               batching=Batching(
                   max_age_ms=60_000, session_timeout_ms=20_000, session_grace_ms=500)),
    connection("some", send_screen_views=False, send_custom_events=False, int64_as_string=True,
               metadata_field_exclusion=("device_info.platform", "ip", "user_attributes.a")),
    connection("few", batching=Batching(max_age_ms=1000, max_events=3)),
    connection("ios", match=Match(platform=frozenset({"ios"})), unique_id="mpid"),
    connection("production", match=Match(environment=frozenset({"production"})),
               include_location_information=False, wait_for_complete_batch=True),
]  # fmt: skip
"""Settings that between them reach all that formats and collecting do."""

PAIRS: dict[str, Callable[[random.Random, str], Pair]] = {"scan": Scans, "collect": Pipelines}

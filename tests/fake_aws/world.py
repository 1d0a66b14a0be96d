"""All there is in a fake AWS, and what every service asks of it."""

import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

import msgspec

from forwarder.clock import Clock, SystemClock
from tests.fake_aws.accounts import Accounts, Login
from tests.fake_aws.books import Books
from tests.fake_aws.errors import RESOURCE_NOT_FOUND, AwsError
from tests.fake_aws.faults import (
    Call,
    Deleted,
    Faults,
    Lifetime,
    Partial,
    Skew,
    Throttle,
    Trust,
    used,
)
from tests.fake_aws.shards import Bucket, DeliveryStream, Limits, Stream, firehose_limits


class Terms(msgspec.Struct, frozen=True):
    """How strict and how forgetful a fake AWS is.

    Without ``signed`` signatures are believed; with ``open_streams`` a stream is made by its
    first put, with two shards; ``stranger_secret`` is that of every access key nobody knows;
    without ``keeps`` values are counted, noted in the books and forgotten.
    """

    signed: bool = True
    open_streams: bool = False
    stranger_secret: str | None = None
    keeps: bool = True
    limits: Limits = msgspec.field(default_factory=Limits)
    firehose_limits: Limits = msgspec.field(default_factory=firehose_limits)


class Seen(msgspec.Struct, frozen=True):
    """A call that came in; ``code`` is empty if it was obeyed."""

    call: Call
    key: str
    records: int
    code: str


class Named(Protocol):
    """A stream of either service."""

    name: str
    account: str

    def renew(self) -> None:
        """Be a new stream of the same name."""


N = TypeVar("N", bound=Named)


class World:
    """Accounts, streams, faults, clock and books."""

    def __init__(
        self, terms: Terms, clock: Clock | None = None, books: Books | None = None, seed: int = 0
    ) -> None:
        """Begin with roots alone."""
        self.terms = terms
        self.clock = clock or SystemClock()
        self.books = books
        self.dice = random.Random(seed)  # noqa: S311  # repeatable, not secret
        self.accounts = Accounts(self.dice, terms.stranger_secret)
        self.faults = Faults(self.clock.steady, self.dice)
        self.streams: dict[str, Stream] = {}
        self.delivery_streams: dict[str, DeliveryStream] = {}
        self.calls: list[Seen] = []
        self.counts: Counter[tuple[str, str, str]] = Counter()
        self._throttled: dict[tuple[int, str, int], tuple[Throttle, Bucket]] = {}

    def now(self) -> float:
        """Return the wall clock, in seconds."""
        return self.clock.wall_ms() / 1000

    def signing_time(self) -> float:
        """Return the real time: clients sign with that, whatever clock a test has."""
        return time.time()

    def make_stream(
        self, name: str, account: str, shards: int = 2, limits: Limits | None = None
    ) -> Stream:
        """Make a stream, or make it anew."""
        made = Stream(name, account, shards, limits or self.terms.limits, keeps=self.terms.keeps)
        self.streams[name] = made
        return made

    def make_delivery_stream(
        self, name: str, account: str, limits: Limits | None = None
    ) -> DeliveryStream:
        """Make a delivery stream, or make it anew."""
        limits = limits or self.terms.firehose_limits
        made = DeliveryStream(name, account, limits, keeps=self.terms.keeps)
        self.delivery_streams[name] = made
        return made

    def stream(self, call: Call, account: str) -> Stream:
        """Return the stream of a call; raises AwsError if the account has none of that name."""
        if self.terms.open_streams and call.stream not in self.streams:
            self.make_stream(call.stream, account)
        return self._existing(self.streams, call, account, "Stream")

    def delivery_stream(self, call: Call, account: str) -> DeliveryStream:
        """Return the delivery stream of a call, likewise."""
        if self.terms.open_streams and call.stream not in self.delivery_streams:
            self.make_delivery_stream(call.stream, account)
        return self._existing(self.delivery_streams, call, account, "Firehose")

    def _existing(self, named: dict[str, N], call: Call, account: str, what: str) -> N:
        found = named.get(call.stream)
        gone = any(self.faults.of(Deleted, call))
        if found is None or found.account != account or gone:
            text = f"{what} {call.stream} under account {account} not found."
            raise AwsError(RESOURCE_NOT_FOUND, text)
        return found

    def forget(self, stream: str) -> None:
        """Empty a stream that is deleted: whatever comes after is another of its name."""
        for named in (self.streams, self.delivery_streams):
            if stream in named:
                named[stream].renew()

    def gate(self, call: Call) -> "Gate":
        """Return what is asked about every record of a call before it is stored."""
        throttles = list(self.faults.of(Throttle, call))
        return Gate(self, call, list(self._partials(call)), throttles)

    def bucket(self, fault: Throttle, stream: str, shard: int) -> Bucket:
        """Return what a fault lets through into a shard."""
        key = (id(fault), stream, shard)
        if key not in self._throttled:
            volume = fault.bytes_per_second or None
            # With the fault, whose number another one must not get.
            self._throttled[key] = fault, Bucket(fault.records_per_second, volume)
        return self._throttled[key][1]

    def _partials(self, call: Call) -> Iterator[Partial]:
        for fault in self.faults.of(Partial, call):
            if self.faults.dice(fault.requests):
                used(fault)
                yield fault

    def lifetime(self, call: Call, asked: float) -> float:
        """Return how many seconds a session lasts."""
        return min((fault.lifetime for fault in self.faults.of(Lifetime, call)), default=asked)

    def external_id(self, call: Call) -> str | None:
        """Return the ExternalId that a role asks for at present instead of its own."""
        return next((fault.external_id for fault in self.faults.of(Trust, call)), None)

    def skew(self, call: Call) -> float:
        """Return how many seconds the services' clocks are ahead where signatures are checked."""
        return sum(fault.by for fault in self.faults.of(Skew, call))

    def revoke(self, role: str | None = None) -> None:
        """Let every session handed out so far have expired, or those of one role."""
        for login in self.accounts.logins.values():
            if login.expires is not None and role in {None, login.identity.arn}:
                login.expires = min(login.expires, self.now())

    def saw(self, call: Call, who: Login | None, records: int, code: str) -> None:
        """Count a call; remember it where values are kept."""
        self.counts[call.service, call.action, code] += 1
        if self.terms.keeps:
            self.calls.append(Seen(call, who.key if who else "", records, code))

    def note(self, who: Login, call: Call, fate: str, values: Sequence[bytes]) -> None:
        """Write what a put stored into the books."""
        if self.books is not None and values:
            self.books.write(who.worker, call.stream, fate, values)


class Gate:
    """What keeps single records of one call from being stored; ``now`` in steady seconds."""

    def __init__(
        self,
        world: World,
        call: Call,
        partials: Sequence[Partial],
        throttles: Sequence[Throttle],
    ) -> None:
        """Take the faults that this call meets."""
        self._world = world
        self._call = call
        self._partials = partials
        self._throttles = throttles
        self.now = world.clock.steady()

    def refuses(self) -> Partial | None:
        """Return by what the next record is refused, if it is."""
        for fault in self._partials:
            if self._world.faults.dice(fault.rate):
                return fault
        return None

    def throttles(self, shard: int, size: int, own: Bucket) -> bool:
        """Tell whether a shard takes no more: by a fault, or by its ``own`` limits."""
        for fault in self._throttles:
            if fault.shard is None or fault.shard == shard:
                bucket = self._world.bucket(fault, self._call.stream, shard)
                if not bucket.take(size, self.now):
                    return True
        return not own.take(size, self.now)

"""What goes wrong, where, how often and for how long: scripted by tests and by the control API."""

import random
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple, TypeVar, get_args

import msgspec

from tests.fake_aws.errors import ERRORS

Service = Literal["kinesis", "firehose", "sts"]


class Call(NamedTuple):
    """What a fault may be confined to; ``role`` is the ARN that AssumeRole asks for."""

    service: Service
    action: str
    stream: str = ""
    role: str = ""


class Fault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, tag_field="fault"):
    """Which calls are met: all puts unless ``service`` says "sts", or confined further.

    For ``seconds`` from now on (until cleared), for the next ``times`` calls (any number), and of
    these calls for a share of ``rate``.
    """

    service: Service | None = None
    stream: str | None = None
    action: str | None = None
    role: str | None = None
    seconds: float | None = None
    times: int | None = None
    rate: float = 1.0

    def meets(self, call: Call) -> bool:
        """Tell whether a call is one of those meant."""
        if self.service is None and self.role is None and call.service == "sts":
            return False
        return self._confines(call)

    def _confines(self, call: Call) -> bool:
        return all(
            wanted is None or wanted == found
            for wanted, found in (
                (self.service, call.service),
                (self.stream, call.stream),
                (self.action, call.action),
                (self.role, call.role),
            )
        )


class Error(Fault, tag="error"):
    """The call is refused; nothing is stored. Status and message are AWS's unless given."""

    code: str
    status: int = 0
    message: str = ""

    def __post_init__(self) -> None:
        """Refuse a code that AWS does not know and of which nothing is said here."""
        if self.code not in ERRORS and not self.status:
            text = f"unknown code {self.code!r}: give a status, or one of {', '.join(ERRORS)}"
            raise ValueError(text)


class Lost(Fault, tag="lost"):
    """The call is obeyed, and the connection breaks instead of an answer."""


class Reset(Fault, tag="reset"):
    """The connection breaks before anything is done."""


class Slow(Fault, tag="slow"):
    """The call is obeyed, and the answer takes between ``shortest`` and ``delay`` seconds."""

    delay: float
    shortest: float | None = None


class Stray(Fault, tag="stray"):
    """An answer comes that belongs to another call.

    ``moment`` "idle": the call is obeyed, and its answer comes again ``delay`` seconds later, when
    nothing is asked on the connection. "instead": nothing is done, and the connection's answer to
    the call before comes once more, or its end where there was none.
    """

    moment: Literal["idle", "instead"] = "idle"
    delay: float = 0.0


class Stall(Fault, tag="stall"):
    """Nothing comes back for ``delay`` seconds.

    Then the connection breaks (``obeyed`` "never"), or the call is obeyed only then, whoever
    may have given up and asked again ("late").
    """

    delay: float
    obeyed: Literal["never", "late"] = "never"


class Partial(Fault, tag="partial"):
    """Records are refused one by one: a share of ``rate``, in a share of ``requests``."""

    requests: float = 1.0
    code: str = ""
    message: str = ""


class Throttle(Fault, tag="throttle"):
    """A shard (its number, or each) takes this much a second; nothing, unless set."""

    shard: int | None = None
    records_per_second: float = 0.0
    bytes_per_second: float = 0.0


class Deleted(Fault, tag="deleted"):
    """The stream is gone; afterwards there is a new one of that name, empty."""


class Revoke(Fault, tag="revoke"):
    """Every session handed out before now has expired; it stays so."""


class Lifetime(Fault, tag="lifetime", kw_only=True):
    """Sessions last ``lifetime`` seconds, whatever is asked for; less than AWS's 900 may do."""

    lifetime: float
    service: Service | None = "sts"


class Trust(Fault, tag="trust", kw_only=True):
    """Roles ask for this ExternalId instead of their own."""

    external_id: str
    service: Service | None = "sts"


class Skew(Fault, tag="skew"):
    """Clocks of all services (or one) are ahead by ``by`` seconds where signatures are checked."""

    by: float

    def meets(self, call: Call) -> bool:
        """Tell whether a call is one of those meant: those to STS like any other."""
        return self._confines(call)


Known = (
    Error
    | Lost
    | Reset
    | Slow
    | Stray
    | Stall
    | Partial
    | Throttle
    | Deleted
    | Revoke
    | Lifetime
    | Trust
    | Skew
)
Fate = Error | Lost | Reset | Slow | Stray | Stall
KINDS = get_args(Known)
F = TypeVar("F", bound=Fault)


class Begun(NamedTuple):
    """A fault and when it ends, in steady seconds."""

    number: int
    fault: Fault
    ends: float | None


class Faults:
    """What goes wrong at present, in the order in which it was asked for."""

    def __init__(self, steady: Callable[[], float], dice: random.Random) -> None:
        """Begin without any."""
        self._steady = steady
        self._dice = dice
        self._begun: list[Begun] = []
        self._count = 0

    def add(self, fault: Fault) -> int:
        """Begin one; return its number."""
        self._count += 1
        ends = None if fault.seconds is None else self._steady() + fault.seconds
        self._begun.append(Begun(self._count, fault, ends))
        return self._count

    def clear(self, number: int | None = None, stream: str | None = None) -> None:
        """End all, or one by its number, or those of one stream."""
        self._begun = [
            one
            for one in self._begun
            if (number is not None and one.number != number)
            or (stream is not None and one.fault.stream != stream)
        ]

    def present(self) -> list[tuple[Begun, float | None]]:
        """Return what goes wrong, and for how many seconds yet."""
        if not self._begun:
            return []
        now = self._steady()
        self._begun = [
            one
            for one in self._begun
            if (one.ends is None or one.ends > now) and one.fault.times != 0
        ]
        return [(one, None if one.ends is None else one.ends - now) for one in self._begun]

    def of(self, kind: type[F], call: Call) -> Iterator[F]:
        """Return the faults of a kind that a call is to meet."""
        for one, _ in self.present():
            if isinstance(one.fault, kind) and one.fault.meets(call):
                yield one.fault

    def fate(self, call: Call) -> Fate | None:
        """Return what happens to a call as a whole: the first that its dice are for."""
        for one, _ in self.present():
            fault = one.fault
            if isinstance(fault, Fate) and fault.meets(call) and self.dice(fault.rate):
                used(fault)
                return fault
        return None

    def dice(self, rate: float) -> bool:
        """Tell whether something of that rate happens this time."""
        return rate >= 1 or self._dice.random() < rate

    def between(self, shortest: float, longest: float) -> float:
        """Return a time between two."""
        return self._dice.uniform(shortest, longest)


def used(fault: Fault) -> None:
    """Count a call that a fault has met."""
    if fault.times is not None:
        fault.times -= 1


def fault_of(content: object) -> Fault:
    """Read a fault; raises ValueError that says what is wrong with it."""
    names = [kind.__struct_config__.tag for kind in KINDS]
    if not isinstance(content, dict) or content.get("fault") not in names:
        text = f"fault: one of {', '.join(map(str, names))}"
        raise ValueError(text)
    read: Fault = msgspec.convert(content, Known)
    return read

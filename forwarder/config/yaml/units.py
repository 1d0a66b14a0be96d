"""Kinds of value that are numbers: counts, durations, sizes and times."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from forwarder.config.yaml.nodes import Node
from forwarder.config.yaml.values import REFERENCE, Schema, ValueType

_MILLISECONDS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_BYTES = {"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10, "B": 1}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)
"""The last millisecond that can be written."""

_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,14})")
_AMOUNT = re.compile(r"([0-9]{1,12}) ?([A-Za-z]+)")


@dataclass(frozen=True)
class IntegerValue(ValueType):
    """A whole number between two bounds, both included."""

    low: int
    high: int

    @property
    def expected(self) -> str:  # type: ignore[override]  # follows from the bounds
        """Name the range."""
        return f"a whole number from {self.low} to {self.high}"

    def read(self, node: Node) -> int:
        """Read a decimal number; ``0x10``, ``010`` and ``1:30`` are refused."""
        scalar = node.read_scalar(self.expected)
        plain = scalar.text.replace("_", "")
        is_whole = (scalar.tag == "int" or scalar.expanded) and _WHOLE.fullmatch(plain)
        if not is_whole or not self.low <= int(plain) <= self.high:
            node.refuse(f"must be {self.expected}, is {scalar.quoted}")
        return int(plain)

    def schema(self) -> Schema:
        """Describe the number."""
        bounds = {"minimum": self.low, "maximum": self.high}
        return {"type": ["integer", "string"], **bounds, "pattern": REFERENCE}


def format_duration(milliseconds: int) -> str:
    """Return milliseconds in the largest unit that needs no fraction."""
    return _amount(milliseconds, _MILLISECONDS) or "0s"


def format_size(count: int) -> str:
    """Return bytes in the largest unit that needs no fraction."""
    return _amount(count, _BYTES) or "0B"


def _amount(value: int, units: dict[str, int]) -> str:
    fitting = (f"{value // worth}{unit}" for unit, worth in units.items() if value % worth == 0)
    return next(fitting, "") if value else ""


@dataclass(frozen=True)
class _UnitValue(ValueType):
    """A number with a unit, between two bounds in base units, both included."""

    low: int
    high: int

    units: ClassVar[dict[str, int]]
    word: ClassVar[str]

    @property
    def expected(self) -> str:  # type: ignore[override]  # follows from the bounds
        """Name the range."""
        return f"a {self.word} from {self.show(self.low)} to {self.show(self.high)}"

    def read(self, node: Node) -> int:
        """Read an amount in base units."""
        scalar = node.read_scalar(self.expected)
        match = _AMOUNT.fullmatch(scalar.text)
        unit = match.group(2) if match else ""
        if match is None or unit not in self.units:
            node.refuse(f"must be {self.expected}, is {scalar.quoted}; {self._advice(scalar.text)}")
        amount = int(match.group(1)) * self.units[unit]
        if not self.low <= amount <= self.high:
            node.refuse(f"must be {self.expected}, is {scalar.quoted}")
        return amount

    def _advice(self, text: str) -> str:
        match = _AMOUNT.fullmatch(text)
        if match is None and text.isdecimal():
            return f"add a unit, such as {text[:12]}{self._usual_unit(text)}"
        if match:
            folded = {unit.lower(): unit for unit in self.units}
            near = match.group(2).lower()
            unit = folded.get(near) or folded.get(near.replace("b", "ib"))
            if unit:
                return f"write {match.group(1)}{unit}"
        return f"write a whole number and one of {' '.join(reversed(self.units))}"

    def _usual_unit(self, text: str) -> str:
        fitting = [u for u, w in self.units.items() if self.low <= int(text[:12]) * w <= self.high]
        usual = [unit for unit in ("s", "MiB") if unit in fitting]
        return (usual or fitting or list(self.units))[0]

    def schema(self) -> Schema:
        """Describe the amount; bounds are beyond a pattern and stay with the program."""
        units = "|".join(self.units)
        return {"type": "string", "pattern": f"^[0-9]{{1,12}} ?(?:{units})$|{REFERENCE}"}

    def show(self, value: object) -> str:
        """Write the amount in its largest whole unit."""
        return _amount(int(str(value)), self.units) or "0" + list(self.units)[-2]


class DurationValue(_UnitValue):
    """A length of time, in milliseconds."""

    suffix = "_ms"
    units = _MILLISECONDS
    word = "duration"


class SizeValue(_UnitValue):
    """An amount of memory, in bytes."""

    units = _BYTES
    word = "size"


@dataclass(frozen=True)
class TimestampValue(ValueType):
    """A point in time, in milliseconds since the epoch."""

    expected: str = "a time with its zone, such as 2026-01-31T12:00:00Z"
    suffix = "_ms"

    def read(self, node: Node) -> int:
        """Read ISO 8601; without a zone two machines would not agree on it."""
        scalar = node.read_scalar(self.expected)
        try:
            moment = datetime.fromisoformat(scalar.text)
        except ValueError:
            node.refuse(f"must be {self.expected}, is {scalar.quoted}")
        if moment.tzinfo is None:
            advice = "add Z for UTC, or an offset such as +02:00"
            node.refuse(f"must be {self.expected}, {scalar.quoted} has no zone; {advice}")
        if moment < _EPOCH:
            node.refuse(f"must be {self.expected}, {scalar.quoted} lies before 1970")
        milliseconds = round((moment - _EPOCH).total_seconds() * 1_000)
        if milliseconds > _LAST:
            node.refuse(f"must be {self.expected}, {scalar.quoted} lies after the year 9999 in UTC")
        return milliseconds

    def schema(self) -> Schema:
        """Describe the time."""
        return {"type": "string", "pattern": f"^[0-9]{{4}}-?[0-9]{{2}}.*[0-9Z]$|{REFERENCE}"}

    def show(self, value: object) -> str:
        """Write the time in UTC."""
        moment = _EPOCH + timedelta(milliseconds=int(str(value)))
        exact = "milliseconds" if moment.microsecond else "seconds"
        return moment.isoformat(timespec=exact).replace("+00:00", "Z")

"""What holds values: sections of fields, lists, and sections chosen by their type."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields
from dataclasses import Field as DataclassField
from typing import Any, cast

from forwarder.config.yaml.faults import InvalidError, UnknownError
from forwarder.config.yaml.nodes import Spot
from forwarder.config.yaml.spelling import likeliest
from forwarder.config.yaml.values import Kind, Schema

_NO_DEFAULT: Any = object()


@dataclass(frozen=True)
class Field:
    """One key of a section: its kind, and one sentence about it.

    The default is that of the dataclass the section builds, unless given here.
    ``stored``: the dataclass has an attribute for it.
    """

    name: str
    kind: Kind
    about: str
    default: Any = _NO_DEFAULT
    stored: bool = True

    @property
    def attribute(self) -> str:
        """Name the attribute of the dataclass; its suffix is the unit."""
        return self.name + self.kind.suffix


class Sheet:
    """One section as read: the good values by key, and where each was given.

    ``unknown`` holds what stands in for values that are not known here (``Page.elsewhere``).
    """

    def __init__(self, section: "Section", spot: Spot) -> None:
        """Begin with nothing read."""
        self.section = section
        self.spot = spot
        self.values: dict[str, Any] = {}
        self.unknown: dict[str, Any] = {}
        self.spots: dict[str, Spot] = {}

    def get(self, name: str) -> Any:  # noqa: ANN401  # each field has a type of its own
        """Return a value; None where it was refused, or is not known here."""
        return self.values.get(name)

    def told(self, name: str) -> Any:  # noqa: ANN401  # each field has a type of its own
        """Return a value, or what stands in for one that is not known here."""
        return self.values.get(name, self.unknown.get(name))

    def has(self, *names: str) -> bool:
        """Tell whether the file gives any of these a value other than null."""
        return any(name in self.spots and not self.spots[name].is_null for name in names)

    def fault(self, name: str, text: str) -> None:
        """Note a fault at a key, or at its parent's line if the key is missing."""
        line, path = self._place(name)
        self.spot.page.fault(line, path, text)

    def note(self, name: str, text: str) -> None:
        """Note what is allowed but may not be what was meant."""
        line, path = self._place(name)
        self.spot.page.note(line, path, text)

    def _place(self, name: str) -> tuple[int, str]:
        spot = self.spots.get(name)
        return (spot.line, spot.path) if spot else (self.spot.line, self.spot.below(name))

    def attributes(self) -> dict[str, Any]:
        """Return what the dataclass is made of, sections below included."""
        return {
            field.attribute: built(
                self.unknown[field.name] if field.name in self.unknown else self.values[field.name]
            )
            for field in self.section.fields
            if field.stored
        }

    def build(self) -> Any:  # noqa: ANN401  # the section decides
        """Make the dataclass of this section."""
        return (
            self.section.build(self)
            if self.section.build
            else self.section.into(**self.attributes())
        )


def built(value: Any) -> Any:  # noqa: ANN401  # any value of any field
    """Return a value with every sheet in it replaced by what it builds."""
    if isinstance(value, Sheet):
        return value.build()
    if isinstance(value, tuple):
        return tuple(built(element) for element in value)
    return value


@dataclass(frozen=True)
class Section(Kind):
    """A mapping of known keys. ``checks`` see the good values and add faults and notes."""

    into: type
    fields: tuple[Field, ...]
    checks: tuple[Callable[[Sheet], None], ...] = ()
    build: Callable[[Sheet], object] | None = None
    wanted: str = "a mapping of keys"
    rules: Mapping[str, object] | None = None

    def default(self, field: Field) -> Any:  # noqa: ANN401  # each field has a type of its own
        """Return a field's default; MISSING if it has to be given."""
        if field.default is not _NO_DEFAULT:
            return field.default
        own: dict[str, DataclassField[Any]] = {f.name: f for f in fields(self.into)}
        return own[field.attribute].default

    @property
    def optional(self) -> bool:
        """Tell whether all of it may be left out."""
        return all(
            field.kind.optional if isinstance(field.kind, Section) else not self._required(field)
            for field in self.fields
        )

    def _required(self, field: Field) -> bool:
        return self.default(field) is MISSING

    def read(self, spot: Spot) -> Sheet:
        """Read every key; faults are noted, what could be read is returned."""
        sheet = Sheet(self, spot)
        if not spot.is_null:
            try:
                sheet.spots = spot.entries()
            except InvalidError:
                return sheet
        self._refuse_unknown(sheet)
        for field in self.fields:
            self._read_field(field, sheet)
        for check in self.checks:
            check(sheet)
        return sheet

    def _refuse_unknown(self, sheet: Sheet) -> None:
        known = [field.name for field in self.fields]
        for name, spot in sheet.spots.items():
            if name not in known and spot.page.is_full:
                spot.fault("is no key that is known here")
            elif name not in known:
                home = spot.page.homes.get(name)
                near = likeliest(name.partition(":")[0], known)
                place = "below another type" if home == spot.path else home
                hint = near or (f" (its place is {place})" if home else "")
                advice = "put a space after the colon" if ":" in name else "correct or delete it"
                spot.fault(f"is no key that is known here{hint}; {advice}")

    def paths(self, above: str = "") -> Iterator[tuple[str, "Section", Field]]:
        """Yield the dotted path of every key, its section and its field; parents come first."""
        for field in self.fields:
            path = f"{above}.{field.name}" if above else field.name
            yield path, self, field
            for section in field.kind.sections():
                yield from section.paths(path)

    def shares(self, keys: Iterable[str]) -> int:
        """Count the keys that are known here."""
        return len({field.name for field in self.fields}.intersection(keys))

    def sections(self) -> Sequence["Section"]:
        """Return itself: its keys lie below its path."""
        return (self,)

    def _read_field(self, field: Field, sheet: Sheet) -> None:
        spot = sheet.spots.get(field.name)
        if spot is None:
            self._fill(field, sheet)
            return
        try:
            sheet.values[field.name] = field.kind.read(spot)
        except UnknownError as error:
            default = self.default(field)
            keeps = field.kind.textual or default is MISSING
            sheet.unknown[field.name] = error.written if keeps else default
        except InvalidError:
            return

    def _fill(self, field: Field, sheet: Sheet) -> None:
        if isinstance(field.kind, Section) and field.kind.optional:
            sheet.values[field.name] = field.kind.empty(sheet, field.name)
        elif self._required(field):
            sheet.fault(field.name, f"is missing; add it: {field.about}")
        else:
            sheet.values[field.name] = self.default(field)

    def empty(self, parent: Sheet, name: str) -> Sheet:
        """Return this section as it is when the file leaves it out."""
        above = parent.spot
        sheet = Sheet(self, Spot(above.node, above.page, above.below(name), above.line))
        for field in self.fields:
            self._fill(field, sheet)
        return sheet

    def schema(self) -> Schema:
        """Describe the keys for an editor."""
        described: dict[str, object] = {}
        for field in self.fields:
            described[field.name] = {"description": field.about, **field.kind.schema()}
        required = [f.name for f in self.fields if self._must_give(f)]
        shape: Schema = {
            "type": ["object", "null"] if self.optional else "object",
            "additionalProperties": False,
            "properties": described,
        }
        return {**shape, **({"required": required} if required else {}), **(self.rules or {})}

    def _must_give(self, field: Field) -> bool:
        if isinstance(field.kind, Section):
            return not field.kind.optional
        return self._required(field)


@dataclass(frozen=True)
class ListOf(Kind):
    """A list of one kind, as a tuple. ``least`` elements at least, none of them twice.

    ``each`` is done to every value that is known here, once it was judged.
    """

    element: Kind
    least: int = 0
    into: Callable[[tuple[Any, ...]], object] = tuple
    each: Callable[[Any], object] | None = None

    @property
    def textual(self) -> bool:
        """Tell what the elements tell."""
        return self.element.textual

    @property
    def wanted(self) -> str:  # type: ignore[override]  # follows from the element
        """Name the elements."""
        return f"a list of {self.element.wanted}"

    def read(self, spot: Spot) -> object:
        """Read every element, so that each wrong one is noted."""
        values: list[Any] = []
        seen: set[Any] = set()  # sheets among them are told apart by identity
        unknown = False
        spots = spot.elements(self.element.wanted, secret=self.element.hidden)
        for element in spots:
            try:
                value = self.element.read(element)
            except UnknownError as error:
                values.append(error.written)
                unknown = True
                continue
            except InvalidError:
                continue
            if value in seen:
                element.fault("is in the list twice; delete one of them")
            seen.add(value)
            values.append(self.each(value) if self.each else value)
        if len(spots) < self.least:
            spot.refuse(f"is an empty list; name at least {self.least}, or delete the key")
        if len(values) < len(spots):
            raise InvalidError(spot.path)
        if unknown:
            raise UnknownError(self.into(tuple(values)))
        return self.into(tuple(values))

    def show(self, value: object) -> str:
        """Write the list on one line; what has no order is sorted."""
        values = (
            sorted(value) if isinstance(value, frozenset) else cast("tuple[object, ...]", value)
        )
        return f"[{', '.join(self.element.show(each) for each in values)}]"

    def schema(self) -> Schema:
        """Describe the list."""
        least = {"minItems": self.least} if self.least else {}
        return {"type": "array", "items": self.element.schema(), "uniqueItems": True, **least}


@dataclass(frozen=True)
class Tagged(Kind):
    """Sections told apart by their key ``type``."""

    variants: Mapping[str, Section]
    wanted: str = "a mapping of keys"

    def sections(self) -> Sequence[Section]:
        """Return every variant."""
        return tuple(self.variants.values())

    def read(self, spot: Spot) -> Sheet:
        """Read the section that ``type`` names, or the likeliest, which will fault its type."""
        keys = spot.entries()
        named = self.variants.get(str(keys["type"].node.value)) if "type" in keys else None
        return (named or max(self.variants.values(), key=lambda each: each.shares(keys))).read(spot)

    def schema(self) -> Schema:
        """Describe every variant."""
        return {"type": "object", "oneOf": [section.schema() for section in self.variants.values()]}


@dataclass(frozen=True)
class Named(Kind):
    """A section that may be written as its name alone."""

    section: Section
    wanted: str

    def read(self, spot: Spot) -> Sheet:
        """Read a name, or the mapping."""
        if not spot.is_scalar:
            return self.section.read(spot)
        name, *others = self.section.fields
        sheet = Sheet(self.section, spot)
        sheet.values = {field.name: self.section.default(field) for field in others}
        sheet.spots = {name.name: spot}
        with suppress(InvalidError):  # noted; the others of the list are judged all the same
            try:
                sheet.values[name.name] = name.kind.read(spot)
            except UnknownError as error:
                sheet.unknown[name.name] = error.written
        return sheet

    def show(self, value: object) -> str:
        """Write the name."""
        name = self.section.fields[0]
        return name.kind.show(value.told(name.name)) if isinstance(value, Sheet) else str(value)

    def schema(self) -> Schema:
        """Describe both forms."""
        return {"anyOf": [self.section.fields[0].kind.schema(), self.section.schema()]}

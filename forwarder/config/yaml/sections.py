"""What holds values: sections of fields, lists, and sections chosen by their type."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields, replace
from dataclasses import Field as DataclassField
from typing import Any, cast

from forwarder.config.yaml.faults import InvalidValueError, UnavailableValueError
from forwarder.config.yaml.nodes import Node
from forwarder.config.yaml.spelling import did_you_mean
from forwarder.config.yaml.values import Schema, ValueType

_NO_DEFAULT: Any = object()


@dataclass(frozen=True)
class Field:
    """One key of a section: its kind, and one sentence about it.

    The default is that of the dataclass the section builds, unless given here.
    ``stored``: the dataclass has an attribute for it.
    """

    name: str
    value_type: ValueType
    about: str
    default: Any = _NO_DEFAULT
    stored: bool = True

    @property
    def attribute(self) -> str:
        """Name the attribute of the dataclass; its suffix is the unit."""
        return self.name + self.value_type.suffix


class SectionValues:
    """One section as read: the good values by key, and where each was given.

    ``unknown``: what stands in for values that are not known here, where that is tolerated.
    """

    def __init__(self, section: "Section", node: Node) -> None:
        """Create with no key read."""
        self.section = section
        self.node = node
        self.values: dict[str, Any] = {}
        self.unknown: dict[str, Any] = {}
        self.nodes: dict[str, Node] = {}

    def get(self, name: str) -> Any:  # noqa: ANN401  # each field has a type of its own
        """Return a value; None where it was refused, or is not known here."""
        return self.values.get(name)

    def value_or_placeholder(self, name: str) -> Any:  # noqa: ANN401  # each field has a type of its own
        """Return a value, or what stands in for one that is not known here."""
        return self.values.get(name, self.unknown.get(name))

    def has(self, *names: str) -> bool:
        """Tell whether the file gives any of these a value other than null."""
        return any(name in self.nodes and not self.nodes[name].is_null for name in names)

    def fault(self, name: str, text: str) -> None:
        """Note a fault at a key, or at its parent's line if the key is missing.

        What is missing of another process's is none.
        """
        node = self._place(name)
        if name in self.nodes or not node.file.unresolved:
            node.fault(text)

    def note(self, name: str, text: str) -> None:
        """Note what is allowed but may not be what was meant."""
        self._place(name).note(text)

    def _place(self, name: str) -> Node:
        path = self.node.key_path(name)
        missing = replace(self.node, file=self.node.file.view(path), path=path)
        return self.nodes.get(name) or missing

    def attributes(self) -> dict[str, Any]:
        """Return what the dataclass is made of, sections below included."""
        return {
            field.attribute: build_value(
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
            else self.section.target_type(**self.attributes())
        )


def build_value(value: Any) -> Any:  # noqa: ANN401  # any value of any field
    """Return a value with every section in it replaced by what it builds."""
    if isinstance(value, SectionValues):
        return value.build()
    if isinstance(value, tuple):
        return tuple(build_value(element) for element in value)
    return value


@dataclass(frozen=True)
class Section(ValueType):
    """A mapping of known keys. ``checks`` see the good values and add faults and notes."""

    target_type: type
    fields: tuple[Field, ...]
    checks: tuple[Callable[[SectionValues], None], ...] = ()
    build: Callable[[SectionValues], object] | None = None
    expected: str = "a mapping of keys"
    schema_rules: Mapping[str, object] | None = None

    def default(self, field: Field) -> Any:  # noqa: ANN401  # each field has a type of its own
        """Return a field's default; MISSING if it has to be given."""
        if field.default is not _NO_DEFAULT:
            return field.default
        own: dict[str, DataclassField[Any]] = {f.name: f for f in fields(self.target_type)}
        return own[field.attribute].default

    @property
    def optional(self) -> bool:
        """Tell whether all of it may be left out."""
        return all(
            field.value_type.optional
            if isinstance(field.value_type, Section)
            else not self._required(field)
            for field in self.fields
        )

    def _required(self, field: Field) -> bool:
        return self.default(field) is MISSING

    def read(self, node: Node) -> SectionValues:
        """Read every key; faults are noted, what could be read is returned."""
        found = SectionValues(self, node)
        if not node.is_null:
            try:
                found.nodes = node.entries()
            except InvalidValueError:
                return found
        self._refuse_unknown(found)
        for field in self.fields:
            self._read_field(field, found)
        for check in self.checks:
            check(found)
        return found

    def _refuse_unknown(self, found: SectionValues) -> None:
        known = [field.name for field in self.fields]
        for name, node in found.nodes.items():
            if name not in known and node.file.is_full:
                node.fault("is no key that is known here")
            elif name not in known:
                home = node.file.key_paths.get(name)
                near = did_you_mean(name.partition(":")[0], known)
                place = "below another type" if home == node.path else home
                hint = near or (f" (its place is {place})" if home else "")
                advice = "put a space after the colon" if ":" in name else "correct or delete it"
                node.fault(f"is no key that is known here{hint}; {advice}")

    def paths(self, above: str = "") -> Iterator[tuple[str, "Section", Field]]:
        """Yield the dotted path of every key, its section and its field; parents come first."""
        for field in self.fields:
            path = f"{above}.{field.name}" if above else field.name
            yield path, self, field
            below = f"{path}[]" if isinstance(field.value_type, ListValue) else path
            for section in field.value_type.sections():
                if isinstance(section, Section):
                    yield from section.paths(below)

    def known_count(self, keys: Iterable[str]) -> int:
        """Count the keys that are known here."""
        return len({field.name for field in self.fields}.intersection(keys))

    def sections(self) -> Sequence["Section"]:
        """Return itself: its keys lie below its path."""
        return (self,)

    def _read_field(self, field: Field, found: SectionValues) -> None:
        node = found.nodes.get(field.name)
        if node is None:
            self._fill(field, found)
            return
        try:
            found.values[field.name] = field.value_type.read(node)
        except UnavailableValueError as error:
            default = self.default(field)
            keeps = field.value_type.accepts_placeholder or default is MISSING
            found.unknown[field.name] = error.written if keeps else default
        except InvalidValueError:
            return

    def _fill(self, field: Field, found: SectionValues) -> None:
        if isinstance(field.value_type, Section) and field.value_type.optional:
            found.values[field.name] = field.value_type.empty(found, field.name)
        elif self._required(field):
            found.fault(field.name, f"is missing; add it: {field.about}")
        else:
            found.values[field.name] = self.default(field)

    def empty(self, parent: SectionValues, name: str) -> SectionValues:
        """Return this section as it is when the file leaves it out."""
        above = parent.node
        found = SectionValues(self, Node(above.raw, above.file, above.key_path(name), above.line))
        for field in self.fields:
            self._fill(field, found)
        return found

    def show(self, value: object) -> str:
        """Write on one line what is not at its default, each value masked by itself."""
        assert isinstance(value, SectionValues)  # noqa: S101  # as ``read`` returns it
        shown = [
            f"{field.name}: {field.value_type.mask(field.value_type.show(given))}"
            for field in self.fields
            if (given := value.value_or_placeholder(field.name)) != self.default(field)
        ]
        return f"{{{', '.join(shown)}}}"

    def mask(self, text: str) -> str:
        """Return what is shown as it is."""
        return text

    def schema(self) -> Schema:
        """Describe the keys for an editor."""
        described: dict[str, object] = {}
        for field in self.fields:
            described[field.name] = {"description": field.about, **field.value_type.schema()}
        required = [f.name for f in self.fields if self._must_give(f)]
        shape: Schema = {
            "type": ["object", "null"] if self.optional else "object",
            "additionalProperties": False,
            "properties": described,
        }
        return {
            **shape,
            **({"required": required} if required else {}),
            **(self.schema_rules or {}),
        }

    def _must_give(self, field: Field) -> bool:
        if isinstance(field.value_type, Section):
            return not field.value_type.optional
        return self._required(field)


@dataclass(frozen=True)
class ListValue(ValueType):
    """A list of one kind, as a tuple. ``least`` elements at least, none of them twice.

    ``each`` is done to every value that is known here, once it was judged.
    """

    element: ValueType
    least: int = 0
    target_type: Callable[[tuple[Any, ...]], object] = tuple
    each: Callable[[Any], object] | None = None

    @property
    def accepts_placeholder(self) -> bool:
        """Tell what the elements tell."""
        return self.element.accepts_placeholder

    @property
    def expected(self) -> str:  # type: ignore[override]  # follows from the element
        """Name the elements."""
        return f"a list of {self.element.expected}"

    def sections(self) -> Sequence[ValueType]:
        """Return those of the elements."""
        return self.element.sections()

    def read(self, node: Node) -> object:
        """Read every element, so that each wrong one is noted."""
        values: list[Any] = []
        seen: set[Any] = set()  # sections among them are told apart by identity
        unknown = False
        nodes = node.elements(self.element.expected, secret=self.element.hidden)
        for element in nodes:
            try:
                value = self.element.read(element)
            except UnavailableValueError as error:
                values.append(error.written)
                unknown = True
                continue
            except InvalidValueError:
                continue
            if value in seen and not (self.element.hidden and node.file.offline):
                element.fault("is in the list twice; delete one of them")
            seen.add(value)
            values.append(self.each(value) if self.each else value)
        if len(nodes) < self.least:
            node.refuse(f"is an empty list; name at least {self.least}, or delete the key")
        if len(values) < len(nodes):
            raise InvalidValueError(node.path)
        if unknown:
            raise UnavailableValueError(self.target_type(tuple(values)))
        return self.target_type(tuple(values))

    def show(self, value: object) -> str:
        """Write the list on one line; what has no order is sorted."""
        values = (
            sorted(value) if isinstance(value, frozenset) else cast("tuple[object, ...]", value)
        )
        return f"[{', '.join(self.element.show(each) for each in values)}]"

    def mask(self, text: str) -> str:
        """Hide what the elements hide."""
        return self.element.mask(text)

    def schema(self) -> Schema:
        """Describe the list."""
        least = {"minItems": self.least} if self.least else {}
        return {"type": "array", "items": self.element.schema(), "uniqueItems": True, **least}


@dataclass(frozen=True)
class TaggedSections(ValueType):
    """Sections told apart by their key ``type``."""

    variants: Mapping[str, Section]
    expected: str = "a mapping of keys"

    def sections(self) -> Sequence[Section]:
        """Return every variant."""
        return tuple(self.variants.values())

    def read(self, node: Node) -> SectionValues:
        """Read the section that ``type`` names, or the likeliest, which will fault its type."""
        keys = node.entries()
        named = self.variants.get(str(keys["type"].raw.value)) if "type" in keys else None
        return (named or max(self.variants.values(), key=lambda each: each.known_count(keys))).read(
            node
        )

    def schema(self) -> Schema:
        """Describe every variant."""
        return {"type": "object", "oneOf": [section.schema() for section in self.variants.values()]}


@dataclass(frozen=True)
class NameOrSection(ValueType):
    """A section that may be written as its name alone."""

    section: Section
    expected: str

    def sections(self) -> Sequence[Section]:
        """Return the mapping."""
        return (self.section,)

    def read(self, node: Node) -> SectionValues:
        """Read a name, or the mapping."""
        if not node.is_scalar:
            return self.section.read(node)
        name, *others = self.section.fields
        found = SectionValues(self.section, node)
        found.values = {field.name: self.section.default(field) for field in others}
        found.nodes = {name.name: node}
        with suppress(InvalidValueError):  # noted; the others of the list are judged all the same
            try:
                found.values[name.name] = name.value_type.read(node)
            except UnavailableValueError as error:
                found.unknown[name.name] = error.written
        return found

    def show(self, value: object) -> str:
        """Write the name, or a mapping of what else is not at its default."""
        if not isinstance(value, SectionValues):
            return str(value)
        name, *others = self.section.fields
        if all(value.value_or_placeholder(f.name) == self.section.default(f) for f in others):
            return name.value_type.show(value.value_or_placeholder(name.name))
        return self.section.show(value)

    def mask(self, text: str) -> str:
        """Return what is shown as it is: every value in it was masked by itself."""
        return text

    def schema(self) -> Schema:
        """Describe both forms."""
        return {"anyOf": [self.section.fields[0].value_type.schema(), self.section.schema()]}

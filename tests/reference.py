"""The tables of docs/configuration.md, made from the description that the loader reads by.

``python -m tests.reference`` writes them into the page; a test says when that is due.
"""

import re
from collections.abc import Iterator
from dataclasses import MISSING
from typing import cast

from forwarder.config.connection_fields import CONNECTION
from forwarder.config.mparticle_settings import SETTINGS
from forwarder.config.worker_fields import WORKER
from forwarder.config.yaml.sections import Field, ListValue, NameOrSection, Section, TaggedSections
from forwarder.config.yaml.units import DurationValue, IntegerValue, SizeValue
from forwarder.config.yaml.values import EnumValue, FlagValue, NullableValue, TagValue, ValueType
from forwarder.formats.mparticle.event_filter import SETTING_BY_EVENT_TYPE
from tests.configurations import ROOT

PAGE = ROOT / "docs" / "configuration.md"
_MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def values(kind: ValueType) -> str:
    """Say in a few words what a key takes."""
    match kind:
        case NullableValue():
            words = f"{values(kind.value_type)}, or null"
        case ListValue():
            words = f"list of {values(kind.element)}"
        case NameOrSection():
            words = f"{values(kind.section.fields[0].value_type)}, or a mapping"
        case Section():
            words = "mappings"
        case EnumValue():
            known = [kind.own] if isinstance(kind, TagValue) else kind.words_known
            words = " ".join(f"`{word}`" for word in known)
        case DurationValue() | SizeValue():
            words = f"{kind.show(kind.low)} … {kind.show(kind.high)}"
        case IntegerValue():
            words = f"{kind.low} … {kind.high}"
        case _:
            words = "flag" if isinstance(kind, FlagValue) else "text"
    return words


def default(section: Section, field: Field) -> str:
    """Return a key's default as it would be written."""
    value = section.default(field)
    if value is MISSING:
        return "**required**"
    return f"`{'null' if value is None else field.value_type.show(value)}`"


def leaves(top: Section) -> Iterator[tuple[str, Section, Field]]:
    """Yield the keys that hold values."""
    for path, section, field in top.paths():
        kind = field.value_type
        inner = kind.value_type if isinstance(kind, NullableValue) else kind
        if section is not SETTINGS and not isinstance(inner, Section | TaggedSections):
            yield path, section, field


def keys(top: Section, *, gateway: bool = False) -> Iterator[str]:
    """Yield the table of a file's keys; ``settings`` and ``gateway`` have tables of their own."""
    yield "| key | values | default | |"
    yield "|---|---|---|---|"
    for path, section, field in leaves(top):
        if path.startswith("gateway") is not gateway:
            continue
        row = (f"`{path}`", values(field.value_type), default(section, field), field.about)
        yield f"| {' | '.join(row)} |"


def governed(name: str) -> str:
    """Name the event types that a setting lets pass."""
    return ", ".join(
        f"`{kind}`" for kind, setting in SETTING_BY_EVENT_TYPE.items() if setting == name
    )


def setting_rows() -> Iterator[str]:
    """Yield the table of mParticle's settings, and of the event types each governs."""
    yield "| setting | default | event types it governs | |"
    yield "|---|---|---|---|"
    for field in SETTINGS.fields:
        row = (f"`{field.name}`", default(SETTINGS, field), governed(field.name), field.about)
        yield f"| {' | '.join(row)} |"


TABLES = {
    "worker": lambda: keys(WORKER),
    "gateway": lambda: keys(WORKER, gateway=True),
    "connection": lambda: keys(CONNECTION),
    "settings": setting_rows,
}


def current(page: str) -> str:
    """Return the page with its tables as they should be."""

    def table(match: "re.Match[str]") -> str:
        rows = "".join(f"{row}\n" for row in TABLES[match.group(2)]())
        return match.group(1) + rows + cast("str", match.group(3))

    return _MARKED.sub(table, page)


if __name__ == "__main__":
    PAGE.write_text(current(PAGE.read_text()))

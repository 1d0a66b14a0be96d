"""Any single thing done wrong to a good configuration is found, at its line and by its key."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.config.loader import load_configuration
from forwarder.errors import ConfigurationError
from tests.configurations import EXAMPLE, WORKER

ODD = [
    "",
    " [1, 2]",
    " {odd: 1}",
    " !odd 1",
    ' "\\u2028"',
    " 1.5e+9",
    " ~",
    ' ""',
    " -",
    " ${NOPE}",
]
# What is no wrong value for a key: empty sections and keys that may be null.
NULLS = ("", " ~")
NULLABLE = {
    "deliver_from",
    "match",
    "credentials",
    "aws_account_id",
    "org_id",
    "endpoint_url",
    "unique_id",
    "settings",
    "batching",
    "group_instance_id",
    "security",
    "journal",
    "server",
    "limits",
    "log",
}
# Constant text may be anything.
FREE = {"unique_id": (' "\\u2028"',)}


@dataclass(frozen=True)
class Key:
    file: str
    line: int
    path: str
    nested: bool

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]


def keys(file: str, text: str) -> Iterator[Key]:
    """Find every key of a block mapping, by its own walk over the text."""
    above: list[tuple[int, str]] = []
    for number, line in enumerate(text.splitlines(), 1):
        name, colon, rest = line.partition(":")
        if not colon or name.lstrip().startswith("#"):
            continue
        indent = len(name) - len(name.lstrip())
        above = [*(each for each in above if each[0] < indent), (indent, name.strip())]
        yield Key(file, number, ".".join(n for _, n in above), not rest.split("#")[0].strip())


FILES = {"forwarder.yaml": WORKER, "connections/example.yaml": EXAMPLE}
KEYS = [key for file, text in FILES.items() for key in keys(file, text)]


def faults(file: str, text: str) -> list[str]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "connections").mkdir()
        for path, shipped in FILES.items():
            (folder / path).write_text(text if path == file else shipped)
        try:
            load_configuration(folder / "forwarder.yaml", environ={})
        except ConfigurationError as error:
            return [fault.removeprefix(f"{folder}/") for fault in error.faults]
    return []


def mutated(key: Key, line: str | None) -> str:
    lines = FILES[key.file].splitlines()
    lines[key.line - 1 : key.line] = [] if line is None else [line]
    return "\n".join(lines) + "\n"


def flat(value: object, above: str = "") -> Iterator[str]:
    for name, below in value.items() if isinstance(value, dict) else ():
        yield f"{above}{name}"
        yield from flat(below, f"{above}{name}.")


def test_the_walk_over_the_text_finds_all_but_the_keys_in_braces() -> None:
    found = {path for text in FILES.values() for path in flat(yaml.safe_load(text))}
    in_braces = {"kafka.security.protocol", "server.host", "server.port"} | {
        "limits.window_memory",
        "limits.in_flight",
        "limits.rejected_percent",
        "log.level",
        "log.format",
    }
    assert found - in_braces == {key.path for key in KEYS}


def test_the_shipped_files_have_no_fault() -> None:
    assert [] == faults("", "")


@settings(deadline=None)
@given(st.sampled_from(KEYS), st.text("abcdefxyz_", min_size=1, max_size=8))
def test_a_misspelt_key_is_named_at_its_line(key: Key, extra: str) -> None:
    line = FILES[key.file].splitlines()[key.line - 1]
    wrong = key.name + "_" + extra
    found = faults(key.file, mutated(key, line.replace(key.name, wrong, 1)))
    place = f"{key.file}:{key.line}: {key.path}_{extra}: is no key that is known here"
    assert [True] == [fault.startswith(place) for fault in found if f"{wrong}: " in fault]


@settings(deadline=None)
@given(st.sampled_from([key for key in KEYS if not key.nested]), st.sampled_from(ODD))
def test_a_value_of_the_wrong_type_is_named_at_its_line(key: Key, value: str) -> None:
    indent = FILES[key.file].splitlines()[key.line - 1].partition(key.name)[0]
    found = faults(key.file, mutated(key, f"{indent}{key.name}:{value}"))
    allowed = key.name in NULLABLE and value in NULLS
    if allowed or value in FREE.get(key.name, ()):
        return
    if key.name == "metadata_field_exclusion" and value == "":
        return
    syntax = f"{key.file}:{key.line}: (syntax): "
    place = f"{key.file}:{key.line}: {key.path}"
    assert any(fault.startswith((place, syntax)) for fault in found), found


@settings(deadline=None)
@given(st.sampled_from(KEYS), st.text(max_size=20))
def test_no_text_whatever_ends_in_anything_but_faults(key: Key, value: str) -> None:
    line = FILES[key.file].splitlines()[key.line - 1]
    for found in faults(key.file, mutated(key, f"{line.partition(':')[0]}: {value}")):
        file, number, rest = found.split(":", 2)
        assert file in FILES
        assert int(number) >= 1
        assert rest.startswith(" ")
        assert "\n" not in found


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_whatever_end_in_anything_but_faults(content: bytes) -> None:
    with TemporaryDirectory() as name:
        path = Path(name) / "forwarder.yaml"
        path.write_bytes(content)
        try:
            load_configuration(path, environ={})
        except ConfigurationError as error:
            lines = error.faults
    assert all(line.startswith(f"{path}:") and "\n" not in line for line in lines)

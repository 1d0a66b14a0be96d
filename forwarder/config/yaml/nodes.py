"""YAML with its lines kept: values are read from nodes, so that every fault knows its place."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NoReturn

import yaml

from forwarder.config import masking
from forwarder.config.yaml import files, variables
from forwarder.config.yaml.faults import (
    MAX_CONFIG_VALUES,
    WHOLE_FILE,
    ConfigFile,
    InvalidValueError,
    UnavailableValueError,
    quote_for_fault,
)

# The parser in C is ten times faster; PyYAML is sometimes built without it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TAG = "tag:yaml.org,2002:"
_MERGE = _TAG + "merge"
_SCALARS = frozenset({"str", "int", "float", "bool", "null", "timestamp"})
_UNQUOTED = {"map": "a mapping of keys", "seq": "a list", "null": "empty"}
_PLAIN_KEY = re.compile(r"[\w.<>-]{1,100}")
_MAX_DEPTH = 20
# Files repeat their keys, and to search one for secrets takes 20 µs: most of a load otherwise.
_KEYS_REMEMBERED = 1_024

MAX_CONFIG_FILE_BYTES = 16 * 1024 * 1024
"""The largest configuration file: ten times what 40,000 applications take."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value: its text after expansion, and what YAML takes it for."""

    node: "Node"
    text: str
    tag: str
    expanded: bool
    secret: bool

    @property
    def is_text(self) -> bool:
        """Tell whether YAML itself takes the value for text."""
        return self.tag == "str"

    @property
    def quoted(self) -> str:
        """Return the value as a fault names it."""
        return self.node.description(secret=self.secret)


@dataclass(frozen=True, slots=True)
class Node:
    """One node of a file with its dotted path and line."""

    raw: yaml.Node
    file: ConfigFile
    path: str
    line: int

    def fault(self, text: str) -> None:
        """Note a fault here."""
        self.file.fault(self.line, self.path or WHOLE_FILE, text)

    def refuse(self, text: str) -> NoReturn:
        """Note a fault here with which the value cannot be used; raises InvalidValueError."""
        self.file.refuse(self.line, self.path or WHOLE_FILE, text)

    def note(self, text: str) -> None:
        """Note what is allowed but may not be what was meant."""
        self.file.note(self.line, self.path or WHOLE_FILE, text)

    def note_missing(self, text: str, written: object) -> NoReturn:
        """Note what is not here; raises as ``ConfigFile.missing``."""
        self.file.note_missing(self.line, self.path or WHOLE_FILE, text, written)

    def key_path(self, name: str) -> str:
        """Return the dotted path of a key of this mapping."""
        return f"{self.path}.{name}" if self.path else name

    @property
    def is_null(self) -> bool:
        """Tell whether nothing was written here."""
        return self.raw.tag == _TAG + "null" and isinstance(self.raw, yaml.ScalarNode)

    @property
    def is_scalar(self) -> bool:
        """Tell whether this is a single value."""
        return isinstance(self.raw, yaml.ScalarNode)

    @property
    def tag(self) -> str:
        """Return what YAML takes it for: str, int, float, bool, null, timestamp, seq or map."""
        return self.raw.tag.removeprefix(_TAG)

    def description(self, *, secret: bool = False) -> str:
        """Return what stands here as a fault names it; values of secrets stay unsaid."""
        if self.tag in _UNQUOTED:
            return _UNQUOTED[self.tag]
        if not self.is_scalar or self.tag not in _SCALARS:
            return "something with a tag"
        text = str(self.raw.value)
        if variables.has_references(text):
            return f"what {variables.references(text)} stands for"
        if secret:
            return "something else"
        return quote_for_fault(text) if self.tag == "str" else quote_for_fault(text)[1:-1]

    def read_scalar(self, wanted: str, *, secret: bool = False) -> Scalar:
        """Return the single value here with its variables expanded; else note the fault."""
        if not self.is_scalar or self.tag not in _SCALARS:
            self.refuse(f"must be {wanted}, is {self.description()}")
        if self.is_null:
            self.refuse(f"is empty; give {wanted}, or delete the key")
        value = str(self.raw.value)
        if not variables.has_references(value):
            return Scalar(self, value, self.tag, expanded=False, secret=secret)
        if self.file.unresolved:
            raise UnavailableValueError(value)
        text, complaints, absent = variables.expand_references(
            value, self.file.environ, self.file.folder
        )
        for complaint in complaints if self.file.tolerates_missing else (*complaints, *absent):
            self.fault(complaint)
        if complaints or (absent and not self.file.tolerates_missing):
            raise InvalidValueError(self.path)
        if absent:
            for each in absent[:-1]:
                self.note(each)
            self.note_missing(absent[-1], value)
        return Scalar(self, text, "str", expanded=True, secret=secret)

    def elements(self, wanted: str, *, secret: bool = False) -> list["Node"]:
        """Return the elements of a list; else note the fault."""
        if not isinstance(self.raw, yaml.SequenceNode):
            plain = not secret and self.tag == "str"
            advice = f"; write [{quote_for_fault(self.raw.value)[1:-1]}]" if plain else ""
            shown = self.description(secret=secret)
            self.refuse(f"must be a list of {wanted}, is {shown}{advice}")
        return [
            Node(node, self.file, f"{self.path}[{index}]", node.start_mark.line + 1)
            for index, node in enumerate(self.raw.value)
        ]

    def entries(self) -> dict[str, "Node"]:
        """Return the keys of a mapping, merges resolved; note every key given twice."""
        if not isinstance(self.raw, yaml.MappingNode):
            # A secret written one level too high stands here.
            shown = "a single value" if self.is_scalar and not self.is_null else self.description()
            self.refuse(f"must be a mapping of keys, is {shown}")
        self.file.count_keys(len(self.raw.value))
        found: dict[str, Node] = {}
        for name, node in _own_keys(self, self.raw):
            if name in found:
                first = found[name].line
                node.fault(f"is given twice (first in line {first}); keep one of them")
            else:
                found[name] = node
        for merged in _merged(self, self.raw):
            self.file.count_keys(len(merged.value))
            for name, node in _own_keys(self, merged):
                found.setdefault(name, node)
        return found


def _own_keys(parent: Node, mapping: yaml.MappingNode) -> Iterator[tuple[str, Node]]:
    for key, value in mapping.value:
        line = key.start_mark.line + 1
        if key.tag == _MERGE:
            continue
        if not isinstance(key, yaml.ScalarNode):
            parent.file.fault(line, parent.path or WHOLE_FILE, "has a key that is no plain name")
            continue
        path = parent.key_path(_printable_key(key.value))
        yield key.value, Node(value, parent.file.view(path), path, line)


def _printable_key(key: str) -> str:
    """Return a key fit for print; after ``password:`` without a space a secret may follow."""
    if _PLAIN_KEY.fullmatch(key):
        return _masked(key)
    before, colon, _ = key.partition(":")
    return f"{before}…" if colon and _PLAIN_KEY.fullmatch(before) else quote_for_fault(before)


@lru_cache(_KEYS_REMEMBERED)
def _masked(key: str) -> str:
    return masking.mask(key)


def _merged(parent: Node, mapping: yaml.MappingNode) -> Iterator[yaml.MappingNode]:
    """Yield what a mapping merges, nearest first and each once, however anchors are nested."""
    seen = {id(mapping)}
    ways = [_merge_sources(parent, mapping)]  # one below the other, as long as the longest chain
    while ways:
        node = next(ways[-1], None)
        if node is None:
            ways.pop()
        elif id(node) not in seen:
            seen.add(id(node))
            yield node
            ways.append(_merge_sources(parent, node))


def _merge_sources(parent: Node, mapping: yaml.MappingNode) -> Iterator[yaml.MappingNode]:
    """Yield the mappings that the << of one mapping names, as often as it does."""
    for key, value in mapping.value:
        if key.tag != _MERGE:
            continue
        for node in value.value if isinstance(value, yaml.SequenceNode) else [value]:
            parent.file.count_keys(1)
            if isinstance(node, yaml.MappingNode):
                yield node
            else:
                line, path = key.start_mark.line + 1, parent.path or WHOLE_FILE
                text = "<< takes a mapping or a list of mappings; give it one"
                parent.file.fault(line, path, text)


def parse_file(path: Path, file: ConfigFile, *, pipes: bool = False) -> Node | None:
    """Return the top of a YAML file; None if it cannot be read, with the fault on the file.

    ``pipes``: it may be a pipe (see ``files.read_bounded``).
    """
    try:
        node = _compose(_text(path, file, pipes=pipes), file)
    except InvalidValueError:
        return None
    if isinstance(node, yaml.MappingNode):
        return Node(node, file, "", 1)
    if node is None or node.tag == _TAG + "null":
        file.fault(1, WHOLE_FILE, "is empty; start from the example in docs/configuration.md")
    else:
        file.fault(node.start_mark.line + 1, WHOLE_FILE, "must hold keys; write `name: …` lines")
    return None


def _compose(text: str, file: ConfigFile) -> yaml.Node | None:
    try:
        _refuse_depth(text, file)
        node: yaml.Node | None = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        _refuse_syntax(error, text, file)
    except yaml.YAMLError as error:
        file.refuse(1, "(syntax)", f"{type(error).__name__}; save the file as plain UTF-8 YAML")
    return node


def _refuse_depth(text: str, file: ConfigFile) -> None:
    """Look how deep and how large the file is before composing.

    That recurses in C, and 100,000 [ crash it; a value of one character takes a kilobyte.
    """
    depth = count = 0
    for event in yaml.parse(text, Loader=_LOADER):
        count += isinstance(event, yaml.NodeEvent)
        if count > MAX_CONFIG_VALUES:
            line = event.start_mark.line + 1 if event.start_mark else 1
            what = (
                f"is where the file passes {MAX_CONFIG_VALUES} keys and values; split it, or cut it"
            )
            file.refuse(line, "(syntax)", what)
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            line = event.start_mark.line + 1 if event.start_mark else 1
            file.refuse(
                line, "(syntax)", "is nested too deeply; no key needs more than five levels"
            )


def _text(path: Path, file: ConfigFile, *, pipes: bool) -> str:
    try:
        content = files.read_bounded(path, MAX_CONFIG_FILE_BYTES, pipes=pipes)
    except files.NotAFileError:
        file.refuse(1, WHOLE_FILE, "is a pipe, a device or a socket; put a file in its place")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        file.refuse(1, WHOLE_FILE, f"cannot be read ({reason}); check the path")
    if len(content) > MAX_CONFIG_FILE_BYTES:
        file.refuse(
            1, WHOLE_FILE, f"is larger than {MAX_CONFIG_FILE_BYTES >> 20} MiB; name the file itself"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        file.refuse(line, WHOLE_FILE, "is not UTF-8; save the file as UTF-8")
    found = _UNPRINTABLE.search(text)
    if found:
        line = text.count("\n", 0, found.start()) + 1
        what = f"holds the control character U+{ord(found.group()):04X}; delete it"
        file.refuse(line, WHOLE_FILE, what)
    return text


def _refuse_syntax(error: yaml.MarkedYAMLError, text: str, file: ConfigFile) -> NoReturn:
    mark = error.problem_mark or error.context_mark
    line = (mark.line if mark else 0) + 1
    lines = text.splitlines()
    written = lines[min(line, len(lines)) - 1] if lines else ""
    # What the parser quotes may be part of a secret.
    problem = re.sub(r"'[^']{3,}'", "'…'", error.problem or "cannot be understood")
    file.refuse(line, "(syntax)", f"{problem}; {_advice(problem, written)}")


def _advice(problem: str, written: str) -> str:
    if "tab" in problem or "\t" in written:
        return "indent with spaces, YAML allows no tabs there"
    if "another document" in problem:
        return "keep one document a file, without a second ---"
    if "${" in written:
        return 'put values with ${…} into quotes: "${NAME}"'
    if "alias" in problem:
        return "put values that begin with * into quotes"
    return "check indentation, quotes and brackets in this line and the one before"

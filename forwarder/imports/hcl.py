"""Blocks and attributes of Terraform's own language, as far as a declaration needs them.

Reads the structure (HashiCorp, "HCL native syntax specification": bodies, attributes, blocks,
templates, heredocs, comments) and leaves expressions as they are written: nothing is evaluated but
quoted text and references. A reader of 150 lines instead of a package, for no expression beyond
these names a stream, and what is not understood is asked for.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Never

from forwarder.errors import ConfigurationError

_IDENTIFIER = re.compile(r"[A-Za-z_][\w-]*")
_SPACE = re.compile(r"(?:\s|#[^\n]*|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_BLANK = re.compile(r"(?:[ \t]|/\*.*?\*/)*", re.DOTALL)
_HEREDOC = re.compile(r"<<-?([A-Za-z_][\w-]*)[ \t]*\r?\n")
_ESCAPE = re.compile(r'\\([nrt"\\]|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})')
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
_MAX_DEPTH = 50
_OPENING, _CLOSING = "([{", ")]}"


@dataclass(slots=True)
class HclBlock:
    """A block: ``resource "TYPE" "NAME" { … }``; ``attributes`` are expressions as written."""

    kind: str
    labels: tuple[str, ...]
    attributes: dict[str, str] = field(default_factory=dict)
    blocks: list["HclBlock"] = field(default_factory=list)


def parse(text: str) -> list[HclBlock]:
    """Return the blocks of a file; raises ConfigurationError at what is no body."""
    top = HclBlock("", ())
    _Reader(text).body(top, 0)
    return top.blocks


def quoted(expression: str) -> list[tuple[bool, str]] | None:
    """Return the parts of a quoted template: (is a reference, text); None: it is none."""
    reader = _Reader(expression)
    if not expression.startswith('"') or reader.string_end(0) != len(expression):
        return None
    parts: list[tuple[bool, str]] = []
    at, inner = 1, expression[:-1]
    for start, end in reader.interpolations(1, len(inner)):
        parts += [(False, _plain(inner[at:start])), (True, inner[start + 2 : end - 1].strip(" ~"))]
        at = end
    return [part for part in [*parts, (False, _plain(inner[at:]))] if part[1]]


def _plain(text: str) -> str:
    text = text.replace("$${", "${").replace("%%{", "%{")
    return _ESCAPE.sub(lambda m: _ESCAPED.get(m[1]) or chr(int(m[1][1:], 16)), text)


class _Reader:
    """Reads one text, by positions in it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def body(self, block: HclBlock, depth: int) -> None:
        """Read attributes and blocks up to the end, or the brace that closes this one."""
        if depth > _MAX_DEPTH:
            self._refuse("is nested too deeply")
        while True:
            self._skip(_SPACE)
            if self._at == len(self._text):
                return self._refuse("ends within a block") if depth else None
            if self._text[self._at] == "}" and depth:
                self._at += 1
                return None
            name = self._match(_IDENTIFIER, "a name")
            self._skip(_BLANK)
            if self._text.startswith("=", self._at) and not self._text.startswith("==", self._at):
                self._at += 1
                block.attributes[name] = self._expression()
                continue
            inner = HclBlock(name, tuple(self._labels()))
            if not self._text.startswith("{", self._at):
                self._refuse("has neither = nor { after a name")
            self._at += 1
            self.body(inner, depth + 1)
            block.blocks.append(inner)

    def _labels(self) -> Iterator[str]:
        while (start := self._at) < len(self._text) and self._text[start] not in "{\n":
            if self._text[start] == '"':
                self._at = self.string_end(start)
                yield _plain(self._text[start + 1 : self._at - 1])
            else:
                yield self._match(_IDENTIFIER, "a label")
            self._skip(_BLANK)

    def _expression(self) -> str:
        """Return an expression, without comments: to the line's end, or the end of its brackets."""
        kept, depth, text = list[str](), 0, self._text
        while self._at < len(text):
            character = text[self._at]
            if depth == 0 and character in "\n}":
                break
            if text.startswith(("#", "//", "/*"), self._at):
                kept.append(" ")
                self._comment()
                continue
            start = self._at
            if character == '"':
                self._at = self.string_end(start)
            elif heredoc := _HEREDOC.match(text, start):
                self._at = self._heredoc_end(heredoc)
            else:
                depth += (character in _OPENING) - (character in _CLOSING)
                self._at += 1
            kept.append(text[start : self._at])
        return "".join(kept).strip()

    def _comment(self) -> None:
        end = "*/" if self._text.startswith("/*", self._at) else "\n"
        found = self._text.find(end, self._at + 2 * (end == "*/"))
        self._at = len(self._text) if found < 0 else found + (2 if end == "*/" else 0)

    def _heredoc_end(self, begun: re.Match[str]) -> int:
        found = re.compile(rf"^[ \t]*{re.escape(begun[1])}[ \t]*\r?$", re.MULTILINE).search(
            self._text, begun.end()
        )
        return found.end() if found else self._refuse(f"has no end of <<{begun[1]}")

    def string_end(self, start: int, depth: int = 0) -> int:
        """Return where the quoted text ends that begins here, the quote included."""
        at = start + 1
        if depth > _MAX_DEPTH:
            self._refuse("is nested too deeply")
        while at < len(self._text):
            if self._text[at] == '"':
                return at + 1
            if self._text.startswith(("${", "%{"), at) and self._text[at - 1] != self._text[at]:
                at = self._interpolation_end(at, depth)
            else:
                at += 2 if self._text[at] == "\\" else 1
        self._at = start
        return self._refuse("has a quote that does not end")

    def _interpolation_end(self, start: int, depth: int) -> int:
        """Return where the ${…} ends that begins here, the brace included."""
        at, open_braces = start + 2, 1
        while at < len(self._text):
            if self._text[at] == '"':
                at = self.string_end(at, depth + 1)
                continue
            open_braces += (self._text[at] == "{") - (self._text[at] == "}")
            at += 1
            if not open_braces:
                return at
        self._at = start
        return self._refuse("has a ${ that does not end")

    def interpolations(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield where every ${…} between two positions stands."""
        at = start
        while at < end:
            if self._text.startswith("${", at) and self._text[at - 1] != "$":
                after = self._interpolation_end(at, 0)
                yield at, after
                at = after
            else:
                at += 2 if self._text[at] == "\\" else 1

    def _skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self._text, self._at)
        self._at = found.end() if found else self._at

    def _match(self, pattern: re.Pattern[str], what: str) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            return self._refuse(f"has no {what.removeprefix('a ')} where one must stand")
        self._at = found.end()
        return found.group()

    def _refuse(self, what: str) -> Never:
        line = self._text.count("\n", 0, self._at) + 1
        raise ConfigurationError([f"line {line} {what}; give a file that `terraform fmt` takes"])

"""What a single value may be: a kind reads it, shows it, and describes it to an editor."""

import errno
import json
import os
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import ClassVar

from forwarder.config import masking
from forwarder.config.masking import MASK
from forwarder.config.yaml.faults import quote_for_fault
from forwarder.config.yaml.nodes import Node, Scalar
from forwarder.config.yaml.spelling import did_you_mean

Schema = dict[str, object]
# A value with a reference is judged once it is expanded, which an editor cannot do.
REFERENCE = r"\$\{"

_PLAIN = re.compile(r"[A-Za-z_./${][\w./:${}+=@-]*")
_NOT_PLAIN = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})


MAX_TEXT_CHARS = 4_096
"""Characters of a value that is shown: what is shown is searched for secrets. PATH_MAX of Linux."""


class ValueType(ABC):
    """One sort of value. ``expected`` completes "must be …"; ``suffix`` is the unit in the code."""

    expected: str
    suffix: ClassVar[str] = ""

    @property
    def accepts_placeholder(self) -> bool:
        """Tell whether what is written may stand in for a value that is not known here."""
        return False

    @property
    def hidden(self) -> bool:
        """Tell whether values are never shown."""
        return False

    @abstractmethod
    def read(self, node: Node) -> object:
        """Return the value; raise InvalidValueError once its fault is noted."""

    @abstractmethod
    def schema(self) -> Schema:
        """Return its JSON Schema."""

    def sections(self) -> "Sequence[ValueType]":
        """Return the sections of keys below this one: none, for a single value."""
        return ()

    def show(self, value: object) -> str:
        """Return the value as it would be written in the file."""
        return str(value)

    def mask(self, text: str) -> str:
        """Return what is shown of it, without what looks like a secret."""
        return masking.mask(text)


@dataclass(frozen=True)
class TextValue(ValueType):
    """Text. ``check`` returns what is wrong and what to do, or nothing.

    ``form``: a pattern that tells editors what ``check`` takes; only ``check`` judges by it.
    ``masked``: never shown. ``secret``: never shown, and not looked up where nothing is contacted.
    ``generated``: a name that programs make up, too; only what is surely a key passes for a secret.
    ``identifier``: an id with the look of a key, as Pinpoint's of an app; only known forms of keys
    pass for a secret.
    """

    expected: str = "text"
    pattern: str | None = None
    check: Callable[[str], str | None] | None = None
    form: str | None = None
    masked: bool = False
    secret: bool = False
    generated: bool = False
    identifier: bool = False

    @property
    def accepts_placeholder(self) -> bool:
        """Tell whether what is written may stand in for a value that is not known here."""
        return True

    @property
    def hidden(self) -> bool:
        """Tell whether values are never shown."""
        return self.masked or self.secret

    def mask(self, text: str) -> str:
        """Hide what looks like a secret, of a generated name or an id what is surely one."""
        if self.identifier:
            return masking.mask_known_forms(text)
        return masking.mask_keys(text) if self.generated else masking.mask(text)

    def read(self, node: Node) -> str:
        """Read text; what YAML takes for a number or a date has to be quoted."""
        if self.secret and node.file.offline and node.is_scalar:
            return MASK
        scalar = node.read_scalar(self.expected, secret=self.hidden)
        if not scalar.is_text:
            shown = "the value" if self.hidden else quote_for_fault(scalar.text)
            node.refuse(f"must be {self.expected}, YAML takes it for another type; quote {shown}")
        complaint = self._complaint(scalar)
        if complaint:
            node.refuse(complaint)
        self._note_secret(node, scalar)
        return scalar.text

    def _note_secret(self, node: Node, scalar: Scalar) -> None:
        """Say of a secret in a file that it is in it: files are copied, stored and shown.

        What looks like one is hidden wherever it would be shown, out of a variable, too.
        """
        looks_secret = not self.hidden and self.mask(scalar.text) != scalar.text
        if looks_secret:
            node.file.suspects.add(scalar.text)
        if scalar.expanded:
            return
        if self.secret:
            node.note("is written in the file; take it from ${NAME} or ${file:PATH}")
        elif looks_secret:
            node.note("looks like a secret, which this key is not for; if it is one, move it")

    def _complaint(self, scalar: Scalar) -> str | None:
        if not scalar.text:
            return f"is empty; give {self.expected}"
        if len(scalar.text) > MAX_TEXT_CHARS and not self.hidden:
            what = f"is longer than {MAX_TEXT_CHARS} characters"
            return f"{what}; give {self.expected}, and nothing else"
        if self.pattern and not re.fullmatch(self.pattern, scalar.text, re.ASCII):
            return f"must be {self.expected}, is {scalar.quoted}"
        found = self.check(scalar.text) if self.check else None
        return found.replace("{}", scalar.quoted) if found else None

    def schema(self) -> Schema:
        """Describe text."""
        pattern = self.pattern or self.form
        if pattern is None:
            return {"type": "string", "minLength": 1}
        return {"type": "string", "pattern": f"^(?:{pattern})$|{REFERENCE}"}

    def show(self, value: object) -> str:
        """Write text, quoted where YAML would take it for something else."""
        if self.hidden:
            return MASK
        text = str(value)
        if _PLAIN.fullmatch(text) and text.lower() not in _NOT_PLAIN and not text.endswith(":"):
            return text
        return json.dumps(text, ensure_ascii=False)


@dataclass(frozen=True)
class FlagValue(ValueType):
    """true or false."""

    expected: str = "true or false"

    def read(self, node: Node) -> bool:
        """Read a flag; quoted ones are text and refused."""
        scalar = node.read_scalar(self.expected)
        word = scalar.text.lower()
        if scalar.tag != "bool" and not (scalar.expanded and word in {"true", "false"}):
            unquoted = "; write it without quotes" if word in {"true", "false"} else ""
            node.refuse(f"must be {self.expected}, is {scalar.quoted}{unquoted}")
        return word in {"true", "yes", "on"}

    def schema(self) -> Schema:
        """Describe a flag."""
        return {"type": ["boolean", "string"], "pattern": REFERENCE}

    def show(self, value: object) -> str:
        """Write true or false."""
        return "true" if value else "false"


@dataclass(frozen=True)
class EnumValue(ValueType):
    """One word of a few; of a ``StrEnum`` its member is returned."""

    words: type[StrEnum] | tuple[str, ...]

    @property
    def accepts_placeholder(self) -> bool:
        """Tell whether what is written may stand in for a value that is not known here."""
        return True

    @property
    def words_known(self) -> list[str]:
        """List the words."""
        return [str(word) for word in self.words]

    @property
    def expected(self) -> str:  # type: ignore[override]  # follows from the words
        """Name the words."""
        *most, last = self.words_known
        return f"{', '.join(most)} or {last}" if most else last

    def read(self, node: Node) -> str:
        """Read one of the words, spelled exactly."""
        scalar = node.read_scalar(self.expected)
        if not scalar.is_text or scalar.text not in self.words_known:
            near = "" if scalar.expanded else did_you_mean(scalar.text, self.words_known)
            node.refuse(f"must be {self.expected}, is {scalar.quoted}{near}")
        return scalar.text if isinstance(self.words, tuple) else self.words(scalar.text)

    def schema(self) -> Schema:
        """Describe the words."""
        if len(self.words_known) == 1:
            return {"const": self.words_known[0]}
        return {"anyOf": [{"enum": self.words_known}, {"type": "string", "pattern": REFERENCE}]}


@dataclass(frozen=True)
class TagValue(EnumValue):
    """The word that tells a section from its alternatives; ``own`` is that of this one."""

    own: str

    def schema(self) -> Schema:
        """Describe the one word."""
        return {"const": self.own}


@dataclass(frozen=True)
class PathValue(ValueType):
    """A path, absolute once read; relative ones start from the file that names them.

    ``file``: it has to be a readable file, unless nothing will be contacted.
    """

    expected: str
    file: bool = False

    @property
    def accepts_placeholder(self) -> bool:
        """Tell whether what is written may stand in for a value that is not known here."""
        return True

    def read(self, node: Node) -> str:
        """Read a path and look whether it can be used."""
        written, shown = TextValue(self.expected).read(node), node.description()
        if "\0" in written:
            node.refuse(f"must be {self.expected}, holds a NUL character; correct the path")
        path = Path(os.path.normpath(node.file.folder / written))
        complaint = self._complaint(path)
        if complaint and self.file and not node.file.offline and not os.path.exists(path):  # noqa: PTH110  # of any name
            node.note_missing(f"{shown} {complaint}", written)
        if complaint and not (self.file and node.file.offline):
            node.refuse(f"{shown} {complaint}")
        return str(path)

    def _complaint(self, path: Path) -> str | None:
        try:
            mode = path.stat().st_mode
        except OSError as error:
            advice = f"cannot be used ({error.strerror}); mount it, or correct the path"
            return advice if self.file or error.errno != errno.ENOENT else None
        if not self.file:
            return None if stat.S_ISDIR(mode) else "is a file; name a folder"
        if not stat.S_ISREG(mode):
            return "is no file; name the file itself"
        return None if os.access(path, os.R_OK) else "cannot be read; give this user the right to"

    def schema(self) -> Schema:
        """Describe the path."""
        return {"type": "string", "minLength": 1}

    def show(self, value: object) -> str:
        """Write the absolute path."""
        return TextValue().show(value)


@dataclass(frozen=True)
class NewFileValue(ValueType):
    """The path of a file that is made if it is not there, absolute once read; its folder is."""

    expected: str

    @property
    def accepts_placeholder(self) -> bool:
        """Tell whether what is written may stand in for a value that is not known here."""
        return True

    def read(self, node: Node) -> str:
        """Read a path and look whether a file can be there, unless nothing will be contacted."""
        written, shown = TextValue(self.expected).read(node), node.description()
        if "\0" in written:
            node.refuse(f"must be {self.expected}, holds a NUL character; correct the path")
        path = Path(os.path.normpath(node.file.folder / written))
        if node.file.offline:
            return str(path)
        if path.is_dir():
            node.refuse(f"{shown} is a folder; name a file in it")
        if not os.path.exists(path.parent):  # noqa: PTH110  # of any name
            advice = "is in a folder that is not there; make it, mount it, or correct the path"
            node.note_missing(f"{shown} {advice}", written)
        if not path.parent.is_dir():
            node.refuse(f"{shown} is below a file; correct the path")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            node.note("cannot be written by this user; right if the process runs as another")
        return str(path)

    def schema(self) -> Schema:
        """Describe the path."""
        return {"type": "string", "minLength": 1}

    def show(self, value: object) -> str:
        """Write the path."""
        return TextValue().show(value)


@dataclass(frozen=True)
class NullableValue(ValueType):
    """Another kind, or null."""

    value_type: ValueType

    @property
    def accepts_placeholder(self) -> bool:
        """Tell what the other kind tells."""
        return self.value_type.accepts_placeholder

    @property
    def expected(self) -> str:  # type: ignore[override]  # follows from the other kind
        """Name what else than null it may be."""
        return self.value_type.expected

    @property
    def suffix(self) -> str:  # type: ignore[override]  # follows from the other kind
        """Return the unit of the other kind."""
        return self.value_type.suffix

    def sections(self) -> "Sequence[ValueType]":
        """Return those of the other kind."""
        return self.value_type.sections()

    def read(self, node: Node) -> object:
        """Read null as None."""
        return None if node.is_null else self.value_type.read(node)

    def mask(self, text: str) -> str:
        """Hide what the other kind hides."""
        return self.value_type.mask(text)

    def schema(self) -> Schema:
        """Describe both."""
        inner = self.value_type.schema()
        if isinstance(inner.get("type"), str):
            return {**inner, "type": [inner["type"], "null"]}
        return {"anyOf": [inner, {"type": "null"}]}

    def show(self, value: object) -> str:
        """Write null or the value."""
        return "null" if value is None else self.value_type.show(value)

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
from typing import TYPE_CHECKING, ClassVar

from forwarder.config import masking
from forwarder.config.masking import MASK
from forwarder.config.yaml.faults import quoted
from forwarder.config.yaml.nodes import Scalar, Spot
from forwarder.config.yaml.spelling import likeliest

if TYPE_CHECKING:
    from forwarder.config.yaml.sections import Section

Schema = dict[str, object]
# A value with a reference is judged once it is expanded, which an editor cannot do.
REFERENCE = r"\$\{"

_PLAIN = re.compile(r"[A-Za-z_./${][\w./:${}+=@-]*")
_NOT_PLAIN = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})


LONGEST = 4_096
"""Characters of a value that is shown: what is shown is searched for secrets. PATH_MAX of Linux."""


class Kind(ABC):
    """One sort of value. ``wanted`` completes "must be …"; ``suffix`` is the unit in the code."""

    wanted: str
    suffix: ClassVar[str] = ""

    @property
    def textual(self) -> bool:
        """Tell whether what is written may stand in for a value that is not known here."""
        return False

    @property
    def hidden(self) -> bool:
        """Tell whether values are never shown."""
        return False

    @abstractmethod
    def read(self, spot: Spot) -> object:
        """Return the value; raise InvalidError once its fault is noted."""

    @abstractmethod
    def schema(self) -> Schema:
        """Return its JSON Schema."""

    def sections(self) -> Sequence["Section"]:
        """Return the sections of keys below this one: none, for a single value."""
        return ()

    def show(self, value: object) -> str:
        """Return the value as it would be written in the file."""
        return str(value)

    def mask(self, text: str) -> str:
        """Return what is shown of it, without what looks like a secret."""
        return masking.mask(text)


@dataclass(frozen=True)
class Text(Kind):
    """Text. ``check`` returns what is wrong and what to do, or nothing.

    ``form``: a pattern that tells editors what ``check`` takes; only ``check`` judges by it.
    ``masked``: never shown. ``secret``: never shown, and not looked up where nothing is contacted.
    ``generated``: a name that programs make up, too; only what is surely a key passes for a secret.
    """

    wanted: str = "text"
    pattern: str | None = None
    check: Callable[[str], str | None] | None = None
    form: str | None = None
    masked: bool = False
    secret: bool = False
    generated: bool = False

    @property
    def textual(self) -> bool:
        """Tell whether what is written may stand in for a value that is not known here."""
        return True

    @property
    def hidden(self) -> bool:
        """Tell whether values are never shown."""
        return self.masked or self.secret

    def mask(self, text: str) -> str:
        """Hide what looks like a secret, of a generated name what is surely one."""
        return masking.mask_keys(text) if self.generated else masking.mask(text)

    def read(self, spot: Spot) -> str:
        """Read text; what YAML takes for a number or a date has to be quoted."""
        if self.secret and spot.page.offline and spot.is_scalar:
            return MASK
        scalar = spot.scalar(self.wanted, secret=self.hidden)
        if not scalar.is_text:
            shown = "the value" if self.hidden else quoted(scalar.text)
            spot.refuse(f"must be {self.wanted}, YAML takes it for another type; quote {shown}")
        complaint = self._complaint(scalar)
        if complaint:
            spot.refuse(complaint)
        self._note_secret(spot, scalar)
        return scalar.text

    def _note_secret(self, spot: Spot, scalar: Scalar) -> None:
        """Say of a secret in a file that it is in it: files are copied, stored and shown.

        What looks like one is hidden wherever it would be shown, out of a variable, too.
        """
        looks_secret = not self.hidden and self.mask(scalar.text) != scalar.text
        if looks_secret:
            spot.page.suspects.add(scalar.text)
        if scalar.expanded:
            return
        if self.secret:
            spot.note("is written in the file; take it from ${NAME} or ${file:PATH}")
        elif looks_secret:
            spot.note("looks like a secret, which this key is not for; if it is one, move it")

    def _complaint(self, scalar: Scalar) -> str | None:
        if not scalar.text:
            return f"is empty; give {self.wanted}"
        if len(scalar.text) > LONGEST and not self.hidden:
            return f"is longer than {LONGEST} characters; give {self.wanted}, and nothing else"
        if self.pattern and not re.fullmatch(self.pattern, scalar.text, re.ASCII):
            return f"must be {self.wanted}, is {scalar.shown}"
        found = self.check(scalar.text) if self.check else None
        return found.replace("{}", scalar.shown) if found else None

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
class Flag(Kind):
    """true or false."""

    wanted: str = "true or false"

    def read(self, spot: Spot) -> bool:
        """Read a flag; quoted ones are text and refused."""
        scalar = spot.scalar(self.wanted)
        word = scalar.text.lower()
        if scalar.tag != "bool" and not (scalar.expanded and word in {"true", "false"}):
            unquoted = "; write it without quotes" if word in {"true", "false"} else ""
            spot.refuse(f"must be {self.wanted}, is {scalar.shown}{unquoted}")
        return word in {"true", "yes", "on"}

    def schema(self) -> Schema:
        """Describe a flag."""
        return {"type": ["boolean", "string"], "pattern": REFERENCE}

    def show(self, value: object) -> str:
        """Write true or false."""
        return "true" if value else "false"


@dataclass(frozen=True)
class Choice(Kind):
    """One word of a few; of a ``StrEnum`` its member is returned."""

    words: type[StrEnum] | tuple[str, ...]

    @property
    def textual(self) -> bool:
        """Tell whether what is written may stand in for a value that is not known here."""
        return True

    @property
    def known(self) -> list[str]:
        """List the words."""
        return [str(word) for word in self.words]

    @property
    def wanted(self) -> str:  # type: ignore[override]  # follows from the words
        """Name the words."""
        *most, last = self.known
        return f"{', '.join(most)} or {last}" if most else last

    def read(self, spot: Spot) -> str:
        """Read one of the words, spelled exactly."""
        scalar = spot.scalar(self.wanted)
        if not scalar.is_text or scalar.text not in self.known:
            near = "" if scalar.expanded else likeliest(scalar.text, self.known)
            spot.refuse(f"must be {self.wanted}, is {scalar.shown}{near}")
        return scalar.text if isinstance(self.words, tuple) else self.words(scalar.text)

    def schema(self) -> Schema:
        """Describe the words."""
        if len(self.known) == 1:
            return {"const": self.known[0]}
        return {"anyOf": [{"enum": self.known}, {"type": "string", "pattern": REFERENCE}]}


@dataclass(frozen=True)
class Tag(Choice):
    """The word that tells a section from its alternatives; ``own`` is that of this one."""

    own: str

    def schema(self) -> Schema:
        """Describe the one word."""
        return {"const": self.own}


@dataclass(frozen=True)
class Location(Kind):
    """A path, absolute once read; relative ones start from the file that names them.

    ``file``: it has to be a readable file, unless nothing will be contacted.
    """

    wanted: str
    file: bool = False

    @property
    def textual(self) -> bool:
        """Tell whether what is written may stand in for a value that is not known here."""
        return True

    def read(self, spot: Spot) -> str:
        """Read a path and look whether it can be used."""
        written, shown = Text(self.wanted).read(spot), spot.described()
        if "\0" in written:
            spot.refuse(f"must be {self.wanted}, holds a NUL character; correct the path")
        path = Path(os.path.normpath(spot.page.folder / written))
        complaint = self._complaint(path)
        if complaint and self.file and not spot.page.offline and not os.path.exists(path):  # noqa: PTH110  # of any name
            spot.missing(f"{shown} {complaint}", written)
        if complaint and not (self.file and spot.page.offline):
            spot.refuse(f"{shown} {complaint}")
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
        return Text().show(value)


@dataclass(frozen=True)
class Nullable(Kind):
    """Another kind, or null."""

    kind: Kind

    @property
    def textual(self) -> bool:
        """Tell what the other kind tells."""
        return self.kind.textual

    @property
    def wanted(self) -> str:  # type: ignore[override]  # follows from the other kind
        """Name what else than null it may be."""
        return self.kind.wanted

    @property
    def suffix(self) -> str:  # type: ignore[override]  # follows from the other kind
        """Return the unit of the other kind."""
        return self.kind.suffix

    def read(self, spot: Spot) -> object:
        """Read null as None."""
        return None if spot.is_null else self.kind.read(spot)

    def mask(self, text: str) -> str:
        """Hide what the other kind hides."""
        return self.kind.mask(text)

    def schema(self) -> Schema:
        """Describe both."""
        inner = self.kind.schema()
        if isinstance(inner.get("type"), str):
            return {**inner, "type": [inner["type"], "null"]}
        return {"anyOf": [inner, {"type": "null"}]}

    def show(self, value: object) -> str:
        """Write null or the value."""
        return "null" if value is None else self.kind.show(value)

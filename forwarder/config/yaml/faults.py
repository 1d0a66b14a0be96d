"""One configuration file being read: where it is, and everything found wrong with it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from forwarder.config import masking

_LONGEST_QUOTE, _LONGEST_LOOKED_AT = 60, 4_096

MOST_VALUES = 200_000
"""Keys and values of a file, which take some 150 MiB together while it is read.

As many keys are read in all, those counted again that aliases and merges repeat: of a file without
these every key is read twice at most, and has a value.
"""
MOST_FAULTS = 1_000
"""Faults of a file that are kept and shown, and notes; how many more there are is counted."""

WHOLE_FILE = "(file)"
"""Stands for the key where the fault is not in any one of them."""


class InvalidError(Exception):
    """A value was refused and its fault is on the page; the reader goes on with the next key."""


class UnknownError(InvalidError):
    """A value cannot be known here, and that is no fault; ``written`` stands in for it."""

    def __init__(self, written: object) -> None:
        super().__init__("not known here")
        self.written = written


@dataclass(frozen=True, slots=True)
class Fault:
    """One line for the person who wrote the file; ``line`` counts from 1.

    ``at`` makes one in which nothing looks like a secret.
    """

    file: str
    line: int
    key: str
    text: str

    @classmethod
    def at(cls, file: str, line: int, key: str, text: str) -> "Fault":
        """Return it with what looks like a secret hidden, whichever part it stands in."""
        hide = masking.mask_line
        return cls(masking.mask_line(file), line, hide(key), hide(text))

    def __str__(self) -> str:
        """Return the line as it is printed: one line, whatever a name or a value holds."""
        line = f"{self.file}:{self.line}: {self.key}: {self.text}"
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


@dataclass(slots=True)
class Page:
    """What reading one file needs and finds.

    ``file`` is the name faults print, ``folder`` what relative paths in it start from, ``homes``
    the dotted path of every key there is, for advice on misplaced ones.
    ``offline``: nothing will be contacted, so secrets and certificates are not looked up.
    ``suspects``: good values that look like secrets, in places that are not for any.
    ``elsewhere``: the worker runs on another machine, so what is not here is only noted.
    """

    file: str
    folder: Path
    environ: Mapping[str, str]
    offline: bool = False
    elsewhere: bool = False
    homes: Mapping[str, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    notes: list[Fault] = field(default_factory=list)
    suspects: set[str] = field(default_factory=set)
    more_faults: int = 0
    more_notes: int = 0
    spent: int = 0

    def fault(self, line: int, key: str, text: str) -> None:
        """Note a fault, or that there is one more."""
        if self.is_full:
            self.more_faults += 1
        else:
            self.faults.append(Fault.at(self.file, line, key, text))

    @property
    def is_full(self) -> bool:
        """Tell whether no fault is kept any more, so that nobody needs to look for its advice."""
        return len(self.faults) >= MOST_FAULTS

    def spend(self, keys: int) -> None:
        """Count keys that are about to be read; raises InvalidError once there are too many."""
        within, self.spent = self.spent <= MOST_VALUES, self.spent + keys
        if within and self.spent > MOST_VALUES:
            what = f"repeats more than {MOST_VALUES} keys by aliases and <<; write fewer of them"
            self.faults.insert(0, Fault.at(self.file, 1, WHOLE_FILE, what))
        if self.spent > MOST_VALUES:
            raise InvalidError(WHOLE_FILE)

    def found(self) -> Iterator[Fault]:
        """Yield the faults by line, each once, and how many more there are."""
        yield from _in_order(self.faults, self.more_faults, self.file, "faults")

    def noted(self) -> Iterator[Fault]:
        """Yield the notes by line, each once, and how many more there are."""
        yield from _in_order(self.notes, self.more_notes, self.file, "notes")

    def refuse(self, line: int, key: str, text: str) -> NoReturn:
        """Note a fault with which the value cannot be used; raises InvalidError."""
        self.fault(line, key, text)
        raise InvalidError(text)

    def missing(self, line: int, key: str, text: str, written: object) -> NoReturn:
        """Note what is not here: a fault, unless it may be where the worker runs.

        Raises InvalidError, or UnknownError with what was written.
        """
        if not self.elsewhere:
            self.refuse(line, key, text)
        self.note(line, key, text)
        raise UnknownError(written)

    def note(self, line: int, key: str, text: str) -> None:
        """Note what is allowed but may not be what was meant, or that there is more of it."""
        if len(self.notes) >= MOST_FAULTS:
            self.more_notes += 1
        else:
            self.notes.append(Fault.at(self.file, line, key, text))


def _in_order(found: list[Fault], more: int, file: str, what: str) -> Iterator[Fault]:
    by_line = sorted(found, key=lambda fault: fault.line)
    yield from dict.fromkeys(by_line)
    if more:
        yield Fault.at(file, by_line[-1].line, WHOLE_FILE, f"has {more} more {what} than are shown")


def quoted(text: str) -> str:
    """Return a text as a fault shows it: in quotes, on one line, not too long, no secret in it."""
    shown = masking.mask(text[:_LONGEST_LOOKED_AT])
    if len(shown) > _LONGEST_QUOTE:
        shown = shown[: _LONGEST_QUOTE - 1] + "…"
    return json.dumps(shown, ensure_ascii=not shown.isprintable())

"""One configuration file being read, and every fault and note about it, in the order of lines."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn

from forwarder.config import masking

_MAX_QUOTE_CHARS, _MAX_SEARCHED_CHARS = 60, 4_096

MAX_CONFIG_VALUES = 200_000
"""Keys and values of a file, which take some 150 MiB together while it is read.

As many keys are read in all, those counted again that aliases and merges repeat: of a file without
these every key is read twice at most, and has a value.
"""
MAX_FAULTS = 1_000
"""Faults of a file that are kept and shown, and notes; how many more there are is counted."""

WHOLE_FILE = "(file)"
"""Stands for the key where the fault is not in any one of them."""


class InvalidValueError(Exception):
    """A value was refused and its fault is noted already; the reader goes on with the next key."""


class UnavailableValueError(InvalidValueError):
    """A value cannot be known here, and that is no fault; ``written`` stands in for it."""

    def __init__(self, written: object) -> None:
        super().__init__("not known here")
        self.written = written


@dataclass(frozen=True, slots=True)
class ConfigFault:
    """One line for the person who wrote the file; ``line`` counts from 1.

    ``at`` makes one in which nothing looks like a secret.
    """

    file: str
    line: int
    key: str
    text: str

    @classmethod
    def at(cls, file: str, line: int, key: str, text: str) -> "ConfigFault":
        """Return it with what looks like a secret hidden, whichever part it stands in."""
        hide = masking.mask_line
        return cls(masking.mask_line(file), line, hide(key), hide(text))

    def __str__(self) -> str:
        """Return the line as it is printed: one line, whatever a name or a value holds."""
        line = f"{self.file}:{self.line}: {self.key}: {self.text}"
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


@dataclass(slots=True)
class ConfigFile:
    """One file while it is read: what reading needs, and what was found. Made by ``LoadRun``.

    * ``name``: as faults print it.
    * ``folder``: where relative paths in it start.
    * ``environ``: the variables that ``${NAME}`` stands for.
    * ``offline``: nothing will be contacted, so secrets and certificates are not looked up.
    * ``tolerates_missing``: the worker runs on another machine, so that a variable or a file that
      is not here is a note.
    * ``key_paths``: the dotted path of every key there is, for advice on a misplaced one.
    * ``faults``, ``notes``: the first ``MAX_FAULTS`` of each; ``more_…`` counts the others.
    * ``suspects``: good values that look like secrets, at keys that are not for any.
    * ``keys_read``: counted against ``max_values``.
    * ``foreign``: the paths of sections that are another process's: nothing in them is looked up,
      and what is wrong in them is set aside, in ``set_aside``, to be a note.
    * ``unresolved``: of such a section; values with ``${…}`` are not known.
    """

    name: str
    folder: Path
    environ: Mapping[str, str]
    offline: bool = False
    tolerates_missing: bool = False
    key_paths: Mapping[str, str] = field(default_factory=dict)
    faults: list[ConfigFault] = field(default_factory=list)
    notes: list[ConfigFault] = field(default_factory=list)
    suspects: set[str] = field(default_factory=set)
    more_faults: int = 0
    more_notes: int = 0
    keys_read: int = 0
    max_values: int = MAX_CONFIG_VALUES
    foreign: frozenset[str] = frozenset()
    set_aside: list[ConfigFault] = field(default_factory=list)
    unresolved: bool = False

    def view(self, path: str) -> "ConfigFile":
        """Return what reads the key of this path: this file, or for a foreign one its stand-in."""
        if path not in self.foreign:
            return self
        return replace(self, offline=True, unresolved=True, faults=self.set_aside, notes=[])

    def fault(self, line: int, key: str, text: str) -> None:
        """Note a fault, or that there is one more."""
        if self.is_full:
            self.more_faults += 1
        else:
            self.faults.append(ConfigFault.at(self.name, line, key, text))

    @property
    def is_full(self) -> bool:
        """Tell whether no further fault is kept, so that its advice need not be worked out."""
        return len(self.faults) >= MAX_FAULTS

    def count_keys(self, keys: int) -> None:
        """Count keys before they are read; raises InvalidValueError once there are too many."""
        within, self.keys_read = self.keys_read <= self.max_values, self.keys_read + keys
        if within and self.keys_read > self.max_values:
            what = (
                f"repeats more than {self.max_values} keys by aliases and <<; write fewer of them"
            )
            self.faults.insert(0, ConfigFault.at(self.name, 1, WHOLE_FILE, what))
        if self.keys_read > self.max_values:
            raise InvalidValueError(WHOLE_FILE)

    def all_faults(self) -> Iterator[ConfigFault]:
        """Yield the faults by line, each once, and how many more there are."""
        yield from _in_order(self.faults, self.more_faults, self.name, "faults")

    def all_notes(self) -> Iterator[ConfigFault]:
        """Yield the notes by line, each once, and how many more there are."""
        told = [*self.notes, *self.set_aside[:MAX_FAULTS]]
        yield from _in_order(told, self.more_notes, self.name, "notes")

    def refuse(self, line: int, key: str, text: str) -> NoReturn:
        """Note a fault with which the value cannot be used; raises InvalidValueError."""
        self.fault(line, key, text)
        raise InvalidValueError(text)

    def note_missing(self, line: int, key: str, text: str, written: object) -> NoReturn:
        """Note what is not here: a fault, or a note if the file ``tolerates_missing``.

        Raises InvalidValueError, or UnavailableValueError with what was written.
        """
        if not self.tolerates_missing:
            self.refuse(line, key, text)
        self.note(line, key, text)
        raise UnavailableValueError(written)

    def note(self, line: int, key: str, text: str) -> None:
        """Note what is allowed but may not be what was meant, or that there is more of it."""
        if len(self.notes) >= MAX_FAULTS:
            self.more_notes += 1
        else:
            self.notes.append(ConfigFault.at(self.name, line, key, text))


def _in_order(found: list[ConfigFault], more: int, file: str, what: str) -> Iterator[ConfigFault]:
    by_line = sorted(found, key=lambda fault: fault.line)
    yield from dict.fromkeys(by_line)
    if more:
        yield ConfigFault.at(
            file, by_line[-1].line, WHOLE_FILE, f"has {more} more {what} than are shown"
        )


def quote_for_fault(text: str) -> str:
    """Return a text as a fault shows it: in quotes, on one line, not too long, no secret in it."""
    shown = masking.mask(text[:_MAX_SEARCHED_CHARS])
    if len(shown) > _MAX_QUOTE_CHARS:
        shown = shown[: _MAX_QUOTE_CHARS - 1] + "…"
    return json.dumps(shown, ensure_ascii=not shown.isprintable())

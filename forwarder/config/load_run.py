"""The files of one load: opened, read by a section, their faults and notes together."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from forwarder.config.yaml import nodes
from forwarder.config.yaml.faults import WHOLE_FILE, ConfigFault, ConfigFile
from forwarder.config.yaml.nodes import Node
from forwarder.config.yaml.sections import Section, SectionValues
from forwarder.errors import ConfigurationError


class ConfigFaultsError(ConfigurationError):
    """The files have faults; ``found`` are they, ``noted`` what else there is to say."""

    def __init__(self, found: Sequence[ConfigFault], noted: Sequence[ConfigFault]) -> None:
        super().__init__(list(map(str, found)))
        self.found = found
        self.noted = noted


MAX_CONNECTION_FILES = 10_000
"""Files in a folder of connections; one worker was measured with hundreds."""


@dataclass(frozen=True, slots=True)
class ConnectionFolder:
    """The folder of connection files; ``worker`` is the section that names it, if any does."""

    path: Path
    worker: SectionValues | None

    def fault(self, text: str) -> None:
        """Note a fault at the key that names the folder."""
        if self.worker is not None:
            self.worker.fault("connections", text)

    def note(self, text: str) -> None:
        """Note there what may not be as meant."""
        if self.worker is not None:
            self.worker.note("connections", text)


class LoadRun:
    """The files of one load. Caller: the loader, which ends it with ``finish``.

    For each file ``open_file``, then ``read_section``: neither raises, faults are kept with the
    file.
    """

    def __init__(
        self, environ: Mapping[str, str] | None, *, offline: bool, elsewhere: bool
    ) -> None:
        self._environ = os.environ if environ is None else environ
        self._offline = offline
        self._elsewhere = elsewhere
        self._files: list[ConfigFile] = []

    def open_file(
        self, path: Path, *, pipes: bool = False, foreign: frozenset[str] = frozenset()
    ) -> Node | None:
        """Return the top of one file; None if there is nothing in it to read on.

        ``foreign``: the paths of what in it is another process's.
        """
        file = self._begin(str(path), folder_of(path).absolute())
        file.foreign = foreign
        return nodes.parse_file(path, file, pipes=pipes)

    def read_section(self, top: Node | None, section: Section) -> SectionValues | None:
        """Read what a file holds from its top, None where there is none."""
        if top is None:
            return None
        where = [(field.name, path) for path, _, field in section.paths()]
        top.file.key_paths = dict(reversed(where))  # of names that stand in two places the first
        return section.read(top)

    def _begin(self, name: str, folder: Path) -> ConfigFile:
        file = ConfigFile(
            name,
            folder,
            self._environ,
            offline=self._offline,
            tolerates_missing=self._elsewhere,
        )
        self._files.append(file)
        return file

    def files(self, folder: ConnectionFolder) -> list[Path]:
        """List the connection files of a folder; none is a fault where the folder is named."""
        try:
            entries = islice(folder.path.iterdir(), MAX_CONNECTION_FILES + 1)
            names = sorted(entry.name for entry in entries)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not a path"
            text = f"{folder.path} cannot be read ({reason}); name the folder of connections"
            if self._elsewhere and isinstance(error, FileNotFoundError):
                folder.note(text)
            else:
                folder.fault(text)
            return []
        if len(names) > MAX_CONNECTION_FILES:
            what = f"{folder.path} holds more than {MAX_CONNECTION_FILES} files"
            folder.fault(f"{what}; name the folder itself")
            return []
        visible = [name for name in names if not name.startswith(".")]
        found = [folder.path / name for name in visible if name.endswith(".yaml")]
        for name in visible:
            if note := _skipped_note(folder.path / name):
                file = self._begin(str(folder.path / name), folder.path)
                file.note(1, WHOLE_FILE, note)
        if not found:
            folder.fault(f"{folder.path} holds no *.yaml; add a connection")
        return found

    def faults(self) -> tuple[ConfigFault, ...]:
        """Return what is wrong, file by file."""
        return tuple(fault for file in self._files for fault in file.all_faults())

    def finish(self, top: SectionValues | None) -> SectionValues:
        """Return the section all began with; raise ConfigurationError if anything is wrong."""
        faults = self.faults()
        if faults or top is None:
            raise ConfigFaultsError(faults, self.noted())
        return top

    def suspects(self) -> frozenset[str]:
        """Return the values that look like secrets, in places that are not for any."""
        return frozenset().union(*(file.suspects for file in self._files))

    def noted(self) -> tuple[ConfigFault, ...]:
        """Return what may not be as meant."""
        return tuple(note for file in self._files for note in file.all_notes())


def _skipped_note(path: Path) -> str:
    """Return what to say of something in the folder of connections that is not read."""
    if path.suffix.lower() in {".yaml", ".yml"} and path.suffix != ".yaml":
        return "is not read; rename it to .yaml if it is a connection"
    if path.suffix != ".yaml" and path.is_dir():
        return "is a folder, which is not read; move connections in it one folder up"
    return ""


def folder_of(path: Path) -> Path:
    """Return where relative paths in a file start: beside it, or here if it came as a pipe."""
    return Path() if path.is_relative_to("/dev") or path.is_relative_to("/proc") else path.parent

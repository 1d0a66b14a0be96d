"""The files of one load: opened, read by a section, and what is found wrong in all of them."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from forwarder.config.yaml import nodes
from forwarder.config.yaml.faults import WHOLE_FILE, Fault, Page
from forwarder.config.yaml.nodes import Spot
from forwarder.config.yaml.sections import Section, Sheet
from forwarder.errors import ConfigurationError


class FaultyError(ConfigurationError):
    """The files have faults; ``found`` are they, ``noted`` what else there is to say."""

    def __init__(self, found: Sequence[Fault], noted: Sequence[Fault]) -> None:
        super().__init__(list(map(str, found)))
        self.found = found
        self.noted = noted


MOST_FILES = 10_000
"""Files in a folder of connections; one worker was measured with hundreds."""


@dataclass(frozen=True, slots=True)
class Folder:
    """Where connections are, and who says so; nobody: the default, looked at on trust."""

    path: Path
    worker: Sheet | None

    def fault(self, text: str) -> None:
        """Note a fault at the key that names the folder."""
        if self.worker is not None:
            self.worker.fault("connections", text)

    def note(self, text: str) -> None:
        """Note there what may not be as meant."""
        if self.worker is not None:
            self.worker.note("connections", text)


class Reading:
    """The pages of one load: ``opened`` and ``sheet`` for each file, then ``finish``."""

    def __init__(
        self, environ: Mapping[str, str] | None, *, offline: bool, elsewhere: bool
    ) -> None:
        self._environ = os.environ if environ is None else environ
        self._offline = offline
        self._elsewhere = elsewhere
        self._pages: list[Page] = []

    def opened(self, path: Path, *, pipes: bool = False) -> Spot | None:
        """Return the top of one file; None if there is nothing in it to read on."""
        page = self._page(str(path), folder_of(path).absolute())
        return nodes.parse(path, page, pipes=pipes)

    def sheet(self, top: Spot | None, section: Section) -> Sheet | None:
        """Read what a file holds from its top, None where there is none."""
        if top is None:
            return None
        top.page.homes = {field.name: where for where, _, field in section.paths()}
        return section.read(top)

    def _page(self, file: str, folder: Path) -> Page:
        page = Page(file, folder, self._environ, self._offline, self._elsewhere)
        self._pages.append(page)
        return page

    def files(self, folder: Folder) -> list[Path]:
        """List the connection files of a folder; none is a fault where the folder is named."""
        try:
            entries = islice(folder.path.iterdir(), MOST_FILES + 1)
            names = sorted(entry.name for entry in entries)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not a path"
            text = f"{folder.path} cannot be read ({reason}); name the folder of connections"
            if self._elsewhere and isinstance(error, FileNotFoundError):
                folder.note(text)
            else:
                folder.fault(text)
            return []
        if len(names) > MOST_FILES:
            text = f"{folder.path} holds more than {MOST_FILES} files; name the folder itself"
            folder.fault(text)
            return []
        visible = [name for name in names if not name.startswith(".")]
        found = [folder.path / name for name in visible if name.endswith(".yaml")]
        for name in visible:
            if note := _passed_over(folder.path / name):
                page = self._page(str(folder.path / name), folder.path)
                page.note(1, WHOLE_FILE, note)
        if not found:
            folder.fault(f"{folder.path} holds no *.yaml; add a connection")
        return found

    def finish(self, top: Sheet | None) -> Sheet:
        """Return the sheet all began with; raise ConfigurationError if anything is wrong."""
        faults = tuple(fault for page in self._pages for fault in page.found())
        if faults or top is None:
            raise FaultyError(faults, self.noted())
        return top

    def suspects(self) -> frozenset[str]:
        """Return the values that look like secrets, in places that are not for any."""
        return frozenset().union(*(page.suspects for page in self._pages))

    def noted(self) -> tuple[Fault, ...]:
        """Return what may not be as meant."""
        return tuple(note for page in self._pages for note in page.noted())


def _passed_over(path: Path) -> str:
    """Return what to say of something in the folder of connections that is not read."""
    if path.suffix.lower() in {".yaml", ".yml"} and path.suffix != ".yaml":
        return "is not read; rename it to .yaml if it is a connection"
    if path.suffix != ".yaml" and path.is_dir():
        return "is a folder, which is not read; move connections in it one folder up"
    return ""


def folder_of(path: Path) -> Path:
    """Return where relative paths in a file start: beside it, or here if it came as a pipe."""
    return Path() if path.is_relative_to("/dev") or path.is_relative_to("/proc") else path.parent

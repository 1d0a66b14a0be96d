"""Load configuration files, reporting every fault of every file in one go."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from forwarder.config import nodes
from forwarder.config.amounts import size
from forwarder.config.connection_file import CONNECTION
from forwarder.config.page import WHOLE_FILE, Fault, InvalidError, Page
from forwarder.config.settings import Configuration
from forwarder.config.shapes import Section, Sheet
from forwarder.config.worker_file import WORKER
from forwarder.connection import AccessKeys, Connection
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
class Loaded:
    """A whole configuration, what may not be as meant, and how it was written.

    ``connection_sheets`` are in the order of ``configuration.connections``.
    """

    configuration: Configuration
    noted: tuple[Fault, ...]
    worker_sheet: Sheet = field(repr=False)
    connection_sheets: tuple[Sheet, ...] = field(repr=False)

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what may not be as meant, a line each."""
        return tuple(map(str, self.noted))

    @property
    def secrets(self) -> frozenset[str]:
        """Return every configured value that no log line may show."""
        security = self.configuration.kafka.security
        own = filter(None, (security.password, security.key_password))
        return frozenset(own).union(*map(secrets_of, self.configuration.connections))


@dataclass(frozen=True, slots=True)
class LoadedConnection:
    """One connection on its own, what may not be as meant, and how it was written."""

    connection: Connection
    noted: tuple[Fault, ...]
    sheet: Sheet = field(repr=False)

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what may not be as meant, a line each."""
        return tuple(map(str, self.noted))

    @property
    def secrets(self) -> frozenset[str]:
        """Return every configured value that no log line may show."""
        return secrets_of(self.connection)


def secrets_of(connection: Connection) -> frozenset[str]:
    """Return the values of one connection that no log line may show."""
    keys = connection.match.api_key or frozenset()
    credentials = connection.credentials
    if isinstance(credentials, AccessKeys):
        return keys | {credentials.access_key_id, credentials.secret_access_key}
    return keys


def load(
    path: Path | str,
    *,
    environ: Mapping[str, str] | None = None,
    offline: bool = False,
    elsewhere: bool = False,
) -> Loaded:
    """Load forwarder.yaml and the connections it names.

    ``environ`` stands in for the environment. ``offline``: nothing will be contacted, so secrets
    are not looked up and certificates need not be there. ``elsewhere``: a variable or file that is
    not here is a note, what was written or the default stands in for the value: for looking at, not
    for running. Raises FaultyError with every fault as ``file:line: key: what, and what to do``.
    """
    reading = _Reading(environ, offline=offline, elsewhere=elsewhere)
    worker = reading.sheet(Path(path), WORKER)
    folder = _folder(Path(path), worker)
    sheets = [reading.sheet(file, CONNECTION) for file in reading.files(folder)] if folder else []
    connections = [sheet for sheet in sheets if sheet]
    _judge_names(worker, connections)
    _judge_sizes(worker, connections)
    worker = reading.finish(worker)
    return Loaded(_configuration(worker, connections), reading.noted(), worker, tuple(connections))


def load_connection(
    path: Path | str,
    *,
    environ: Mapping[str, str] | None = None,
    offline: bool = False,
    elsewhere: bool = False,
) -> LoadedConnection:
    """Load a single connection file; arguments and errors are those of ``load``."""
    reading = _Reading(environ, offline=offline, elsewhere=elsewhere)
    sheet = reading.finish(reading.sheet(Path(path), CONNECTION))
    return LoadedConnection(sheet.build(), reading.noted(), sheet)


def is_of_a_worker(path: Path) -> bool:
    """Tell whether a file is a forwarder.yaml, by its keys; False for what cannot be read."""
    spot = nodes.parse(path, Page(str(path), path.parent, {}))
    try:
        keys = spot.entries() if spot else {}
    except InvalidError:
        return False
    return WORKER.shares(keys) > CONNECTION.shares(keys)


class _Reading:
    """The pages of one load."""

    def __init__(
        self, environ: Mapping[str, str] | None, *, offline: bool, elsewhere: bool
    ) -> None:
        self._environ = os.environ if environ is None else environ
        self._offline = offline
        self._elsewhere = elsewhere
        self._pages: list[Page] = []

    def sheet(self, path: Path, section: Section) -> Sheet | None:
        """Read one file; None if there is nothing in it to read on."""
        page = self._page(str(path), path.absolute().parent)
        page.homes = {field.name: where for where, _, field in section.paths()}
        spot = nodes.parse(path, page)
        return section.read(spot) if spot else None

    def _page(self, file: str, folder: Path) -> Page:
        page = Page(file, folder, self._environ, self._offline, self._elsewhere)
        self._pages.append(page)
        return page

    def files(self, folder: "_Folder") -> list[Path]:
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
        faults = tuple(_in_order(page.faults for page in self._pages))
        if faults or top is None:
            raise FaultyError(faults, self.noted())
        return top

    def noted(self) -> tuple[Fault, ...]:
        """Return what may not be as meant."""
        return tuple(_in_order(page.notes for page in self._pages))


def _passed_over(path: Path) -> str:
    """Return what to say of something in the folder of connections that is not read."""
    if path.suffix.lower() in {".yaml", ".yml"} and path.suffix != ".yaml":
        return "is not read; rename it to .yaml if it is a connection"
    if path.suffix != ".yaml" and path.is_dir():
        return "is a folder, which is not read; move connections in it one folder up"
    return ""


def _in_order(pages: Iterable[list[Fault]]) -> Iterator[Fault]:
    """Yield what was found page by page, by line, each once."""
    for found in pages:
        yield from dict.fromkeys(sorted(found, key=lambda fault: fault.line))


@dataclass(frozen=True, slots=True)
class _Folder:
    """Where connections are, and who says so; nobody: the default, looked at on trust."""

    path: Path
    worker: Sheet | None

    def fault(self, text: str) -> None:
        if self.worker is not None:
            self.worker.fault("connections", text)

    def note(self, text: str) -> None:
        if self.worker is not None:
            self.worker.note("connections", text)


def _folder(path: Path, worker: Sheet | None) -> _Folder | None:
    named = worker.get("connections") if worker else "connections"
    return _Folder(path.parent / named, worker) if named else None


def _judge_names(worker: Sheet | None, connections: list[Sheet]) -> None:
    first: dict[str, Sheet] = {}
    for sheet in connections:
        name = sheet.get("name")
        if name and first.setdefault(name, sheet) is not sheet:
            other = first[name].spots["name"]
            place = f"{other.page.file}:{other.line}"
            sheet.fault(
                "name", f"{name} is the name of the connection in {place} too; rename one of them"
            )
    journal = worker.get("journal") if worker else None
    retired = (journal.get("retired") or ()) if journal else ()
    spots = journal.spots["retired"].elements("names") if journal and retired else []
    for name, element in zip(retired, spots, strict=True):
        if name in first:
            place = first[name].spot.page.file
            element.fault(f"{name} is still configured, in {place}; delete one of them")


def _judge_sizes(worker: Sheet | None, connections: list[Sheet]) -> None:
    limits = worker.get("limits") if worker else None
    for sheet in connections if limits and limits.get("in_flight") else ():
        sink = sheet.get("sink")
        largest = (sink.get("max_record_bytes") or 0) if sink else 0
        if limits and largest > limits.get("in_flight"):
            what = f"is less than one record of {sheet.spot.page.file} ({size(largest)})"
            limits.fault("in_flight", f"{what}; give it several times as much")


def _configuration(worker: Sheet, connections: list[Sheet]) -> Configuration:
    attributes = worker.attributes()
    attributes["connections"] = tuple(sheet.build() for sheet in connections)
    return Configuration(**attributes)

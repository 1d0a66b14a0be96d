"""Load configuration files, reporting every fault of every file in one go."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from forwarder.config import nodes
from forwarder.config.amounts import size
from forwarder.config.connection_file import CONNECTION
from forwarder.config.page import WHOLE_FILE, Fault, Page
from forwarder.config.settings import Configuration
from forwarder.config.shapes import Section, Sheet
from forwarder.config.worker_file import WORKER
from forwarder.connection import AccessKeys, Connection
from forwarder.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Loaded:
    """A whole configuration, what may not be as meant, and how it was written.

    ``connection_sheets`` are in the order of ``configuration.connections``.
    """

    configuration: Configuration
    notes: tuple[str, ...]
    worker_sheet: Sheet = field(repr=False)
    connection_sheets: tuple[Sheet, ...] = field(repr=False)

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
    notes: tuple[str, ...]
    sheet: Sheet = field(repr=False)

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
    path: Path | str, *, environ: Mapping[str, str] | None = None, offline: bool = False
) -> Loaded:
    """Load forwarder.yaml and the connections it names.

    ``environ`` stands in for the environment. ``offline``: nothing will be contacted, so secrets
    are not looked up and certificates need not be there. Raises ConfigurationError with every
    fault as ``file:line: key: what, and what to do``.
    """
    reading = _Reading(os.environ if environ is None else environ, offline=offline)
    worker = reading.sheet(Path(path), WORKER)
    folder = _folder(Path(path), worker)
    sheets = [reading.sheet(file, CONNECTION) for file in reading.files(folder)] if folder else []
    connections = [sheet for sheet in sheets if sheet]
    _judge_names(worker, connections)
    _judge_sizes(worker, connections)
    worker = reading.finish(worker)
    return Loaded(_configuration(worker, connections), reading.notes(), worker, tuple(connections))


def load_connection(
    path: Path | str, *, environ: Mapping[str, str] | None = None, offline: bool = False
) -> LoadedConnection:
    """Load a single connection file; arguments and errors are those of ``load``."""
    reading = _Reading(os.environ if environ is None else environ, offline=offline)
    sheet = reading.finish(reading.sheet(Path(path), CONNECTION))
    return LoadedConnection(sheet.build(), reading.notes(), sheet)


class _Reading:
    """The pages of one load."""

    def __init__(self, environ: Mapping[str, str], *, offline: bool) -> None:
        self._environ = environ
        self._offline = offline
        self._pages: list[Page] = []

    def sheet(self, path: Path, section: Section) -> Sheet | None:
        """Read one file; None if there is nothing in it to read on."""
        page = self._page(str(path), path.absolute().parent)
        page.homes = {field.name: where for where, _, field in section.paths()}
        spot = nodes.parse(path, page)
        return section.read(spot) if spot else None

    def _page(self, file: str, folder: Path) -> Page:
        page = Page(file, folder, self._environ, self._offline)
        self._pages.append(page)
        return page

    def files(self, folder: "_Folder") -> list[Path]:
        """List the connection files of a folder; none is a fault where the folder is named."""
        try:
            names = sorted(entry.name for entry in folder.path.iterdir())
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not a path"
            folder.fault(f"{folder.path} cannot be read ({reason}); name the folder of connections")
            return []
        visible = [name for name in names if not name.startswith(".")]
        found = [folder.path / name for name in visible if name.endswith(".yaml")]
        for name in visible:
            if name.endswith(".yml"):
                page = self._page(str(folder.path / name), folder.path)
                page.note(1, WHOLE_FILE, "is not read; rename it to .yaml if it is a connection")
        if not found:
            folder.fault(f"{folder.path} holds no *.yaml; add a connection")
        return found

    def finish(self, top: Sheet | None) -> Sheet:
        """Return the sheet all began with; raise ConfigurationError if anything is wrong."""
        faults = list(_lines(page.faults for page in self._pages))
        if faults or top is None:
            raise ConfigurationError(faults)
        return top

    def notes(self) -> tuple[str, ...]:
        """Return what may not be as meant."""
        return tuple(_lines(page.notes for page in self._pages))


def _lines(pages: Iterable[list[Fault]]) -> Iterator[str]:
    for found in pages:
        in_order = sorted(found, key=lambda fault: fault.line)
        yield from dict.fromkeys(map(str, in_order))


@dataclass(frozen=True, slots=True)
class _Folder:
    """Where connections are, and who says so; nobody: the default, looked at on trust."""

    path: Path
    worker: Sheet | None

    def fault(self, text: str) -> None:
        if self.worker is not None:
            self.worker.fault("connections", text)


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
    for index, name in enumerate((journal.get("retired") or ()) if journal else ()):
        if name in first and journal:
            element = journal.spots["retired"].elements("names")[index]
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

"""Load configuration files, reporting every fault of every file in one go."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from forwarder.config.connection import AccessKeys, Connection
from forwarder.config.connection_fields import CONNECTION
from forwarder.config.settings import Configuration
from forwarder.config.worker_fields import WORKER
from forwarder.config.yaml.faults import Fault, InvalidError
from forwarder.config.yaml.nodes import Spot
from forwarder.config.yaml.reading import Folder, Reading, folder_of
from forwarder.config.yaml.sections import Sheet
from forwarder.config.yaml.spelling import nearest
from forwarder.config.yaml.units import size


@dataclass(frozen=True, slots=True)
class Loaded:
    """A whole configuration, what may not be as meant, and how it was written.

    ``connection_sheets`` are in the order of ``configuration.connections``. ``suspects``: values
    that look like secrets where none belongs; a command gives them to ``output.hide``.
    """

    configuration: Configuration
    noted: tuple[Fault, ...]
    worker_sheet: Sheet = field(repr=False)
    connection_sheets: tuple[Sheet, ...] = field(repr=False)
    suspects: frozenset[str] = field(repr=False)

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what may not be as meant, a line each."""
        return tuple(map(str, self.noted))

    @property
    def secrets(self) -> frozenset[str]:
        """Return every configured value that no log line may show."""
        security = self.configuration.kafka.security
        own = filter(None, (security.password, security.key_password))
        connections = map(secrets_of, self.configuration.connections)
        return self.suspects.union(own, *connections)


@dataclass(frozen=True, slots=True)
class LoadedConnection:
    """One connection on its own, what may not be as meant, and how it was written."""

    connection: Connection
    noted: tuple[Fault, ...]
    sheet: Sheet = field(repr=False)
    suspects: frozenset[str] = field(repr=False)

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what may not be as meant, a line each."""
        return tuple(map(str, self.noted))

    @property
    def secrets(self) -> frozenset[str]:
        """Return every configured value that no log line may show."""
        return self.suspects | secrets_of(self.connection)


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
    The file may be a pipe, those of the connections may not.
    """
    reading = Reading(environ, offline=offline, elsewhere=elsewhere)
    return _whole(reading, Path(path), reading.opened(Path(path), pipes=True))


def load_connection(
    path: Path | str,
    *,
    environ: Mapping[str, str] | None = None,
    offline: bool = False,
    elsewhere: bool = False,
    pipes: bool = True,
) -> LoadedConnection:
    """Load a single connection file; arguments and errors are those of ``load``.

    Without ``pipes`` it is a file that was read before and is read again.
    """
    reading = Reading(environ, offline=offline, elsewhere=elsewhere)
    return _single(reading, reading.opened(Path(path), pipes=pipes))


def load_either(
    path: Path | str, *, environ: Mapping[str, str] | None = None, elsewhere: bool = False
) -> Loaded | LoadedConnection:
    """Load a forwarder.yaml or a single connection file, whichever it is by its keys.

    It is read once: a pipe has nothing more to give. Arguments and errors are those of ``load``.
    """
    reading = Reading(environ, offline=False, elsewhere=elsewhere)
    top = reading.opened(Path(path), pipes=True)
    if top and _is_of_a_worker(top):
        return _whole(reading, Path(path), top)
    return _single(reading, top)


def _is_of_a_worker(top: Spot) -> bool:
    """Tell whether a file is a forwarder.yaml: by ``kafka``, however spelt, else by most keys."""
    try:
        keys = top.entries()
    except InvalidError:
        return False
    known = [field.name for section in (WORKER, CONNECTION) for field in section.fields]
    unknown = (name for name in keys if name not in known)
    if "kafka" in keys or any(nearest(name, known) == "kafka" for name in unknown):
        return True
    return WORKER.shares(keys) > CONNECTION.shares(keys)


def _whole(reading: Reading, path: Path, top: Spot | None) -> Loaded:
    """Read forwarder.yaml from its top, then the connections that it names."""
    worker = reading.sheet(top, WORKER)
    folder = _folder(path, worker)
    files = reading.files(folder) if folder else []
    sheets = [reading.sheet(reading.opened(file), CONNECTION) for file in files]
    connections = [sheet for sheet in sheets if sheet]
    _judge_names(worker, connections)
    _judge_sizes(worker, connections)
    worker = reading.finish(worker)
    configuration, written = _configuration(worker, connections), tuple(connections)
    return Loaded(configuration, reading.noted(), worker, written, reading.suspects())


def _single(reading: Reading, top: Spot | None) -> LoadedConnection:
    """Read a connection file from its top."""
    sheet = reading.finish(reading.sheet(top, CONNECTION))
    return LoadedConnection(sheet.build(), reading.noted(), sheet, reading.suspects())


def _folder(path: Path, worker: Sheet | None) -> Folder | None:
    named = worker.get("connections") if worker else "connections"
    return Folder(folder_of(path) / named, worker) if named else None


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

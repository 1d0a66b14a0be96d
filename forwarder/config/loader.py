"""Load configuration files, reporting every fault of every file in one go."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from forwarder.config import across, gateway_fields
from forwarder.config.connection import Connection
from forwarder.config.connection_fields import CONNECTION
from forwarder.config.gateway import Gateway
from forwarder.config.gateway_loader import OF_GATEWAYS, is_for_gateways
from forwarder.config.load_run import ConnectionFolder, LoadRun, folder_of
from forwarder.config.settings import Configuration
from forwarder.config.worker_fields import WORKER
from forwarder.config.yaml.faults import ConfigFault, InvalidValueError
from forwarder.config.yaml.nodes import Node
from forwarder.config.yaml.sections import SectionValues
from forwarder.config.yaml.spelling import nearest_word
from forwarder.config.yaml.units import format_size


@dataclass(frozen=True, slots=True)
class LoadedConfiguration:
    """A whole configuration, what may not be as meant, and how it was written.

    ``connection_sections`` are in the order of ``configuration.connections``. ``suspects``: values
    that look like secrets where none belongs; a command gives them to ``output.hide_suspects``.
    ``gateway``: what a gateway is told in the same file, where all of it was judged. A file for
    gateways alone has no topics.
    """

    configuration: Configuration
    noted: tuple[ConfigFault, ...]
    worker_section: SectionValues = field(repr=False)
    connection_sections: tuple[SectionValues, ...] = field(repr=False)
    suspects: frozenset[str] = field(repr=False)
    gateway: Gateway | None = None

    @property
    def written(self) -> tuple[tuple[SectionValues, Connection], ...]:
        """Return every connection with how it was written."""
        connections = self.configuration.connections
        return tuple(zip(self.connection_sections, connections, strict=True))

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
        gateway = gateway_fields.secrets_of(self.gateway) if self.gateway else ()
        return self.suspects.union(own, gateway, *connections)


@dataclass(frozen=True, slots=True)
class LoadedConnection:
    """One connection on its own, what may not be as meant, and how it was written."""

    connection: Connection
    noted: tuple[ConfigFault, ...]
    section: SectionValues = field(repr=False)
    suspects: frozenset[str] = field(repr=False)
    worker_section: ClassVar[None] = None
    """No worker was written; for a caller that shows either kind of file."""
    gateway: ClassVar[None] = None
    """Nor a gateway."""

    @property
    def written(self) -> tuple[tuple[SectionValues, Connection], ...]:
        """Return the connection with how it was written."""
        return ((self.section, self.connection),)

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
    return connection.credentials.secrets | (connection.match.api_key or frozenset())


def load_configuration(
    path: Path | str,
    *,
    environ: Mapping[str, str] | None = None,
    offline: bool = False,
    elsewhere: bool = False,
) -> LoadedConfiguration:
    """Load forwarder.yaml and the connections it names, for a worker.

    ``gateway`` in it is another process's: nothing it refers to is looked up, and what is wrong
    there is a note.

    ``environ`` stands in for the environment. ``offline``: nothing will be contacted, so secrets
    are not looked up and certificates need not be there. ``elsewhere``: a variable or file that is
    not here is a note, what was written or the default stands in for the value: for looking at, not
    for running. Raises FaultyError with every fault as ``file:line: key: what, and what to do``.
    The file may be a pipe, those of the connections may not.
    """
    reading = LoadRun(environ, offline=offline, elsewhere=elsewhere)
    top = reading.open_file(Path(path), pipes=True, foreign=OF_GATEWAYS)
    return _load_worker(reading, Path(path), top)


def load_everything(
    path: Path | str, *, environ: Mapping[str, str] | None = None, elsewhere: bool = False
) -> LoadedConfiguration:
    """Load forwarder.yaml, judging all of it: what workers read and what gateways serve."""
    reading = LoadRun(environ, offline=False, elsewhere=elsewhere)
    return _load_worker(reading, Path(path), reading.open_file(Path(path), pipes=True))


def load_connection(
    path: Path | str,
    *,
    environ: Mapping[str, str] | None = None,
    offline: bool = False,
    elsewhere: bool = False,
    pipes: bool = True,
) -> LoadedConnection:
    """Load a single connection file; arguments and errors are those of ``load_configuration``.

    Without ``pipes`` it is a file that was read before and is read again.
    """
    reading = LoadRun(environ, offline=offline, elsewhere=elsewhere)
    return _load_connection(reading, reading.open_file(Path(path), pipes=pipes))


def load_either(
    path: Path | str, *, environ: Mapping[str, str] | None = None, elsewhere: bool = False
) -> LoadedConfiguration | LoadedConnection:
    """Load a forwarder.yaml or a single connection file, whichever it is by its keys.

    It is read once: a pipe has nothing more to give. Of forwarder.yaml all is judged, ``gateway``
    as well. The rest is as for ``load_configuration``.
    """
    reading = LoadRun(environ, offline=False, elsewhere=elsewhere)
    top = reading.open_file(Path(path), pipes=True)
    if top and _is_of_a_worker(top):
        return _load_worker(reading, Path(path), top)
    return _load_connection(reading, top)


def _is_of_a_worker(top: Node) -> bool:
    """Tell whether a file is a forwarder.yaml: by ``kafka``, however spelt, else by most keys."""
    try:
        keys = top.entries()
    except InvalidValueError:
        return False
    known = [field.name for section in (WORKER, CONNECTION) for field in section.fields]
    unknown = (name for name in keys if name not in known)
    if {"kafka", "gateway"} & keys.keys():
        return True
    if any(nearest_word(name, known) == "kafka" for name in unknown):
        return True
    return WORKER.known_count(keys) > CONNECTION.known_count(keys)


def _load_worker(reading: LoadRun, path: Path, top: Node | None) -> LoadedConfiguration:
    """Read forwarder.yaml from its top, then the connections that it names.

    Where it is for gateways alone, without topics, connections may be missing, too.
    """
    alone = top is not None and not top.file.foreign and is_for_gateways(top)
    if top is not None and alone:
        top.file.foreign = frozenset({"kafka.topics"})
    worker = reading.read_section(top, WORKER)
    folder = _folder(path, worker)
    if folder and alone and not folder.path.is_dir():
        folder = None
    files = reading.files(folder) if folder else []
    sections = [reading.read_section(reading.open_file(file), CONNECTION) for file in files]
    connections = [section for section in sections if section]
    _judge_names(worker, connections)
    _judge_sizes(worker, connections)
    across.judge_topics(worker, connections)
    if worker is not None and not worker.node.file.foreign & OF_GATEWAYS:
        across.judge_apps(worker, connections)
    worker = reading.finish(worker)
    configuration, written = _configuration(worker, connections), tuple(connections)
    gateway = None if worker.node.file.foreign & OF_GATEWAYS else worker.get("gateway")
    return LoadedConfiguration(
        configuration,
        reading.noted(),
        worker,
        written,
        reading.suspects(),
        gateway.build() if gateway else None,
    )


def _load_connection(reading: LoadRun, top: Node | None) -> LoadedConnection:
    """Read a connection file from its top."""
    section = reading.finish(reading.read_section(top, CONNECTION))
    return LoadedConnection(section.build(), reading.noted(), section, reading.suspects())


def _folder(path: Path, worker: SectionValues | None) -> ConnectionFolder | None:
    named = worker.get("connections") if worker else "connections"
    return ConnectionFolder(folder_of(path) / named, worker) if named else None


def _judge_names(worker: SectionValues | None, connections: list[SectionValues]) -> None:
    first: dict[str, SectionValues] = {}
    for section in connections:
        name = section.get("name")
        if name and first.setdefault(name, section) is not section:
            other = first[name].nodes["name"]
            place = f"{other.file.name}:{other.line}"
            section.fault(
                "name", f"{name} is the name of the connection in {place} too; rename one of them"
            )
    journal = worker.get("journal") if worker else None
    retired = (journal.get("retired") or ()) if journal else ()
    nodes = journal.nodes["retired"].elements("names") if journal and retired else []
    for name, element in zip(retired, nodes, strict=True):
        if name in first:
            place = first[name].node.file.name
            element.fault(f"{name} is still configured, in {place}; delete one of them")


def _judge_sizes(worker: SectionValues | None, connections: list[SectionValues]) -> None:
    limits = worker.get("limits") if worker else None
    for section in connections if limits and limits.get("in_flight") else ():
        sink = section.get("sink")
        largest = (sink.get("max_record_bytes") or 0) if sink else 0
        if limits and largest > limits.get("in_flight"):
            what = f"is less than one record of {section.node.file.name} ({format_size(largest)})"
            limits.fault("in_flight", f"{what}; give it several times as much")


def _configuration(worker: SectionValues, connections: list[SectionValues]) -> Configuration:
    worker.get("kafka").values.setdefault("topics", ())
    attributes = worker.attributes()
    attributes["connections"] = tuple(section.build() for section in connections)
    return Configuration(**attributes)

"""Load forwarder.yaml for a gateway: its own sections, and what connections tell of the streams."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from forwarder.config import gateway_fields
from forwarder.config.connection import Connection
from forwarder.config.connection_fields import CONNECTION
from forwarder.config.credential_fields import CredentialFields, credentials_of
from forwarder.config.gateway import GatewayConfiguration
from forwarder.config.kafka_fields import KAFKA
from forwarder.config.load_run import ConnectionFolder, LoadRun, folder_of
from forwarder.config.settings import Kafka
from forwarder.config.worker_fields import WORKER
from forwarder.config.yaml.faults import ConfigFault, InvalidValueError
from forwarder.config.yaml.nodes import Node
from forwarder.config.yaml.sections import SectionValues

OF_GATEWAYS = frozenset({"gateway"})
"""What of forwarder.yaml is no worker's."""

_SHARED = ("bootstrap_servers", "security")
OF_WORKERS = frozenset({"journal", "limits"}) | {
    f"kafka.{field.name}" for field in KAFKA.fields if field.name not in _SHARED
}
"""What of forwarder.yaml is no gateway's."""

_UNTOLD = frozenset({"credentials", "settings", "batching", "deliver_from"})
"""What of a connection file tells a gateway nothing; of credentials only a role's ARN does."""


@dataclass(frozen=True, slots=True)
class LoadedGateway:
    """What a gateway is told, what may not be as meant, and how it was written."""

    configuration: GatewayConfiguration
    noted: tuple[ConfigFault, ...]
    worker_section: SectionValues = field(repr=False)
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
        return self.suspects.union(own, gateway_fields.secrets_of(self.configuration.gateway))


def load_gateway(
    path: Path | str,
    *,
    environ: Mapping[str, str] | None = None,
    offline: bool = False,
    elsewhere: bool = False,
) -> LoadedGateway:
    """Load forwarder.yaml for a gateway; arguments and errors are those of ``load_configuration``.

    What in it is the worker's, ``kafka.topics`` and ``journal`` for example, may be missing, and
    nothing it refers to is looked up; what is wrong there, or in a connection file, is a note.
    """
    reading = LoadRun(environ, offline=offline, elsewhere=elsewhere)
    top = reading.open_file(Path(path), pipes=True, foreign=OF_WORKERS)
    worker = reading.read_section(top, WORKER)
    if worker is not None and not worker.has("gateway"):
        worker.fault("gateway", "is missing; add it: it says what is served")
    worker = reading.finish(worker)
    connections, notes = _connections(Path(path), worker, environ)
    kafka = worker.get("kafka")
    configuration = GatewayConfiguration(
        gateway=worker.get("gateway").build(),
        kafka=Kafka(
            bootstrap_servers=kafka.value_or_placeholder("bootstrap_servers"),
            topics=(),
            security=kafka.get("security").build(),
        ),
        server=worker.get("server").build(),
        drain_timeout_ms=worker.value_or_placeholder("drain_timeout"),
        log=worker.get("log").build(),
        connections=tuple(connections),
        modified_ms={one.name: changed for one, changed in connections.items()},
    )
    return LoadedGateway(configuration, (*reading.noted(), *notes), worker, reading.suspects())


def is_gateways_file(path: Path) -> bool:
    """Tell whether a file is a forwarder.yaml for gateways alone; a pipe is not read for it."""
    top = LoadRun({}, offline=True, elsewhere=True).open_file(path)
    return top is not None and is_for_gateways(top)


def is_for_gateways(top: Node) -> bool:
    """Tell whether a forwarder.yaml is for gateways alone: it has ``gateway``, and no topics."""
    try:
        keys = top.entries()
        gateway, kafka = keys.get("gateway"), keys.get("kafka")
        topics = kafka is not None and "topics" in kafka.entries()
    except InvalidValueError:
        return False
    return gateway is not None and not gateway.is_null and not topics


def _connections(
    path: Path, worker: SectionValues, environ: Mapping[str, str] | None
) -> tuple[dict[Connection, int], tuple[ConfigFault, ...]]:
    """Return the connections that can be told here, with when their files changed; and notes."""
    folder = ConnectionFolder(folder_of(path) / worker.value_or_placeholder("connections"), None)
    reading = LoadRun(environ, offline=True, elsewhere=True)
    files = reading.files(folder) if folder.path.is_dir() else []
    tops = [reading.open_file(file, foreign=_UNTOLD) for file in files]
    sections = [reading.read_section(top, CONNECTION) for top in tops]
    told = {
        _told(section): _modified_ms(file)
        for file, section in zip(files, sections, strict=True)
        if section is not None and _can_be_told(section)
    }
    return told, tuple(_left_out(reading))


def _can_be_told(section: SectionValues) -> bool:
    """Tell whether a connection's match and sink are without fault and known here."""
    used = (section, section.get("match"), section.get("sink"))
    return not section.node.file.faults and not any(one is None or one.unknown for one in used)


def _told(section: SectionValues) -> Connection:
    sink, credentials = section.get("sink").build(), section.get("credentials")
    names = ("role_arn", "aws_account_id", "role_name")
    given = {name: credentials.get(name) for name in names} if credentials is not None else {}
    return Connection(
        section.get("name"),
        sink,
        status=section.get("status"),
        match=section.get("match").build(),
        credentials=credentials_of(CredentialFields(**given), sink.region),
    )


def _left_out(reading: LoadRun) -> Iterator[ConfigFault]:
    for one in reading.faults():
        what = f"{one.text} (GetEventStream does not tell of this connection)"
        yield ConfigFault.at(one.file, one.line, one.key, what)


def _modified_ms(path: Path) -> int:
    try:
        return int(path.stat().st_mtime * 1_000)
    except OSError:
        return 0

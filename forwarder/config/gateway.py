"""The typed content of ``gateway`` in forwarder.yaml: durations in milliseconds, sizes in bytes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from forwarder.config.connection import Connection
from forwarder.config.settings import Kafka, LogSettings, ServerSettings


class AppAuth(StrEnum):
    """How callers prove that they may write to an app."""

    SIGV4 = "sigv4"
    API_KEY = "api_key"
    NONE = "none"


class StoreKind(StrEnum):
    """Where endpoints are kept."""

    SQLITE = "sqlite"
    POSTGRES = "postgres"


@dataclass(frozen=True, slots=True)
class ListenSettings:
    """Where the gateway's own API listens; files are absolute paths, None: no TLS."""

    host: str = "0.0.0.0"  # noqa: S104  # apps come from outside the pod
    port: int = 8080
    cert_file: str | None = None
    key_file: str | None = None


@dataclass(frozen=True, slots=True)
class GatewayLimits:
    """What one request, and all of them together, may take.

    The first five and ``buffered_bytes`` protect the process; the others are Pinpoint's quotas
    (AWS, "Amazon Pinpoint quotas"): ``events`` a request, bytes of an event, characters of an
    attribute's or metric's key and of an attribute's value, attributes and metrics of an event,
    bytes of an endpoint, attributes of one, and values of one such attribute.
    """

    request_bytes: int = 4 * 1024 * 1024
    concurrent_requests: int = 512
    header_timeout_ms: int = 5_000
    body_timeout_ms: int = 15_000
    buffered_bytes: int = 256 * 1024 * 1024
    events: int = 100
    event_bytes: int = 1_000 * 1024
    attribute_key: int = 50
    attribute_value: int = 200
    attributes: int = 40
    metrics: int = 40
    endpoint_bytes: int = 15 * 1024
    endpoint_attributes: int = 250
    attribute_values: int = 50


@dataclass(frozen=True, slots=True)
class CallerKey:
    """Access keys that a server-side caller of an app signs with."""

    access_key_id: str
    secret_access_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class App:
    """A Pinpoint app: who may write to it, and from which browser origins ("*": any)."""

    id: str
    auth: AppAuth
    keys: tuple[CallerKey, ...] = ()
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    origins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EndpointStoreSettings:
    """Where endpoints are kept: a file (absolute path) or a PostgreSQL database."""

    store: StoreKind = StoreKind.SQLITE
    path: str = "endpoints.db"
    dsn: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class PinpointApi:
    """Pinpoint's events API: the topic its records go to, and the apps it serves."""

    topic: str
    apps: tuple[App, ...]
    account_id: str
    substitute_hosts: tuple[str, ...] = ()
    endpoints: EndpointStoreSettings = EndpointStoreSettings()


@dataclass(frozen=True, slots=True)
class EventsApiInput:
    """An input of mParticle's Events API: its credentials, and what its uploads belong to."""

    api_key: str = field(repr=False)
    api_secret: str = field(repr=False)
    environment: str = "production"


@dataclass(frozen=True, slots=True)
class EventsApi:
    """mParticle's Events API: the topic its uploads go to, and who may send them."""

    topic: str
    inputs: tuple[EventsApiInput, ...]


@dataclass(frozen=True, slots=True)
class Gateway:
    """Everything a gateway is told; one of ``pinpoint`` and ``mparticle`` at least."""

    listen: ListenSettings = ListenSettings()
    limits: GatewayLimits = GatewayLimits()
    pinpoint: PinpointApi | None = None
    mparticle: EventsApi | None = None


@dataclass(frozen=True, slots=True)
class GatewayConfiguration:
    """Everything a gateway is told.

    ``kafka`` has no topics: those are the worker's. ``connections`` are those of the same file
    that can be told here, to answer GetEventStream with: without secrets, and of role credentials
    the role alone. ``modified_ms``: by a connection's name, when its file last changed.
    """

    gateway: Gateway
    kafka: Kafka
    server: ServerSettings = field(default_factory=ServerSettings)
    drain_timeout_ms: int = 25_000
    log: LogSettings = field(default_factory=LogSettings)
    connections: tuple[Connection, ...] = ()
    modified_ms: Mapping[str, int] = field(default_factory=dict)

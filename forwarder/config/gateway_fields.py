"""The description of ``gateway`` in forwarder.yaml."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from forwarder.config import certificates, checks, gateway_checks
from forwarder.config.gateway import (
    App,
    AppAuth,
    CallerKey,
    EndpointStoreSettings,
    EventsApi,
    EventsApiInput,
    Gateway,
    GatewayLimits,
    ListenSettings,
    PinpointApi,
    StoreKind,
)
from forwarder.config.masking import MASK
from forwarder.config.settings import outbox_topic, state_topic
from forwarder.config.yaml.sections import Field, ListValue, Section, SectionValues
from forwarder.config.yaml.units import DurationValue, IntegerValue, SizeValue, format_duration
from forwarder.config.yaml.units import format_size as size
from forwarder.config.yaml.values import (
    EnumValue,
    NewFileValue,
    NullableValue,
    PathValue,
    TextValue,
)

_SECOND, _MINUTE = 1_000, 60_000
_KIB, _MIB = 1 << 10, 1 << 20


@dataclass(frozen=True)
class TlsFields:
    """The keys of ``listen.tls`` as they were written."""

    cert_file: str | None = None
    key_file: str | None = None


@dataclass(frozen=True)
class ListenFields:
    """The keys of ``listen`` as they were written."""

    host: str = ListenSettings().host
    port: int = ListenSettings().port
    tls: TlsFields = TlsFields()


def _check_tls(section: SectionValues) -> None:
    """Judge that both files are given, and open them as the gateway will."""
    for name, other in (("cert_file", "key_file"), ("key_file", "cert_file")):
        if section.has(other) and not section.has(name):
            section.fault(name, f"is missing; it belongs to {other}, give both or neither")
    cert, key = section.get("cert_file"), section.get("key_file")
    if not (cert and key) or section.node.file.offline:
        return
    for name, text in certificates.certificate_faults(None, cert, key, None):
        if name == "key_password":
            section.fault("key_file", "is encrypted; give a key without a passphrase")
        else:
            section.fault(name, text)


def _listen(section: SectionValues) -> ListenSettings:
    given = ListenFields(**section.attributes())
    return ListenSettings(given.host, given.port, given.tls.cert_file, given.tls.key_file)


def _pem(name: str, about: str) -> Field:
    return Field(name, NullableValue(PathValue("a PEM file", file=True)), about)


TLS = Section(
    TlsFields,
    (
        _pem("cert_file", "The certificate callers are shown, and those up to its authority."),
        _pem("key_file", "Its private key, without a passphrase."),
    ),
    checks=(_check_tls,),
    schema_rules={"dependentRequired": {"cert_file": ["key_file"], "key_file": ["cert_file"]}},
)

LISTEN = Section(
    ListenFields,
    (
        Field("host", TextValue("an address to listen on"), "The address the APIs listen on."),
        Field("port", IntegerValue(0, 65_535), "Their port; 0: any free one."),
        Field("tls", TLS, "HTTPS; without it TLS ends before the gateway."),
    ),
    build=_listen,
)


def _check_limits(section: SectionValues) -> None:
    """Judge what cannot hold together: a part that may be larger than the whole."""
    parts = (("event_bytes", "request_bytes"), ("endpoint_bytes", "request_bytes"))
    for part, whole in (*parts, ("request_bytes", "buffered_bytes")):
        most, room = section.get(part), section.get(whole)
        if most and room and most > room:
            what = f"is more than {whole} ({size(room)}), so nothing could be that large"
            section.fault(part, f"{what}; lower it, or raise {whole}")
    head, body = section.get("header_timeout"), section.get("body_timeout")
    if head and body and head > body:
        section.note("header_timeout", f"is longer than body_timeout ({format_duration(body)})")


def _count(name: str, most: int, about: str, least: int = 1) -> Field:
    return Field(name, IntegerValue(least, most), about)


LIMITS = Section(
    GatewayLimits,
    (
        Field(
            "request_bytes",
            SizeValue(_KIB, 64 * _MIB),
            "The largest body of a request, once unpacked.",
        ),
        _count("concurrent_requests", 65_536, "Requests under way at a time; beyond, 429."),
        Field(
            "header_timeout",
            DurationValue(100, 5 * _MINUTE),
            "How long the head of a request may take to arrive.",
        ),
        Field(
            "body_timeout",
            DurationValue(100, 10 * _MINUTE),
            "How long its body may take.",
        ),
        Field(
            "buffered_bytes",
            SizeValue(64 * _KIB, 1 << 40),
            "Memory for the bodies of all requests, until Kafka has them; beyond, 429.",
        ),
        _count("events", 10_000, "Events of one PutEvents request."),
        Field("event_bytes", SizeValue(_KIB, 10 * _MIB), "The largest event of Pinpoint."),
        _count("attribute_key", 4_096, "Characters of the name of an attribute or a metric."),
        _count("attribute_value", 65_536, "Characters of the value of an attribute."),
        _count("attributes", 10_000, "Attributes of an event.", 0),
        _count("metrics", 10_000, "Metrics of an event.", 0),
        Field("endpoint_bytes", SizeValue(_KIB, _MIB), "The largest endpoint."),
        _count("endpoint_attributes", 10_000, "Attributes of an endpoint.", 0),
        _count("attribute_values", 10_000, "Values of one attribute of an endpoint."),
    ),
    checks=(_check_limits,),
)

CALLER_KEY = Section(
    CallerKey,
    (
        Field(
            "access_key_id",
            TextValue("an access key id: 16 to 128 of A-Z a-z 0-9 _", r"\w{16,128}", masked=True),
            "The id that requests are signed with.",
        ),
        Field(
            "secret_access_key",
            TextValue("a secret access key", check=gateway_checks.secret_complaint, secret=True),
            "Its secret, best as ${NAME} or ${file:PATH}.",
        ),
    ),
    expected="pairs {access_key_id: …, secret_access_key: …}",
)


def _check_auth(section: SectionValues) -> None:
    """Judge that an app has the credentials that its ``auth`` asks for, and no others."""
    auth = section.get("auth")
    if auth is None:
        return
    needed = {AppAuth.SIGV4: "keys", AppAuth.API_KEY: "api_keys", AppAuth.NONE: None}[auth]
    for name in ("keys", "api_keys"):
        if name == needed and not section.has(name):
            section.fault(name, f"is missing: auth {auth} needs {name}; add them")
        elif name == needed and section.get(name) == ():
            section.fault(name, f"is an empty list: nobody could write to the app; add {name}")
        elif name != needed and section.has(name):
            advice = "delete it" if needed else f"set auth {_AUTH_OF[name]}, or delete it"
            section.fault(name, f"is not used: auth is {auth}; {advice}")
    if auth is AppAuth.NONE:
        what = "lets everybody who reaches the port write to this app, and read its endpoints"
        section.note("auth", f"{what}; right for development, or behind what asks who calls")
    ids = [key.get("access_key_id") for key in section.get("keys") or ()]
    gateway_checks.fault_repeated(
        list(zip(ids, section.get("keys") or (), strict=True)),
        "access_key_id",
        "is the id of another key of this app; delete one of them",
    )
    if "*" in (section.get("origins") or ()) and len(section.get("origins")) > 1:
        section.note("origins", 'holds "*", which stands for any; the others have no effect')


_AUTH_OF = {"keys": AppAuth.SIGV4, "api_keys": AppAuth.API_KEY}

APP = Section(
    App,
    (
        Field(
            "id",
            TextValue("an app id: 1 to 128 of a-z A-Z 0-9 . _ -", checks.APP_ID, identifier=True),
            "The app's id, as clients have it: Pinpoint's project id.",
        ),
        Field(
            "auth",
            EnumValue(AppAuth),
            "How callers prove who they are: sigv4 (with keys), api_key (with api_keys: header "
            "x-api-key, or Basic with it as user), or none.",
        ),
        Field("keys", ListValue(CALLER_KEY), "The key pairs that callers sign with."),
        Field(
            "api_keys",
            ListValue(TextValue("an API key", check=gateway_checks.secret_complaint, secret=True)),
            "The API keys of callers, best as ${NAME} or ${file:PATH}.",
        ),
        Field(
            "origins",
            ListValue(TextValue("an origin", check=gateway_checks.origin_complaint)),
            'The browser origins that may call (CORS), such as https://shop.example; "*": any.',
        ),
    ),
    checks=(_check_auth,),
    expected="apps {id: …, auth: …}",
)


def _check_store(section: SectionValues) -> None:
    store = section.get("store")
    if store is StoreKind.POSTGRES:
        if not section.has("dsn"):
            section.fault("dsn", "is missing; store postgres needs postgresql://USER@HOST/DATABASE")
        if section.has("path"):
            section.fault("path", "is not used: store is postgres; delete it")
    elif store is StoreKind.SQLITE and section.has("dsn"):
        section.fault("dsn", "is not used: store is sqlite; set store postgres, or delete it")


def _store(section: SectionValues) -> EndpointStoreSettings:
    """Return the store; the default path, too, starts from the folder of the file."""
    attributes = section.attributes()
    folder = section.node.file.folder
    attributes["path"] = str(folder / Path(attributes["path"]))
    attributes["dsn"] = attributes["dsn"] or ""
    return EndpointStoreSettings(**attributes)


STORE = Section(
    EndpointStoreSettings,
    (
        Field(
            "store",
            EnumValue(StoreKind),
            "Where endpoints are kept: sqlite (a file, for one gateway) or postgres (a database, "
            "for many).",
        ),
        Field(
            "path",
            NewFileValue("a file"),
            "The file of sqlite, on a volume that stays; relative to this file.",
        ),
        Field(
            "dsn",
            NullableValue(TextValue("a DSN", check=gateway_checks.dsn_complaint, secret=True)),
            "The database of postgres: postgresql://USER:PASSWORD@HOST:PORT/DATABASE, best as "
            "${NAME} or ${file:PATH}.",
            default=None,
        ),
    ),
    checks=(_check_store,),
    build=_store,
    schema_rules={
        "if": {"properties": {"store": {"const": "postgres"}}, "required": ["store"]},
        "then": {"required": ["dsn"], "properties": {"path": {"type": "null"}}},
    },
)


def _check_apps(section: SectionValues) -> None:
    """Judge the apps together: an id is one app's, an API key opens one app."""
    apps = section.get("apps") or ()
    gateway_checks.fault_repeated(
        [(app.get("id"), app) for app in apps],
        "id",
        "is the id of another app already; delete one of them",
    )
    owners: dict[str, SectionValues] = {}
    secrets: dict[str, tuple[str, SectionValues]] = {}
    for app in apps:
        for key in {*(app.get("api_keys") or ())} - {MASK}:
            if owners.setdefault(key, app) is not app:
                place = gateway_checks.place_of(owners[key])
                what = f"holds a key of the app in {place} too, which so opens both"
                app.note("api_keys", f"{what}; give every app keys of its own")
        for pair in app.get("keys") or ():
            gateway_checks.fault_other_secret(pair, secrets)


def _topic(about: str) -> Field:
    name = TextValue("a topic", check=checks.kafka_name_complaint, form=checks.KAFKA_NAME)
    return Field("topic", name, about)


PINPOINT = Section(
    PinpointApi,
    (
        _topic("The topic that events are written to; a worker reads it with format: pinpoint."),
        Field("apps", ListValue(APP, 1), "The apps that are served."),
        Field(
            "account_id",
            TextValue(checks.ACCOUNT_ID_ADVICE, checks.ACCOUNT_ID),
            "The AWS account that ARNs of the apps name: twelve digits, in quotes.",
        ),
        Field(
            "substitute_hosts",
            ListValue(TextValue("a host", check=gateway_checks.host_complaint)),
            "Hosts that a request may have been signed for, beside the one it came to: "
            "pinpoint.us-east-1.amazonaws.com of a client whose endpoint is fixed.",
        ),
        Field("endpoints", STORE, "Where endpoints are kept."),
    ),
    checks=(_check_apps,),
)

INPUT = Section(
    EventsApiInput,
    (
        Field(
            "api_key",
            TextValue("an API key", check=checks.secret_complaint, masked=True),
            "The key of the input, which its uploads are stored with.",
        ),
        Field(
            "api_secret",
            TextValue("a secret", check=gateway_checks.secret_complaint, secret=True),
            "Its secret, best as ${NAME} or ${file:PATH}.",
        ),
        Field(
            "environment",
            EnumValue(("production", "development")),
            "What uploads that name none are of.",
        ),
    ),
    expected="inputs {api_key: …, api_secret: …}",
)


def _check_inputs(section: SectionValues) -> None:
    gateway_checks.fault_repeated(
        [(one.get("api_key"), one) for one in section.get("inputs") or ()],
        "api_key",
        "is the key of another input already; delete one of them",
    )


MPARTICLE = Section(
    EventsApi,
    (
        _topic("The topic that uploads are written to; a worker reads it with format: mparticle."),
        Field("inputs", ListValue(INPUT, 1), "Who may send uploads."),
    ),
    checks=(_check_inputs,),
)


def _check_apis(section: SectionValues) -> None:
    if not section.has("pinpoint", "mparticle"):
        section.node.fault("serves no API; add pinpoint or mparticle")
    topics = {name: api for name in _APIS if (api := section.get(name))}
    if len(topics) == len(_APIS) and len({api.get("topic") for api in topics.values()}) == 1:
        what = "is the topic of gateway.pinpoint, too, and a topic has one format"
        topics["mparticle"].fault("topic", f"{what}; choose another")


_APIS = ("pinpoint", "mparticle")

GATEWAY = Section(
    Gateway,
    (
        Field("listen", LISTEN, "Where the APIs are served; probes and metrics stay on server."),
        Field("limits", LIMITS, "What requests may take, and Pinpoint's quotas."),
        Field("pinpoint", NullableValue(PINPOINT), "Pinpoint's events API; null: none."),
        Field("mparticle", NullableValue(MPARTICLE), "mParticle's Events API; null: none."),
    ),
    checks=(_check_apis,),
)


def check_beside_worker(section: SectionValues) -> None:
    """Judge ``gateway`` beside the other sections of forwarder.yaml: ports, topics, the drain."""
    gateway, server = section.get("gateway"), section.get("server")
    if gateway is None:
        return
    listen, limits = gateway.get("listen"), gateway.get("limits")
    if listen and server and listen.get("port") and listen.get("port") == server.get("port"):
        hosts = {listen.get("host"), server.get("host")}
        if len(hosts) == 1 or hosts & _ALL_ADDRESSES:
            what = f"is server.port, too ({server.get('port')}), and both are the gateway's"
            listen.fault("port", f"{what}; choose another for one of them")
    drain, body = section.get("drain_timeout"), limits.get("body_timeout") if limits else None
    if drain and body and body > drain:
        what = f"is longer than drain_timeout ({format_duration(drain)})"
        limits.note("body_timeout", f"{what}: a stop cuts what takes longer to arrive")
    for name, topic in _read_by_worker(section, gateway):
        _check_topic(section.get("kafka"), gateway.get(name), name, topic)


_ALL_ADDRESSES = frozenset({"0.0.0.0", "::"})  # noqa: S104  # compared, not listened on


def _read_by_worker(
    section: SectionValues, gateway: SectionValues
) -> Iterator[tuple[str, SectionValues | None]]:
    """Yield each API with the entry of kafka.topics that is its topic; None: there is none."""
    kafka = section.get("kafka")
    read = {topic.get("name"): topic for topic in (kafka.get("topics") if kafka else None) or ()}
    for name in _APIS:
        if kafka is not None and (api := gateway.get(name)) and api.get("topic"):
            yield name, read.get(api.get("topic"))


def _check_topic(
    kafka: SectionValues, api: SectionValues, name: str, read: SectionValues | None
) -> None:
    """Judge the topic of an API: it is read in its own format, and nothing else writes to it."""
    topic, group = api.get("topic"), kafka.get("group_id")
    if read is not None:
        if (written := read.get("format")) and written != name:
            what = f"is read with format {written} ({gateway_checks.place_of(read)})"
            api.fault("topic", f"{what}; set format: {name} there, or choose another")
    elif topic == kafka.get("dead_letter_topic"):
        api.fault("topic", "is kafka.dead_letter_topic, too; choose another")
    elif group and topic.startswith((outbox_topic(group, ""), state_topic(group, ""))):
        api.fault("topic", "has a name of the journal's topics; choose another")
    elif kafka.get("topics"):
        api.note("topic", "is not in kafka.topics, so no worker of this file reads it")


def secrets_of(gateway: Gateway) -> Iterable[str]:
    """Yield the values of a gateway that no log line may show."""
    for app in gateway.pinpoint.apps if gateway.pinpoint else ():
        yield from app.api_keys
        for key in app.keys:
            yield from (key.access_key_id, key.secret_access_key)
    if gateway.pinpoint and gateway.pinpoint.endpoints.dsn:
        yield from gateway_checks.dsn_secrets(gateway.pinpoint.endpoints.dsn)
    for one in gateway.mparticle.inputs if gateway.mparticle else ():
        yield from (one.api_key, one.api_secret)

"""Effective settings for a person: every key with its value, defaults marked, secrets masked."""

from collections.abc import Iterator, Mapping

from forwarder.config import masking
from forwarder.config.connection import (
    BatchMode,
    Connection,
    Status,
)
from forwarder.config.connection_fields import mode_in_words
from forwarder.config.gateway import AppAuth, EndpointStoreSettings, Gateway, StoreKind
from forwarder.config.settings import outbox_topic, state_topic
from forwarder.config.yaml.sections import Field, Section, SectionValues, TaggedSections
from forwarder.config.yaml.units import format_duration
from forwarder.config.yaml.values import TextValue

_COLUMN = 58


def connection_lines(values: SectionValues, connection: Connection) -> Iterator[str]:
    """Yield what a connection does in words, then all of its keys."""
    file = masking.mask_line(values.node.file.name)
    yield f"{masking.mask(connection.name)} ({file})"
    for line in summary_lines(connection):
        yield f"  # {line}"
    yield from _keys(values, "  ", connection.credentials.derived)


def worker_lines(values: SectionValues) -> Iterator[str]:
    """Yield which topics a worker uses, what a gateway serves, then all keys of forwarder.yaml."""
    kafka = values.get("kafka")
    group, topics = (
        kafka.value_or_placeholder("group_id"),
        [topic.value_or_placeholder("name") for topic in kafka.value_or_placeholder("topics")],
    )
    yield masking.mask_line(values.node.file.name)
    if topics:
        yield f"  # group {group} reads {', '.join(topics)}"
    for topic in topics:
        yield f"  # keeps {outbox_topic(group, topic)} and {state_topic(group, topic)}"
    if gateway := values.get("gateway"):
        for line in gateway_summary(gateway.build()):
            yield f"  # {masking.mask_line(line)}"
    yield from _keys(values, "  ", {})


def gateway_summary(gateway: Gateway) -> Iterator[str]:
    """Yield what a gateway serves, a line each."""
    listen = gateway.listen
    scheme = "https" if listen.cert_file else "http"
    port = listen.port or "any free port"
    yield f"a gateway listens on {listen.host}:{port} ({scheme})"
    if api := gateway.pinpoint:
        by_auth = ", ".join(
            f"{count} by {auth}" if auth is not AppAuth.NONE else f"{count} open to everybody"
            for auth in AppAuth
            if (count := sum(app.auth is auth for app in api.apps))
        )
        yield f"Pinpoint's events API for {_plural(len(api.apps), 'app')} ({by_auth})"
        yield f"writes to {api.topic}, and keeps endpoints in {_store(api.endpoints)}"
    if events := gateway.mparticle:
        yield f"mParticle's Events API for {_plural(len(events.inputs), 'input')}"
        yield f"writes to {events.topic}"


def _plural(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _store(endpoints: EndpointStoreSettings) -> str:
    """Say where endpoints are kept; a DSN holds a password."""
    return "PostgreSQL" if endpoints.store is StoreKind.POSTGRES else endpoints.path


def summary_lines(connection: Connection) -> Iterator[str]:
    """Yield what a connection does, a line each."""
    yield _mode(connection)
    sink, credentials = connection.sink, connection.credentials
    yield f"they go to {sink.summary(connection.name)}"
    yield "written without credentials" if sink.folder else credentials.summary()
    if connection.status is Status.INACTIVE:
        yield "inactive: accepts no new event and sends nothing, but keeps its place"


def _mode(connection: Connection) -> str:
    mode, batching = connection.mode, connection.batching
    words = mode_in_words(mode)
    if mode is BatchMode.BATCH:
        age = format_duration(batching.max_age_ms)
        return f"{words}, closed {age} after the first event or at {batching.max_events} events"
    if mode is BatchMode.SESSION:
        grace, quiet = (
            format_duration(batching.session_grace_ms),
            format_duration(batching.session_timeout_ms),
        )
        return f"{words}, {grace} after its end or {quiet} after its last event"
    return words


def _keys(values: SectionValues, indent: str, derived: Mapping[str, str]) -> Iterator[str]:
    for field in values.section.fields:
        value = values.value_or_placeholder(field.name)
        if field.name in values.unknown or _holds_unknown(value):
            yield _marked(f"{indent}{field.name}: {_shown(field, value)}", "not known here")
        elif isinstance(value, SectionValues):
            yield f"{indent}{field.name}:"
            yield from _keys(value, indent + "  ", derived if field.name == "credentials" else {})
        elif value is None and field.name in derived:
            text = f"{indent}{field.name}: {TextValue().show(derived[field.name])}"
            yield _marked(text, "follows from the keys given")
        else:
            text = f"{indent}{field.name}: {_shown(field, value)}"
            yield _marked(text, "default" if _is_default(values.section, field, value) else "")


def _holds_unknown(value: object) -> bool:
    """Tell whether what is shown of a list of sections, their names, is not known here."""
    return isinstance(value, tuple) and any(
        isinstance(one, SectionValues) and one.section.fields[0].name in one.unknown
        for one in value
    )


def _shown(field: Field, value: object) -> str:
    return "null" if value is None else field.value_type.mask(field.value_type.show(value))


def _is_default(section: Section, field: Field, value: object) -> bool:
    return not isinstance(field.value_type, TaggedSections) and bool(
        section.default(field) == value
    )


def _marked(text: str, remark: str) -> str:
    return f"{text:<{_COLUMN}} # {remark}" if remark else text

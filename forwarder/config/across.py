"""What connections, topics and apps say of each other: notes that need more than one section."""

from collections.abc import Mapping, Sequence

from forwarder.config.mparticle_settings import SETTINGS
from forwarder.config.targets import PINPOINT
from forwarder.config.yaml.sections import SectionValues

_OF_UPLOADS_ALONE = (
    "send_crash_events",
    "send_network_performance_events",
    "send_validation_results",
    "include_user_attribute_change_events",
    "include_user_identity_change_events",
    "include_consent_state",
)
"""Settings of what events of Pinpoint never have, whatever is made of them."""

_OF_DOCUMENTS_ALONE = (
    "include_mp_deviceid",
    "include_event_batch_location",
    "include_system_notifications",
)
"""Settings of what records made of Pinpoint's events do not have, though documents may."""


def judge_topics(worker: SectionValues | None, connections: Sequence[SectionValues]) -> None:
    """Note what connections name in vain: topics that are not read, what never comes from them."""
    kafka = worker.get("kafka") if worker else None
    topics = (kafka.get("topics") or ()) if kafka else ()
    formats = {topic.get("name"): topic.get("format") for topic in topics}
    if not formats or None in {*formats, *formats.values()}:
        return
    for section in connections:
        if section.get("match") is not None:
            _judge_connection(section, formats)


def _judge_connection(section: SectionValues, formats: Mapping[str, str]) -> None:
    match = section.get("match")
    wanted = match.get("topic")
    if wanted is None and "topic" in match.unknown:
        return
    for name in sorted((wanted or frozenset()) - formats.keys()):
        match.note("topic", f"{name} is not in kafka.topics, so nothing comes from it")
    known = {formats[name] for name in formats if wanted is None or name in wanted}
    if match.get("api_key") and PINPOINT in known:
        rest = "" if known == {PINPOINT} else " from those topics"
        match.note("api_key", f"takes nothing{rest}: no event of Pinpoint has one")
    settings, sink = section.get("settings"), section.get("sink")
    if settings is not None and sink is not None and known:
        _judge_settings(settings, sink.get("format"), known)


def _judge_settings(settings: SectionValues, written: str | None, known: set[str]) -> None:
    """Note settings that change nothing of what comes in and goes out."""
    in_vain: tuple[str, ...] = ()
    if known == {PINPOINT}:
        in_vain = _OF_UPLOADS_ALONE + (_OF_DOCUMENTS_ALONE if written == PINPOINT else ())
    elif PINPOINT not in {written, *known}:
        in_vain = ("screen_view_event_types",)
    defaults = {field.name: SETTINGS.default(field) for field in SETTINGS.fields}
    for name in in_vain:
        value = settings.get(name)
        if value is not None and value != defaults[name]:
            there = "an event of Pinpoint" if known == {PINPOINT} else "an upload of mParticle"
            settings.note(name, f"has no effect: {there} has no such thing")


def judge_apps(worker: SectionValues | None, connections: Sequence[SectionValues]) -> None:
    """Note apps of a gateway whose events no active connection of the same file takes."""
    gateway = worker.get("gateway") if worker else None
    api = gateway.get("pinpoint") if gateway else None
    apps = (api.get("apps") or ()) if api else ()
    if not connections or not apps or api is None:
        return
    ids = {app.get("id") for app in apps}
    takers = [one for one in connections if _may_take(one, api.get("topic"))]
    for app in apps:
        if app.get("id") and not any(_takes(one, app.get("id"), ids) for one in takers):
            app.note("id", "is of an app whose events no connection takes; add one, or import it")


def _may_take(section: SectionValues, topic: str | None) -> bool:
    match = section.get("match")
    wanted = match.get("topic") if match is not None else None
    return section.get("status") == "active" and (not wanted or topic in wanted)


def _takes(section: SectionValues, app: str, ids: set[str]) -> bool:
    """Tell whether a connection may take an app's events; packages are not known to be of any."""
    match = section.get("match")
    wanted = match.get("application") if match is not None else None
    return not wanted or app in wanted or not wanted & ids

"""The typed content of a connection file: plain values, compiled into a lane elsewhere."""

from dataclasses import dataclass, field, fields
from enum import StrEnum
from hashlib import blake2b

from forwarder.config.credentials import DEFAULT, Credentials
from forwarder.config.targets import ONE_EVENT_FORMATS, Target


class Status(StrEnum):
    """Whether a connection takes part."""

    ACTIVE = "active"
    INACTIVE = "inactive"


class BatchMode(StrEnum):
    """How events become documents."""

    BATCH = "batch"
    SESSION = "session"
    SINGLE = "single"


@dataclass(frozen=True, slots=True)
class Match:
    """Which uploads a connection wants; None: any value. Platforms are lower case here."""

    environment: frozenset[str] | None = None
    application: frozenset[str] | None = None
    platform: frozenset[str] | None = None
    api_key: frozenset[str] | None = field(default=None, repr=False)
    topic: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """mParticle's connection settings under their documented names, with their defaults."""

    unique_id: str | None = None
    send_lifecycle_events: bool = True
    send_screen_views: bool = True
    send_crash_events: bool = True
    send_network_performance_events: bool = True
    send_custom_events: bool = True
    send_push_registrations_and_receipts: bool = True
    send_as_batch: bool = True
    wait_for_complete_batch: bool = False
    include_location_information: bool = True
    include_mp_deviceid: bool = False
    send_profile_change_events: bool = True
    send_commerce_events: bool = True
    include_metadata: bool = True
    include_user_attribute_change_events: bool = False
    include_user_identity_change_events: bool = False
    include_user_identities: bool = True
    include_consent_state: bool = False
    include_event_batch_location: bool = False
    include_system_notifications: bool = True
    send_batches_without_events: bool = False
    send_validation_results: bool = False
    send_unknown_events: bool = True
    metadata_field_exclusion: tuple[str, ...] = ()
    int64_as_string: bool = False
    screen_view_event_types: tuple[str, ...] = ("pageView",)

    @property
    def mode(self) -> BatchMode:
        """Return the batch mode; Wait for Complete Batch overrides Send as Batch."""
        if self.wait_for_complete_batch:
            return BatchMode.SESSION
        return BatchMode.BATCH if self.send_as_batch else BatchMode.SINGLE


@dataclass(frozen=True, slots=True)
class Batching:
    """When windows close; milliseconds."""

    max_age_ms: int = 600_000
    max_events: int = 10_000
    session_timeout_ms: int = 1_800_000
    session_grace_ms: int = 60_000
    session_max_ms: int = 14_400_000


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection file. ``deliver_from_ms`` is wall-clock milliseconds, None: everything."""

    name: str
    sink: Target
    status: Status = Status.ACTIVE
    deliver_from_ms: int | None = None
    match: Match = Match()
    credentials: Credentials = DEFAULT
    settings: Settings = Settings()
    batching: Batching = Batching()

    @property
    def mode(self) -> BatchMode:
        """Return how events become documents: those of some formats hold one, whatever is set."""
        return BatchMode.SINGLE if self.has_one_event_documents else self.settings.mode

    @property
    def has_one_event_documents(self) -> bool:
        """Tell whether a document of the sink's format holds exactly one event."""
        return self.sink.format in ONE_EVENT_FORMATS

    @property
    def fingerprint(self) -> bytes:
        """Return 8 bytes that change with whatever changes a document's content.

        What came later counts only where it is not at its default: ids of stored batches rest on
        these bytes.
        """
        own = ((f, getattr(self.settings, f.name)) for f in fields(self.settings))
        told: list[tuple[str, object]] = [
            (f.name, value) for f, value in own if f.name not in _LATER or value != f.default
        ]
        told += self.sink.content_settings
        text = "\x1f".join(f"{name}={value!r}" for name, value in told)
        return blake2b(text.encode(), digest_size=8).digest()


_LATER = frozenset({"screen_view_event_types"})
"""Settings that are younger than the first stored fingerprint."""

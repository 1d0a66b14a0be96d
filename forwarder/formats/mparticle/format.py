"""mParticle's uploads as an input format: what there is of it besides decoding and filtering."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Raw

from forwarder.config.connection import Settings
from forwarder.formats import rawjson
from forwarder.formats.contract import EventFilter, FormerRule, Unlike, Upload
from forwarder.formats.mparticle import document, former_keys, identity, matched, not_uploads
from forwarder.formats.mparticle.decode import MParticleDecoder
from forwarder.formats.mparticle.event_filter import MParticleEventFilter
from forwarder.formats.rawjson import ABSENT
from forwarder.model import Partition

_Milliseconds = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""What a Kafka record can be dated with, and the journal can store."""


class _Dated(msgspec.Struct, gc=False):
    timestamp_unixtime_ms: _Milliseconds | None = None


_dated = msgspec.json.Decoder(_Dated, strict=False)
_time = msgspec.json.Decoder(_Milliseconds | None, strict=False)


class MParticleInput:
    """mParticle's uploads: ``contract.InputFormat``."""

    name = "mparticle"
    session_start = "session_start"
    session_end = "session_end"
    former_rules: Mapping[str, FormerRule] = former_keys.RULES
    merge = staticmethod(document.merge_contexts)
    shape = staticmethod(document.context_shape)

    def upload(self, events: bytes, context: bytes, *, keyless: bool = False) -> bytes:
        """Return an object with these events and the keys of the context."""
        if keyless:
            return context
        comma = b"," if len(context) > len(b"{}") else b""
        return b'{"events":[%b]%b%b' % (events, comma, context[1:])

    def decoder(
        self,
        partition: Partition,
        filters: Sequence[EventFilter],
        *,
        sessions: bool,
        duplicates: bool = False,
        matches: bool = False,
    ) -> MParticleDecoder:
        """Return what reads a partition; where no location is taken out, none is looked for."""
        places = any(
            isinstance(one, MParticleEventFilter) and one.strips_location for one in filters
        )
        return MParticleDecoder(
            partition, sessions=sessions, places=places, duplicates=duplicates, matches=matches
        )

    def event_filter(self, connection: str, settings: Settings) -> MParticleEventFilter:
        """Compile a connection's settings."""
        return MParticleEventFilter(connection, settings)

    def applications(self, upload: Upload) -> tuple[bytes, ...]:
        """Return ``application_info.package``."""
        return (upload.application,)

    def platform(self, upload: Upload) -> bytes:
        """Return ``device_info.platform``."""
        if upload.platform is None:
            matched.read(upload)
        return upload.platform or identity.NO_ID

    def api_keys(self, upload: Upload) -> tuple[bytes, ...]:
        """Return ``api_key`` and the elements of ``api_keys``."""
        if upload.api_keys is None:
            matched.read(upload)
        return upload.api_keys or ()

    def record_time(self, value: bytes) -> int | None:
        """Return ``timestamp_unixtime_ms``; of an array of uploads that of the first that has one.

        What cannot be read has none: the decoder says so in a dead letter.
        """
        try:
            return _dated.decode(value).timestamp_unixtime_ms
        except RecursionError:
            return None
        except msgspec.DecodeError:
            return _time_of_odd(value)

    def unlike(self, value: bytes) -> Unlike | None:
        """Tell what an object is, if it is no upload."""
        fields = rawjson.fields(value)
        if "events" in fields or not fields:
            return None
        wrapper = not_uploads.is_wrapped(fields)
        if not wrapper and not not_uploads.ONLY_UPLOADS.isdisjoint(fields):
            return None
        remedy = f": jq -c .{wrapper} makes it of this" if wrapper else ""
        cause = not_uploads.likely_cause(fields)
        return Unlike(cause if cause.startswith("looks") else f"is {cause}", remedy)


def _time_of_odd(value: bytes) -> int | None:
    """Read an array of uploads, or what msgspec refused; None of what cannot be read."""
    try:
        if value.lstrip()[:1] != b"[":
            return _milliseconds(rawjson.fields(value))
        times = (_milliseconds(rawjson.fields(bytes(one))) for one in rawjson.elements(value))
        return next(filter(None, times), None)
    except (ValueError, RecursionError):
        return None


def _milliseconds(fields: dict[str, Raw]) -> int | None:
    """Return the time that these members give, if it is one."""
    raw = fields.get("timestamp_unixtime_ms", ABSENT)
    try:
        return _time.decode(raw) if raw is not ABSENT else None
    except msgspec.DecodeError:
        return None

"""mParticle's documents made of Pinpoint's uploads."""

from forwarder.config.connection import Connection
from forwarder.config.targets import RecordLimit
from forwarder.formats import rawjson
from forwarder.formats.across.mparticle_context import ContextMapper, EndpointFacts
from forwarder.formats.across.mparticle_events import (
    MParticleEvents,
    Occasion,
    OccasionFrame,
    occasion,
)
from forwarder.formats.across.usual_context import UsualContexts, leaves_all
from forwarder.formats.contract import Frame
from forwarder.formats.mparticle.document import MParticleDocuments

ENCODER_VERSION = 1
"""Goes up whenever the same events would give other bytes, besides the version of mParticle's."""

_MAX_GROWTH = 8
"""By how much a context or an event may grow as it is made mParticle's, at most: ``"":[]``, of an
endpoint's attributes, becomes ``"Attributes:":"[]"``, and a metric ``"":1`` is of 5 bytes."""

_MAX_OVERHEAD_BYTES = 1500
"""More than what a document has of every event, and of its context, that did not come."""

_PUSH_TOKEN = frozenset({"device_info", "device_info.push_token"})


class MParticleFromPinpoint:
    """Makes the documents of one connection: ``contract.DocumentMaker``.

    The context of a window is made one of mParticle's, of which mParticle's own maker makes the
    document: so settings and exclusions act as on mParticle's contexts.
    """

    def __init__(self, connection: Connection, limit: RecordLimit) -> None:
        """Compile what all documents of the connection have in common."""
        settings = connection.settings
        self._located = settings.include_location_information
        self._contexts = ContextMapper(settings)
        self._usual = UsualContexts(settings) if leaves_all(settings) else None
        self._documents = MParticleDocuments(connection, limit)
        self.native = self._documents.native
        self._tells_token = settings.include_metadata and _PUSH_TOKEN.isdisjoint(
            settings.metadata_field_exclusion
        )
        self.version = b"pinpoint-%d/%b" % (ENCODER_VERSION, self._documents.version)
        self._bare_bytes = self._documents.bare_bytes
        self._limit = limit.payload_bytes("")
        self.least = self._documents.least
        spare = self._documents.small_context_bytes - _MAX_OVERHEAD_BYTES
        self.small_context_bytes = max(0, spare) // _MAX_GROWTH
        self.small_events_bytes = max(0, self.least // 2 - _MAX_OVERHEAD_BYTES) // _MAX_GROWTH
        self.render = MParticleEvents(settings).render
        self.document = self._documents.document
        self.recognize = self._documents.recognize

    def frame(self, context: bytes, dated_ms: int, newest_ms: int) -> Frame:  # noqa: ARG002
        """Encode everything but the events and the ids.

        The newest upload names the user, so ``newest_ms`` dates the user identities, too.
        """
        usual = None if self._usual is None else self._usual.write(context, newest_ms)
        if usual is not None:
            tail, where = self._documents.tail(usual.rest, newest_ms), self._occasion(usual)
            return OccasionFrame("", tail, self._bare_bytes + len(tail), self._limit, where)
        mapped = self._contexts.map(context, newest_ms)
        made = self._documents.frame_of(mapped.fields, newest_ms, newest_ms)
        return OccasionFrame(made.user, made.tail, made.size, made.limit, self._occasion(mapped))

    def _occasion(self, facts: EndpointFacts) -> Occasion:
        """Return what the events of a context have in common."""
        location = b""
        if facts.location and self._located:
            location = b',"location":%b' % rawjson.encode_object(facts.location)
        token = facts.address if self._tells_token else b""
        return occasion(facts.app, facts.endpoint, location, facts.network, token)

    def prune(self, context: bytes, most: int) -> bytes:  # noqa: ARG002  # all of it may be sent
        """Return the context: an endpoint is small."""
        return context

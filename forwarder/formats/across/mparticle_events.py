"""An event of mParticle's made of one of Pinpoint's: a gateway's, or a finished 3.1 record.

Values stay the bytes they came as. What mParticle has no field for stands below ``data.pinpoint``
under Pinpoint's own name, so that nothing is lost.
"""

import re
from hashlib import blake2b

import msgspec
from msgspec import Raw, Struct

from forwarder.config.connection import Settings
from forwarder.formats import rawjson
from forwarder.formats.across import times
from forwarder.formats.across.mparticle_kinds import CUSTOM, KINDS, SCREEN, Happening
from forwarder.formats.contract import Frame
from forwarder.formats.memo import Memo
from forwarder.formats.mparticle.identity import NO_ID, id_of
from forwarder.formats.pinpoint.timestamps import milliseconds
from forwarder.formats.rawjson import ABSENT

_Object = dict[str, Raw]

OF_THE_APP: tuple[str, ...] = (
    "AppPackageName",
    "AppTitle",
    "AppVersionCode",
    "SdkName",
    "ClientSdkVersion",
)
OF_THE_RECORD: tuple[str, ...] = (
    "application", "client", "device", "endpoint", "client_context", "event_version",
    "awsAccountId",
)  # fmt: skip
"""Members of an event, and of a finished record, that its document's context has."""

FINISHED = {
    "event_type": "EventType",
    "event_timestamp": "Timestamp",
    "attributes": "Attributes",
    "metrics": "Metrics",
    "session": "Session",
}
"""Members of a finished record, as a gateway's event has them."""

_FINISHED_SESSION = {
    "session_id": "Id",
    "start_timestamp": "StartTimestamp",
    "stop_timestamp": "StopTimestamp",
}


class Occasion(Struct, frozen=True, gc=False):
    """What the events of one context have in common.

    ``whose`` tells app and endpoint apart from all others: ids are hashes that begin with it.
    ``numbers`` is such a hash, begun for the ids of events. ``location`` is a member of ``data``,
    complete or empty: where the endpoint is. By ``network`` it takes push messages, by ``token``,
    a JSON value; each empty where it is not told.
    """

    whose: bytes
    numbers: "blake2b"
    location: bytes
    network: bytes
    token: bytes

    @property
    def push(self) -> bytes:
        """Return the members of ``data`` that tell how push messages come; perhaps none."""
        if not self.network:
            return b""
        network = b'"network":"%b"' % self.network
        return b'"push_message_token":%b,%b' % (self.token, network) if self.token else network


def occasion(
    app: bytes, endpoint: bytes, location: bytes, network: bytes, token: bytes
) -> Occasion:
    """Return the occasion of an endpoint; both ids are JSON values."""
    app, endpoint = rawjson.name_token(app), rawjson.name_token(endpoint)
    whose = b"%d:%b%d:%b" % (len(app), app, len(endpoint), endpoint)
    numbers = blake2b(whose + b"e", digest_size=_ID_BYTES)
    return Occasion(whose, numbers, location, network, token)


class OccasionFrame(Frame, frozen=True, gc=False):
    """A frame, and what all events of its context have in common."""

    where: Occasion


class _Sent(Struct, forbid_unknown_fields=True, gc=False):
    """An event of a gateway that has no member, and none of a type, that it should not have."""

    EventId: Raw
    EventType: Raw
    Timestamp: str
    AppPackageName: Raw = ABSENT
    AppTitle: Raw = ABSENT
    AppVersionCode: Raw = ABSENT
    ClientSdkVersion: Raw = ABSENT
    SdkName: Raw = ABSENT
    Attributes: dict[str, Raw] | None = None
    Metrics: dict[str, Raw] | None = None
    Session: Raw = ABSENT


class _Session(Struct, frozen=True, gc=False):
    """What an event says of its session: members of ``data``, and what is told of its times."""

    members: bytes
    start: bytes = b""
    stop: bytes = b""
    duration: bytes = b""


_EVENT = (
    b'{"data":{"timestamp_unixtime_ms":%d,%b,"source_message_id":%b%b%b,%b'
    b'"custom_attributes":%b},"event_type":"%b"}'
)
_ESCAPED = re.compile(rb"\\u00[467]")
"""A Latin letter that is written as an escape: perhaps of a name that is looked for."""

_ID_BYTES = 8
_READ = msgspec.json.Decoder(_Sent).decode
_ENCODE = msgspec.json.Encoder().encode
_NO_VALUES: _Object = {}
_NO_SESSION = _Session(b"")
_MEMO = 4096


class MParticleEvents:
    """Renders events by the settings of one connection. Caller: the maker of its documents.

    It remembers sessions that it has seen.
    """

    def __init__(self, settings: Settings) -> None:
        """Compile the settings; ids are quoted, or numbers."""
        self._id = b'"%d"' if settings.int64_as_string else b"%d"
        self._event_id = b'"event_id":' + self._id
        kinds = KINDS | dict.fromkeys(settings.screen_view_event_types, SCREEN)
        self._kinds = {rawjson.quote(name): kind for name, kind in kinds.items()}
        self._sessions: Memo[bytes, _Session] = Memo(_MEMO)

    def render(self, frame: Frame, event: bytes) -> bytes:
        """Return the event as mParticle writes it; raises what is no object raises.

        What an event should be is written at once; any other is taken apart member by member, and
        where both would do they say the same.
        """
        if not isinstance(frame, OccasionFrame):
            raise TypeError
        where = frame.where
        try:
            sent = _READ(event)
        except msgspec.DecodeError:
            return self._render_odd(event, where)
        kind, own, time = bytes(sent.EventType), bytes(sent.EventId), milliseconds(sent.Timestamp)
        raw = bytes(sent.Session)
        session = self._sessions.get(where.whose + raw) or self._new_session(raw, where)
        if (
            time is None
            or session is None
            or kind[:1] != b'"'
            or own[:1] != b'"'
            or event.count(b'"EventId"') > 1  # the first is the gateway's
            or (b"\\" in event and (b"\\" in kind or b"\\" in own or _ESCAPED.search(event)))
        ):
            return self._render_odd(event, where)
        attributes, metrics = sent.Attributes or _NO_VALUES, sent.Metrics or _NO_VALUES
        known = self._kinds.get(kind)
        if known is None:
            event_type = b"custom_event"
            told = b'"event_name":%b,"custom_event_type":"other",' % kind
        else:
            event_type = known.event_type
            parts = session.start, session.stop, session.duration
            told = known.tell(
                Happening(kind, attributes, metrics, b"%d" % time, *parts, where.push)
            )
            told = told + b"," if told else told
        if session.duration and event_type != b"session_end":
            told += b'"session_duration_ms":%b,' % session.duration
        try:
            values = _ENCODE(_joined(attributes, metrics))
        except UnicodeEncodeError:
            return self._render_odd(event, where)
        state = where.numbers.copy()
        state.update(own)
        return _EVENT % (
            time,
            self._event_id % (int.from_bytes(state.digest()) >> 1 or 1),
            own,
            session.members,
            where.location,
            told,
            values,
            event_type,
        )

    def _new_session(self, raw: bytes, where: Occasion) -> _Session | None:
        """Return what an event says of its session; None: it has to be looked at for itself."""
        if not raw:
            return _NO_SESSION
        fields = {"Session": Raw(raw)}
        found, key = self._session(fields, where), where.whose + raw
        return None if fields else self._sessions.keep(key, found, 2 * len(key))

    def _render_odd(self, event: bytes, where: Occasion) -> bytes:
        """Return an event of any members; what none of mParticle's stands for stays by its name."""
        fields, told = rawjson.fields(event), OF_THE_APP
        if "EventType" not in fields and "event_type" in fields:
            _as_from_gateway(fields)
            told = OF_THE_RECORD
        for name in told:
            fields.pop(name, None)
        kind = _taken_text(fields, "EventType")
        members: list[bytes] = []
        if time := _taken(fields, "Timestamp"):
            members.append(b'"timestamp_unixtime_ms":%b' % time)
        own = rawjson.first_member(event, "EventId") if "EventId" in fields else ABSENT
        fields.pop("EventId", None)
        token = rawjson.name_token(bytes(own)) if own is not ABSENT else b"=" + event
        members.append(self._event_id % _number(where, b"e" + token))
        if own is not ABSENT:
            members.append(b'"source_message_id":%b' % own)
        session = self._session(fields, where)
        attributes, metrics = _object(fields, "Attributes"), _object(fields, "Metrics")
        known = self._kinds.get(kind, CUSTOM)
        parts = session.start, session.stop, session.duration
        more = known.tell(Happening(kind, attributes, metrics, time, *parts, where.push))
        members[-1] += session.members + where.location
        if more:
            members.append(more)
        if known.event_type != b"session_end" and session.duration:
            members.append(b'"session_duration_ms":%b' % session.duration)
        values = rawjson.encode_object(_joined(attributes, metrics))
        members.append(b'"custom_attributes":%b' % values)
        if fields:
            members.append(b'"pinpoint":%b' % rawjson.encode_object(fields))
        return b'{"data":{%b},"event_type":"%b"}' % (b",".join(members), known.event_type)

    def _session(self, fields: _Object, where: Occasion) -> _Session:
        """Take out what an event says of its session; what is odd of it stays."""
        session = _object(fields, "Session")
        if not session:
            return _NO_SESSION
        members: list[bytes] = [b""]
        own = bytes(session.get("Id", ABSENT))
        if (name := id_of(own)) != NO_ID:
            del session["Id"]
            members.append(b'"session_id":' + self._id % _number(where, b"s" + name))
            members.append(b'"session_uuid":%b' % own)
        start, stop = _taken(session, "StartTimestamp"), _taken(session, "StopTimestamp")
        if start:
            members.append(b'"session_start_unixtime_ms":%b' % start)
        if stop:
            members.append(b'"session_stop_unixtime_ms":%b' % stop)
        duration = bytes(session.get("Duration", ABSENT))
        if times.is_time(duration):
            del session["Duration"]
        else:
            duration = b""
        if session:
            fields["Session"] = Raw(rawjson.encode_object(session))
        return _Session(b",".join(members), start, stop, duration)


def _as_from_gateway(fields: _Object) -> None:
    """Give the members of a finished record the names that a gateway's event has."""
    for name, other in FINISHED.items():
        if name in fields:
            fields[other] = fields.pop(name)
    if bytes(session := fields.get("Session", ABSENT))[:1] == b"{":
        renamed = {_FINISHED_SESSION.get(k, k): v for k, v in rawjson.fields(session).items()}
        fields["Session"] = Raw(rawjson.encode_object(renamed))


def _object(fields: _Object, name: str) -> _Object:
    """Take out a member that is an object, or null; anything else stays, and there is none."""
    raw = bytes(fields.get(name, ABSENT))
    if raw[:1] == b"{":
        del fields[name]
        return rawjson.fields(raw)
    if raw == rawjson.NULL:
        del fields[name]
    return {}


def _taken(fields: _Object, name: str) -> bytes:
    """Take out a member that is a time; anything else stays."""
    time = times.read(fields.get(name, ABSENT))
    if time:
        del fields[name]
    return time


def _taken_text(fields: _Object, name: str) -> bytes:
    """Take out a member that is a text, as the token of what it says; anything else stays."""
    raw = bytes(fields.get(name, ABSENT))
    if raw[:1] != b'"':
        return b""
    del fields[name]
    return rawjson.name_token(raw)


def _number(where: Occasion, name: bytes) -> int:
    """Return the 63 bits that stand for a name among those of an endpoint, never 0."""
    digest = blake2b(where.whose + name, digest_size=_ID_BYTES).digest()
    return int.from_bytes(digest) >> 1 or 1


def _joined(attributes: _Object, metrics: _Object) -> _Object:
    """Return all values by name; a metric whose name is taken is ``metrics.`` and its name."""
    if not metrics:
        return attributes
    both = attributes | metrics
    if len(both) == len(attributes) + len(metrics):
        return both
    found = dict(attributes)
    for name, raw in metrics.items():
        free = name
        while free in found:
            free = f"metrics.{free}"
        found[free] = raw
    return found

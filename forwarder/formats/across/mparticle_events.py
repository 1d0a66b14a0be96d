"""An event of mParticle's made of one of Pinpoint's: a gateway's, or a finished 3.1 record.

Values stay the bytes they came as. What mParticle has no field for stands below ``data.pinpoint``
under Pinpoint's own name, so that nothing is lost.
"""

import re
from collections.abc import Callable, Mapping
from decimal import Context, Decimal
from hashlib import blake2b

from msgspec import Raw, Struct

from forwarder.config.connection import Settings
from forwarder.formats import rawjson
from forwarder.formats.across import times
from forwarder.formats.mparticle.identity import NO_ID, id_of
from forwarder.formats.rawjson import ABSENT

_Object = dict[str, Raw]
_Values = Mapping[str, Raw]

OF_THE_CONTEXT = (
    "AppPackageName", "AppTitle", "AppVersionCode", "SdkName", "ClientSdkVersion",
    "application", "client", "device", "endpoint", "client_context", "event_version",
    "awsAccountId",
)  # fmt: skip
"""Members of an event that say whose it is: the document's context has them."""

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
_EMPTY = frozenset({b"", rawjson.NULL, b"{}"})

_DECIMAL = re.compile(rb"-?[0-9]{1,30}(?:\.[0-9]{1,30})?")
_EXACT = Context(prec=130)
"""Digits of a product of two ``_DECIMAL``, and more."""

_SCREEN_NAMES = ("screen_name", "screenName", "name", "url")
"""Attributes that name a page, in the order in which they are asked; Amplify JS sends ``url``."""


class Occasion(Struct, frozen=True, gc=False):
    """What the events of one context have in common.

    ``whose`` is a hash begun with app and endpoint, which ids continue. ``location`` and ``push``
    are members of ``data``, complete or empty: where the endpoint is, and by which token and
    network it takes push messages.
    """

    whose: "blake2b"
    location: bytes
    push: bytes


def hash_of(app: bytes, endpoint: bytes) -> "blake2b":
    """Return the hash that the ids of an endpoint's events and sessions continue."""
    return blake2b(b"%d:%b%d:%b" % (len(app), app, len(endpoint), endpoint), digest_size=8)


class Happening(Struct, gc=False):
    """What kinds look at to tell what an event says: its parts, and its time in milliseconds."""

    kind: bytes
    attributes: _Values
    metrics: _Values
    time: bytes
    start: bytes
    stop: bytes
    duration: bytes
    push: bytes


_Tell = Callable[[Happening], bytes]
"""Returns members of ``data``, each but the first with a comma ahead; empty: none."""


class _Kind(Struct, frozen=True, gc=False):
    """``event_type`` of mParticle, and the members of ``data`` that come with it."""

    event_type: bytes
    tell: _Tell


def _constant(members: bytes) -> _Tell:
    return lambda _: members


def _session_end(event: Happening) -> bytes:
    """Tell how long the session was: as it says, else from its ends, or the event's own time."""
    took = event.duration
    if not took and event.start and (end := event.stop or event.time):
        took = b"%d" % (int(end) - int(event.start))
    return b'"session_duration_ms":%b' % took if took else b""


def _screen_view(event: Happening) -> bytes:
    found = (event.attributes.get(name, ABSENT) for name in _SCREEN_NAMES)
    named = next((one for one in map(bytes, found) if one[:1] == b'"' and one != NO_ID), event.kind)
    return b'"screen_name":%b,"activity_type":%b' % (named, event.kind)


def _custom_event(event: Happening) -> bytes:
    named = b'"event_name":%b,' % event.kind if event.kind else b""
    return named + b'"custom_event_type":"other"'


def _push(kind: bytes, behavior: bytes, state: bytes = b"") -> _Tell:
    """Return what tells of a push message; ``state``: the application's, where it is known."""
    members = b'"push_message_type":"%b"' % kind
    if behavior:
        members += b',"push_message_behavior":"%b"' % behavior
    if state:
        members += b',"application_state":"%b"' % state
    return lambda event: b"%b,%b" % (event.push, members) if event.push else members


def _purchase(event: Happening) -> bytes:
    """Tell of a purchase as a product action; what is not sent is left out."""
    told, counted = event.attributes, event.metrics
    price, quantity = counted.get("_item_price", ABSENT), counted.get("_quantity", ABSENT)
    amount = _times(bytes(price), bytes(quantity))
    product = _members(
        ("id", told.get("_product_id", ABSENT)),
        ("price", price),
        ("quantity", quantity),
        ("total_product_amount", amount),
    )
    action = _members(
        ("transaction_id", told.get("_transaction_id", ABSENT)),
        ("affiliation", told.get("_store", ABSENT)),
        ("total_amount", amount),
    )
    members = b'"product_action":{"action":"purchase",%b"products":[%b]}' % (
        action + b"," if action else b"",
        b"{%b}" % product if product else b"",
    )
    currency = _members(("currency_code", told.get("_currency", ABSENT)))
    return b"%b,%b" % (members, currency) if currency else members


def _times(price: bytes, quantity: bytes) -> Raw:
    """Return the exact product of two numbers; ``ABSENT`` where one of them is none, or odd."""
    if not _DECIMAL.fullmatch(price) or not _DECIMAL.fullmatch(quantity):
        return ABSENT
    whole = _EXACT.multiply(Decimal(price.decode()), Decimal(quantity.decode()))
    return Raw(format(whole, "f").encode())


def _members(*named: tuple[str, Raw]) -> bytes:
    """Return members of an object, those left out that are not there."""
    return b",".join(
        [b'"%b":%b' % (name.encode(), raw) for name, raw in named if bytes(raw) not in _EMPTY]
    )


_CUSTOM = _Kind(b"custom_event", _custom_event)
_SCREEN = _Kind(b"screen_view", _screen_view)
_OPENED = _Kind(b"push_reaction", _push(b"action", b"DirectOpen"))
_SENT = _Kind(b"push_message", _push(b"sent", b""))
_IN_FRONT = _Kind(b"push_message", _push(b"received", b"Received", b"foreground"))
_BEHIND = _Kind(b"push_message", _push(b"received", b"Received", b"background"))

KINDS: dict[str, _Kind] = {
    "_session.start": _Kind(b"session_start", _constant(b"")),
    "_session.stop": _Kind(b"session_end", _session_end),
    "_session.pause": _Kind(
        b"application_state_transition",
        _constant(b'"application_transition_type":"application_background"'),
    ),
    "_session.resume": _Kind(
        b"application_state_transition",
        _constant(b'"application_transition_type":"application_foreground"'),
    ),
    "_monetization.purchase": _Kind(b"commerce_event", _purchase),
    "_userauth.sign_in": _Kind(b"profile", _constant(b'"profile_event_type":"login"')),
    "_userauth.sign_up": _Kind(b"profile", _constant(b'"profile_event_type":"signup"')),
    "_userauth.sign_out": _Kind(b"profile", _constant(b'"profile_event_type":"logout"')),
    "_campaign.opened_notification": _OPENED,
    "_campaign.received_foreground": _IN_FRONT,
    "_campaign.received_background": _BEHIND,
    "_campaign.send": _SENT,
    "_journey.opened_notification": _OPENED,
    "_journey.received_foreground": _IN_FRONT,
    "_journey.received_background": _BEHIND,
    "_journey.send": _SENT,
}
"""EventType -> what it is in mParticle's terms; any other is a custom event of that name."""


class MParticleEvents:
    """Renders events by the settings of one connection. Caller: the maker of its documents."""

    def __init__(self, settings: Settings) -> None:
        """Compile the settings; ids are quoted, or numbers."""
        self._id = b'"%d"' if settings.int64_as_string else b"%d"
        kinds = KINDS | dict.fromkeys(settings.screen_view_event_types, _SCREEN)
        self._kinds = {rawjson.quote(name): kind for name, kind in kinds.items()}

    def render(self, event: bytes, occasion: Occasion) -> bytes:
        """Return the event as mParticle writes it; raises what is no object raises."""
        fields = rawjson.fields(event)
        if "EventType" not in fields and "event_type" in fields:
            _as_from_gateway(fields)
        for name in OF_THE_CONTEXT:
            fields.pop(name, None)
        told = bytes(fields.pop("EventType", ABSENT))
        kind = rawjson.name_token(told) if told[:1] == b'"' else b""
        if told and not kind:
            fields["EventType"] = Raw(told)
        members: list[bytes] = []
        time = self._time(fields, members)
        self._identity(fields, event, occasion, members)
        session = self._session(fields, occasion, members)
        attributes, metrics = _object(fields, "Attributes"), _object(fields, "Metrics")
        if occasion.location:
            members.append(occasion.location)
        known = self._kinds.get(kind, _CUSTOM)
        told = known.tell(Happening(kind, attributes, metrics, time, *session, occasion.push))
        if told:
            members.append(told)
        if known.event_type != b"session_end" and session[2]:
            members.append(b'"session_duration_ms":%b' % session[2])
        members.append(b'"custom_attributes":%b' % joined(attributes, metrics))
        if fields:
            members.append(b'"pinpoint":%b' % rawjson.encode_object(fields))
        return b'{"data":{%b},"event_type":"%b"}' % (b",".join(members), known.event_type)

    def _time(self, fields: _Object, members: list[bytes]) -> bytes:
        """Add when it happened, in milliseconds; what is no time stays where it is."""
        time = times.read(fields.get("Timestamp", ABSENT))
        if time:
            del fields["Timestamp"]
            members.append(b'"timestamp_unixtime_ms":%b' % time)
        return time

    def _identity(
        self, fields: _Object, event: bytes, occasion: Occasion, members: list[bytes]
    ) -> None:
        """Add its ids: of its own, or of all it says where it has none."""
        own = fields.pop("EventId", ABSENT)
        name = rawjson.name_token(bytes(own)) if own is not ABSENT else b"=" + event
        members.append(b'"event_id":' + self._id % _number(occasion.whose, b"e" + name))
        if own is not ABSENT:
            members.append(b'"source_message_id":%b' % own)

    def _session(
        self, fields: _Object, occasion: Occasion, members: list[bytes]
    ) -> tuple[bytes, bytes, bytes]:
        """Add what it says of its session; return when that began and ended, and its length."""
        session = _object(fields, "Session")
        if not session:
            return b"", b"", b""
        own = bytes(session.get("Id", ABSENT))
        if (name := id_of(own)) != NO_ID:
            del session["Id"]
            members.append(b'"session_id":' + self._id % _number(occasion.whose, b"s" + name))
            members.append(b'"session_uuid":%b' % own)
        start, stop = _taken(session, "StartTimestamp"), _taken(session, "StopTimestamp")
        if start:
            members.append(b'"session_start_unixtime_ms":%b' % start)
        if stop:
            members.append(b'"session_stop_unixtime_ms":%b' % stop)
        duration = session.get("Duration", ABSENT)
        if times.is_time(bytes(duration)):
            del session["Duration"]
        else:
            duration = ABSENT
        if session:
            fields["Session"] = Raw(rawjson.encode_object(session))
        return start, stop, bytes(duration)


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


def _number(whose: "blake2b", name: bytes) -> int:
    """Return the 63 bits that stand for a name among those of an endpoint, never 0."""
    state = whose.copy()
    state.update(name)
    return int.from_bytes(state.digest()) >> 1 or 1


def joined(attributes: _Object, metrics: _Object) -> bytes:
    """Return both as one object; a metric whose name is taken is ``metrics.`` and its name."""
    if not metrics:
        return rawjson.encode_object(attributes)
    for name, raw in metrics.items():
        free = name
        while free in attributes:
            free = f"metrics.{free}"
        attributes[free] = raw
    return rawjson.encode_object(attributes)

"""What an event of Pinpoint's is in mParticle's terms, by its type."""

import re
from collections.abc import Callable, Mapping
from decimal import Context, Decimal

from msgspec import Raw, Struct

from forwarder.formats import rawjson
from forwarder.formats.mparticle.identity import NO_ID
from forwarder.formats.rawjson import ABSENT

Values = Mapping[str, Raw]
"""Attributes or metrics by name."""

_EMPTY = frozenset({b"", rawjson.NULL, b"{}"})

_DECIMAL = re.compile(rb"-?[0-9]{1,30}(?:\.[0-9]{1,30})?")
_EXACT = Context(prec=130)
"""Digits of a product of two ``_DECIMAL``, and more."""

_SCREEN_NAMES = ("screen_name", "screenName", "name", "url")
"""Attributes that name a page, in the order in which they are asked; Amplify JS sends ``url``."""


class Happening(Struct, gc=False):
    """What kinds look at to tell what an event says: its parts, and its time in milliseconds."""

    kind: bytes
    attributes: Values
    metrics: Values
    time: bytes
    start: bytes
    stop: bytes
    duration: bytes
    push: bytes


_Tell = Callable[[Happening], bytes]
"""Returns members of ``data``, each but the first with a comma ahead; empty: none."""


class EventKind(Struct, frozen=True, gc=False):
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


CUSTOM = EventKind(b"custom_event", _custom_event)
SCREEN = EventKind(b"screen_view", _screen_view)
_OPENED = EventKind(b"push_reaction", _push(b"action", b"DirectOpen"))
_SENT = EventKind(b"push_message", _push(b"sent", b""))
_IN_FRONT = EventKind(b"push_message", _push(b"received", b"Received", b"foreground"))
_BEHIND = EventKind(b"push_message", _push(b"received", b"Received", b"background"))

KINDS: dict[str, EventKind] = {
    "_session.start": EventKind(b"session_start", _constant(b"")),
    "_session.stop": EventKind(b"session_end", _session_end),
    "_session.pause": EventKind(
        b"application_state_transition",
        _constant(b'"application_transition_type":"application_background"'),
    ),
    "_session.resume": EventKind(
        b"application_state_transition",
        _constant(b'"application_transition_type":"application_foreground"'),
    ),
    "_monetization.purchase": EventKind(b"commerce_event", _purchase),
    "_userauth.sign_in": EventKind(b"profile", _constant(b'"profile_event_type":"login"')),
    "_userauth.sign_up": EventKind(b"profile", _constant(b'"profile_event_type":"signup"')),
    "_userauth.sign_out": EventKind(b"profile", _constant(b'"profile_event_type":"logout"')),
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

"""What a record of Pinpoint's says of an event of mParticle's: type, time, session and values."""

import re
from collections.abc import Callable
from decimal import Context, Decimal

from msgspec import Raw, Struct

from forwarder.config.connection import Settings
from forwarder.formats import rawjson
from forwarder.formats.across import pinpoint_endpoint
from forwarder.formats.across.flatten import Flat
from forwarder.formats.across.times import is_time
from forwarder.formats.mparticle.identity import NO_ID, id_of
from forwarder.formats.rawjson import ABSENT

_Object = dict[str, Raw]

_DECIMAL = re.compile(rb'"?(-?(?:0|[1-9][0-9]{0,29})(?:\.[0-9]{1,30})?)"?')
_EXACT = Context(prec=200)
"""Digits of a sum of products of two ``_DECIMAL``, and more."""


class EventRecord(Struct, gc=False):
    """What a record says of one event, as JSON; ``location``: where it happened, if that is told.

    ``kind`` is the event's type as text, ``time`` milliseconds, empty where it does not tell any.
    """

    kind: str
    time: bytes
    session: bytes
    attributes: bytes
    metrics: bytes
    location: bytes


_Name = Callable[[_Object], str]
"""Returns Pinpoint's name for an event with this ``data``; empty: there is none."""


def _transition(data: _Object) -> str:
    return {
        "application_background": "_session.pause",
        "application_foreground": "_session.resume",
    }.get(_told(data, "application_transition_type"), "")


def _profile(data: _Object) -> str:
    return {
        "login": "_userauth.sign_in",
        "signup": "_userauth.sign_up",
        "logout": "_userauth.sign_out",
    }.get(_told(data, "profile_event_type"), "")


def _push_message(data: _Object) -> str:
    kind = _told(data, "push_message_type")
    if kind == "received":
        front = _told(data, "application_state") == "foreground"
        return _sender(data) + ("received_foreground" if front else "received_background")
    return {"sent": _sender(data) + "send", "action": _push_reaction(data)}.get(kind, "")


def _push_reaction(data: _Object) -> str:
    return _sender(data) + "opened_notification"


def _sender(data: _Object) -> str:
    """Return how types of messages begin: a journey's tell its id."""
    custom = bytes(data.get("custom_attributes", ABSENT))
    told = rawjson.fields(custom) if custom[:1] == b"{" else {}
    return "_journey." if "journey_id" in told else "_campaign."


def _commerce(data: _Object) -> str:
    action = bytes(data.get("product_action", ABSENT))
    if action[:1] != b"{" or _told(rawjson.fields(action), "action") != "purchase":
        return ""
    return "_monetization.purchase"


def _custom(data: _Object) -> str:
    return _told(data, "event_name")


NAMES: dict[str, _Name] = {
    "session_start": lambda _: "_session.start",
    "session_end": lambda _: "_session.stop",
    "application_state_transition": _transition,
    "profile": _profile,
    "push_message": _push_message,
    "push_reaction": _push_reaction,
    "commerce_event": _commerce,
    "custom_event": _custom,
}
"""event_type -> what Pinpoint calls the event; any other keeps its type."""


def _told(fields: _Object, name: str) -> str:
    """Return a member that is a text, else an empty one."""
    value = bytes(fields.get(name, ABSENT))
    return (rawjson.text_of(value) or "") if value[:1] == b'"' else ""


class PinpointEvents:
    """Reads events for the records of one connection. Caller: the maker of its documents."""

    def __init__(self, settings: Settings) -> None:
        """Compile the settings: the first type of screen views is what a screen view becomes."""
        views = settings.screen_view_event_types
        self._names = NAMES | ({"screen_view": lambda _: views[0]} if views else {})

    def read(self, event: bytes) -> EventRecord:
        """Return what a record says of an event; raises what is no object raises."""
        fields = rawjson.fields(event)
        data = pinpoint_endpoint.taken(fields, "data")
        kind = _told(fields, "event_type")
        if kind:
            del fields["event_type"]
        name = self._names[kind](data) if kind in self._names else ""
        if name and kind == "custom_event":
            del data["event_name"]
        time = _time(data, "timestamp_unixtime_ms")
        session = _session(data, time, ending=kind == "session_end")
        location = pinpoint_endpoint.place(data)
        flat = Flat()
        flat.add_own(pinpoint_endpoint.taken(data, "custom_attributes"))
        if name == "_monetization.purchase":
            _add_purchase(data, flat)
        flat.add_all("", data)
        flat.add_all("", fields)
        return EventRecord(
            name or kind,
            time,
            session,
            rawjson.encode_object(flat.attributes),
            rawjson.encode_object(flat.metrics),
            location,
        )


def _time(data: _Object, name: str) -> bytes:
    """Take out a time in milliseconds, a number or its digits as a text; anything else stays."""
    value = bytes(data.get(name, ABSENT)).strip(b'"')
    if not is_time(value):
        return b""
    del data[name]
    return value


def _session(data: _Object, time: bytes, *, ending: bool) -> bytes:
    """Take out what there is of a session, and return it as a record's.

    Its id is the UUID where it has both, and then the number is an attribute. A session that ends
    stops when it has lasted as long as it says, else at the time of its event.
    """
    name = b""
    for key in ("session_uuid", "session_id"):
        raw = bytes(data.get(key, ABSENT))
        if not name and id_of(raw) != NO_ID:
            del data[key]
            name = raw if raw[:1] == b'"' else b'"%b"' % raw
    if not name:
        return b"{}"
    start = _time(data, "session_start_unixtime_ms")
    stop = _time(data, "session_stop_unixtime_ms")
    if ending and not stop:
        took = bytes(data.get("session_duration_ms", ABSENT))
        stop = b"%d" % (int(start) + int(took)) if start and is_time(took) else time
    members = [b'"session_id":%b' % name]
    if start:
        members.append(b'"start_timestamp":%b' % start)
    if stop:
        members.append(b'"stop_timestamp":%b' % stop)
    return b"{%b}" % b",".join(members)


def _add_purchase(data: _Object, flat: Flat) -> None:
    """Add what Pinpoint's SDKs send with a purchase, unless its sender gave these names a value.

    One product is told as it is. Several are one purchase, for one event is one record: of all ids
    in order, one by quantity, at the exact sum of all prices by their quantities. Their own values
    stand beside it by path.
    """
    action = rawjson.fields(data["product_action"])
    several = bytes(action.get("products", ABSENT))
    elements = rawjson.elements(several) if several[:1] == b"[" else []
    products = [rawjson.fields(one) for one in elements if bytes(one)[:1] == b"{"]
    ids = [text for one in products if (text := rawjson.text_of(bytes(one.get("id", ABSENT))))]
    told: _Object = {
        "_currency": data.get("currency_code", ABSENT),
        "_transaction_id": action.get("transaction_id", ABSENT),
        "_store": action.get("affiliation", ABSENT),
    }
    if ids:
        told["_product_id"] = Raw(rawjson.quote(",".join(ids)))
    for name, raw in told.items():
        if found := pinpoint_endpoint.text(raw):
            flat.attributes.setdefault(name, Raw(found))
    for name, number in zip(("_quantity", "_item_price"), _price(products, action), strict=True):
        if number:
            flat.metrics.setdefault(name, Raw(number))


def _price(products: list[_Object], action: _Object) -> tuple[bytes, bytes]:
    """Return a quantity and the price of one, whose product is what the products cost."""
    priced = [(_decimal(one, "price"), _decimal(one, "quantity") or b"1") for one in products]
    if len(priced) == 1 and priced[0][0]:
        return priced[0][1], priced[0][0]
    if priced and all(price for price, _ in priced):
        costs = (_EXACT.multiply(Decimal(p.decode()), Decimal(q.decode())) for p, q in priced)
        whole = Decimal(0)
        for cost in costs:
            whole = _EXACT.add(whole, cost)
        return b"1", format(whole, "f").encode()
    total = _decimal(action, "total_amount")
    return (b"1", total) if total else (b"", b"")


def _decimal(fields: _Object, name: str) -> bytes:
    """Return the digits of a number, or of one written as a text; empty: it is none, or odd."""
    found = _DECIMAL.fullmatch(bytes(fields.get(name, ABSENT)))
    return found[1] if found else b""

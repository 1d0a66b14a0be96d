"""Finished records of the stream (3.1): an upload of one event, whose bytes they are.

Other systems write them (campaigns, e-mail, SMS), and AWS's replacement clients something close
(``envelope``), which becomes one first. What stands for their context is told of the record itself.
"""

from typing import NamedTuple

from msgspec import Raw

from forwarder.formats import rawjson
from forwarder.formats.pinpoint import envelope
from forwarder.formats.pinpoint.device import demographic_of, members, renamed
from forwarder.formats.rawjson import ABSENT

_TWICE = (b'"app_id"', b'"client_id"', b'"session_id"')
"""Names that tell whose a record is, where each stands once."""

_TELLING = ("application", "client", "session")

_APPLICATION = {
    "package_name": "AppPackageName",
    "title": "AppTitle",
    "version_code": "AppVersionCode",
}
_SDK = {"name": "SdkName", "version": "ClientSdkVersion"}

_Object = dict[str, Raw]


class Finished(NamedTuple):
    """A record as it is forwarded, and the members of its context."""

    body: bytes
    context: _Object


def is_finished(fields: _Object) -> bool:
    """Tell whether an object is a finished record, or an envelope."""
    return "event_type" in fields and ("event_version" in fields or "event_timestamp" in fields)


def read(fields: _Object, value: bytes, time: int) -> Finished:
    """Take a record apart; ``time`` is when it arrived where it does not say so, in milliseconds.

    A key that tells whose it is and stands twice is forwarded as it was read.
    """
    if envelope.is_envelope(fields):
        fields = envelope.finished(fields, time)
        body = rawjson.compact(rawjson.encode_object(fields))
    elif b"\\u00" in value or any(value.count(name) > 1 for name in _TWICE):
        body = _read_once(fields, value)
    else:
        body = value.strip(b" \t\r\n")
    return Finished(body, _context(fields))


def one_line(record: bytes) -> bytes:
    """Return a finished record as its own bytes, unless it has line ends between its values."""
    return rawjson.compact(record) if b"\n" in record or b"\r" in record else record


def _read_once(fields: _Object, value: bytes) -> bytes:
    """Return the record with each key once of those objects that tell whose it is."""
    twice = False
    for name in _TELLING:
        raw = bytes(fields.get(name, ABSENT))
        if raw[:1] == b"{" and rawjson.repeats_key(raw):
            fields[name] = Raw(rawjson.encode_object(rawjson.fields(raw)))
            twice = True
    return rawjson.encode_object(fields) if twice else value.strip(b" \t\r\n")


def _context(fields: _Object) -> _Object:
    """Return what a record tells of its endpoint and app, under the names of a context."""
    context: _Object = {}
    application, client = members(fields, "application"), members(fields, "client")
    if "app_id" in application:
        context["ApplicationId"] = application["app_id"]
    if "client_id" in client:
        context["EndpointId"] = client["client_id"]
    arrival = fields.get("arrival_timestamp", ABSENT)
    if bytes(arrival).isdigit():
        context["ArrivalTimestamp"] = arrival
    if (endpoint := _endpoint(fields, application)) is not None:
        context["Endpoint"] = endpoint
    named = renamed(application, _APPLICATION) | renamed(members(application, "sdk"), _SDK)
    if named:
        context["Application"] = Raw(rawjson.encode_object(named))
    return context


def _endpoint(fields: _Object, application: _Object) -> Raw | None:
    """Return the endpoint of a record; where it has no ``Demographic``, that of its device."""
    endpoint = fields.get("endpoint", ABSENT)
    if bytes(endpoint)[:1] != b"{":
        endpoint = _custom_endpoint(fields)
    known = rawjson.fields(endpoint) if endpoint is not ABSENT else {}
    if "Demographic" in known:
        return endpoint
    demographic = demographic_of(members(fields, "device"), application)
    if demographic:
        known["Demographic"] = Raw(rawjson.encode_object(demographic))
        return Raw(rawjson.encode_object(known))
    return None if endpoint is ABSENT else endpoint


def _custom_endpoint(fields: _Object) -> Raw:
    """Return the endpoint that is a text in ``client_context.custom``, ``ABSENT`` for none."""
    raw = bytes(members(members(fields, "client_context"), "custom").get("endpoint", ABSENT))
    if raw[:1] == b"{":
        return Raw(raw)
    text = (rawjson.text_of(raw) if raw[:1] == b'"' else None) or ""
    inner = text.encode(errors="backslashreplace").strip(b" \t\r\n")
    try:
        rawjson.fields(inner)
    except (ValueError, RecursionError):
        return ABSENT
    return Raw(inner)

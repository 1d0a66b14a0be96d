"""Finished records of the stream (3.1), and the envelope of AWS's replacement clients."""

import msgspec
from msgspec import Raw

from forwarder.formats import rawjson
from forwarder.formats.rawjson import ABSENT

_APPLICATION = {
    "package_name": "AppPackageName",
    "title": "AppTitle",
    "version_code": "AppVersionCode",
}
_SDK = {"name": "SdkName", "version": "ClientSdkVersion"}


def is_finished(fields: dict[str, Raw]) -> bool:
    """Tell whether an object is a finished record, or an envelope."""
    return "event_type" in fields and ("event_version" in fields or "event_timestamp" in fields)


def read(fields: dict[str, Raw], value: bytes) -> tuple[bytes, dict[str, Raw]]:
    """Return the record as it is forwarded, and what stands for its context.

    Of that it has what a gateway's record would have: the ids, the endpoint, and of the app what
    events tell of it.
    """
    told: dict[str, Raw] = {}
    application, client = _object(fields, "application"), _object(fields, "client")
    if "app_id" in application:
        told["ApplicationId"] = application["app_id"]
    if "client_id" in client:
        told["EndpointId"] = client["client_id"]
    if endpoint := _endpoint(fields, application):
        told["Endpoint"] = Raw(endpoint)
    sdk = _object(application, "sdk")
    named = {_SDK[name]: raw for name, raw in sdk.items() if name in _SDK}
    named |= {_APPLICATION[name]: raw for name, raw in application.items() if name in _APPLICATION}
    if named:
        told["Application"] = Raw(rawjson.encode_object(named))
    return value.strip(b" \t\r\n"), told


def _endpoint(fields: dict[str, Raw], application: dict[str, Raw]) -> bytes:
    """Return the endpoint, in whichever form it is there; b"": nothing tells of it.

    Where it says nothing of the device, the record's own members do.
    """
    whole = bytes(fields.get("endpoint", ABSENT))
    if whole[:1] != b"{":
        custom = _object(_object(fields, "client_context"), "custom")
        text = rawjson.text_of(bytes(custom.get("endpoint", ABSENT))) or ""
        whole = text.strip().encode(errors="backslashreplace")
    try:
        told = rawjson.fields(whole) if whole[:1] == b"{" else {}
    except (ValueError, RecursionError):  # a text may be anything
        told = {}
    if "Demographic" in told:
        return whole
    device = _object(fields, "device")
    platform = _object(device, "platform")
    found = {
        "AppVersion": application.get("version_name", ABSENT),
        "Locale": _object(device, "locale").get("code", ABSENT),
        "Make": device.get("make", ABSENT),
        "Model": device.get("model", ABSENT),
        "Platform": platform.get("name", ABSENT),
        "PlatformVersion": platform.get("version", ABSENT),
    }
    known = {name: raw for name, raw in found.items() if raw is not ABSENT}
    if known:
        told["Demographic"] = Raw(rawjson.encode_object(known))
    return rawjson.encode_object(told) if told else b""


def one_line(record: bytes) -> bytes:
    """Return a finished record as its own bytes, without line ends between its values."""
    if b"\n" in record or b"\r" in record:
        return msgspec.json.format(record, indent=-1)
    return record


def _object(fields: dict[str, Raw], name: str) -> dict[str, Raw]:
    raw = bytes(fields.get(name, ABSENT))
    return rawjson.fields(raw) if raw[:1] == b"{" else {}

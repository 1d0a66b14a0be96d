"""What an event and an endpoint have to be: the service model (pinpoint 2016-12-01) and its quotas.

Members the model does not know are passed through, a member that is null counts as absent. Texts
are measured in characters. Messages quote nothing that was sent.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal, TypeVar

import msgspec
import orjson

from forwarder.config.gateway import GatewayLimits
from forwarder.formats import rawjson
from forwarder.formats.pinpoint import timestamps
from forwarder.formats.rawjson import ABSENT
from forwarder.gateway.endpoints.dates import FIRST_MS, LAST_MS, iso_date

MAX_ID_BYTES = 1_024
"""Bytes of an endpoint's or a user's id. Pinpoint names no limit; a store has to index them, and
PostgreSQL indexes 2,704 bytes at most."""

MAX_NESTING = 64
"""Levels within an event; the model has three. What is deeper nobody behind the gateway reads."""

_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
_BRACKETS = re.compile(rb"[\[\]{}]")
_SERVER_KEYS = ("ApplicationId", "CohortId", "CreationDate", "Id")
"""Members of an endpoint that the server sets."""


class InvalidError(ValueError):
    """A rule that is broken; the text is the item's ``Message``, ``status`` its ``StatusCode``."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class _SentSession(msgspec.Struct, gc=False):
    Id: str
    StartTimestamp: str
    StopTimestamp: str | None = None
    Duration: float | None = None


class _SentEvent(msgspec.Struct, gc=False):
    EventType: str
    Timestamp: str
    AppPackageName: str | None = None
    AppTitle: str | None = None
    AppVersionCode: str | None = None
    Attributes: dict[str, str | None] | None = None
    ClientSdkVersion: str | None = None
    Metrics: dict[str, float | None] | None = None
    SdkName: str | None = None
    Session: _SentSession | None = None
    EventId: Any = ABSENT


_Texts = dict[str, list[str | None] | None]


class _SentDemographic(msgspec.Struct, gc=False):
    AppVersion: str | None = None
    Locale: str | None = None
    Make: str | None = None
    Model: str | None = None
    ModelVersion: str | None = None
    Platform: str | None = None
    PlatformVersion: str | None = None
    Timezone: str | None = None


class _SentLocation(msgspec.Struct, gc=False):
    City: str | None = None
    Country: str | None = None
    Latitude: float | None = None
    Longitude: float | None = None
    PostalCode: str | None = None
    Region: str | None = None


class _SentUser(msgspec.Struct, gc=False):
    UserAttributes: _Texts | None = None
    UserId: str | None = None


_Channel = Literal[
    "PUSH", "GCM", "APNS", "APNS_SANDBOX", "APNS_VOIP", "APNS_VOIP_SANDBOX", "ADM", "SMS", "VOICE",
    "EMAIL", "BAIDU", "CUSTOM", "IN_APP",
]  # fmt: skip


class _SentEndpoint(msgspec.Struct, gc=False):
    Address: str | None = None
    Attributes: _Texts | None = None
    ChannelType: _Channel | None = None
    Demographic: _SentDemographic | None = None
    EffectiveDate: str | None = None
    EndpointStatus: Literal["ACTIVE", "INACTIVE"] | None = None
    Location: _SentLocation | None = None
    Metrics: dict[str, float | None] | None = None
    OptOut: Literal["ALL", "NONE"] | None = None
    RequestId: str | None = None
    User: _SentUser | None = None


_read_event = msgspec.json.Decoder(_SentEvent).decode
_read_endpoint = msgspec.json.Decoder(_SentEndpoint).decode
_PLACE = " - at `$"
_Read = TypeVar("_Read")


def check_event(raw: bytes, limits: GatewayLimits, others: frozenset[str] = frozenset()) -> bytes:
    """Return an event's bytes without a member ``EventId``; raises InvalidError.

    ``raw``: a JSON value. ``others``: ids of other apps. A connection that takes one of them takes
    it by ``match.application``, which knows packages, too: no package may be called so.
    """
    if len(raw) > limits.event_bytes:
        message = f"Event size should be less than {limits.event_bytes} bytes."
        raise InvalidError(message, 413)
    _check_nesting(raw)
    event = _typed(_read_event, raw)
    if not event.EventType or "\0" in event.EventType:
        message = "EventType should not be empty."
        raise InvalidError(message)
    if event.AppPackageName in others:
        message = "AppPackageName should not be the id of another app."
        raise InvalidError(message)
    _check_timestamp("Timestamp", event.Timestamp)
    session = event.Session
    if session is not None:
        _check_timestamp("Session.StartTimestamp", session.StartTimestamp)
        if session.StopTimestamp is not None:
            _check_timestamp("Session.StopTimestamp", session.StopTimestamp)
    if event.Attributes:
        _check_attributes(event.Attributes, limits)
    if event.Metrics:
        _check_metrics(event.Metrics, limits)
    if event.EventId is ABSENT:
        return raw
    members = rawjson.fields(raw)
    del members["EventId"]
    return rawjson.encode_object(members)


def read_endpoint(raw: bytes, limits: GatewayLimits) -> dict[str, Any]:
    """Return the members of an endpoint but those that the server sets; raises InvalidError."""
    if len(raw) > limits.endpoint_bytes:
        message = f"Endpoint size should be less than {limits.endpoint_bytes} bytes."
        raise InvalidError(message)
    _check_nesting(raw)
    endpoint = _typed(_read_endpoint, raw)
    if endpoint.Attributes:
        _check_texts("Attributes", endpoint.Attributes, limits)
    user = endpoint.User
    if user is not None:
        if user.UserAttributes:
            _check_texts("UserAttributes", user.UserAttributes, limits)
        if user.UserId:
            check_id("UserId", user.UserId)
    if endpoint.Metrics and max(map(len, endpoint.Metrics)) > limits.attribute_key:
        raise InvalidError(_less("Endpoint metric key length", limits.attribute_key))
    try:
        given: dict[str, Any] = orjson.loads(raw)
    except orjson.JSONDecodeError:  # the decoder above reads over numbers of unknown members
        message = "A number is out of range."
        raise InvalidError(message) from None
    for key in _SERVER_KEYS:
        given.pop(key, None)
    if endpoint.EffectiveDate is not None:
        given["EffectiveDate"] = _comparable_date(endpoint.EffectiveDate)
    return given


def check_id(what: str, text: str) -> None:
    """Raise InvalidError for an id that no store and no key can hold."""
    if not text:
        message = f"{what} should not be empty."
        raise InvalidError(message)
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        size = -1
    if size < 0 or "\0" in text:
        message = f"{what} should be Unicode text without NUL characters."
        raise InvalidError(message)
    if size > MAX_ID_BYTES:
        message = f"{what} should be less than {MAX_ID_BYTES} bytes."
        raise InvalidError(message)


def _check_timestamp(what: str, text: str) -> None:
    """Raise InvalidError unless a text is ISO 8601 with a time, whatever its zone and fraction."""
    if text[10:11] in {"T", "t", " "}:
        try:
            datetime.fromisoformat(text)
        except ValueError:  # to Python a small z is no zone
            if timestamps.milliseconds(text) is not None:
                return
        else:
            return
    message = f"{what} should be a date and time in ISO 8601 format."
    raise InvalidError(message)


def _comparable_date(text: str) -> str:
    """Return a date as endpoints have it; raises InvalidError."""
    _check_timestamp("EffectiveDate", text)
    ms = timestamps.milliseconds(text)
    if ms is None or not FIRST_MS <= ms <= LAST_MS:
        message = "EffectiveDate should be of a year from 1 to 9999."
        raise InvalidError(message)
    return iso_date(ms)


def _check_attributes(attributes: Mapping[str, str | None], limits: GatewayLimits) -> None:
    if len(attributes) > limits.attributes:
        raise InvalidError(_less("Number of attributes per event submitted", limits.attributes))
    if max(map(len, attributes)) > limits.attribute_key:
        raise InvalidError(_less("Attribute key length", limits.attribute_key))
    if max([len(text) for text in attributes.values() if text is not None], default=0) > (
        limits.attribute_value
    ):
        raise InvalidError(_less("Attribute value length", limits.attribute_value))


def _check_metrics(metrics: Mapping[str, float | None], limits: GatewayLimits) -> None:
    if len(metrics) > limits.metrics:
        raise InvalidError(_less("Number of metrics per event submitted", limits.metrics))
    if max(map(len, metrics)) > limits.attribute_key:
        raise InvalidError(_less("Metric key length", limits.attribute_key))


def _check_texts(what: str, texts: _Texts, limits: GatewayLimits) -> None:
    if len(texts) > limits.endpoint_attributes:
        raise InvalidError(_less(f"Number of {what} per endpoint", limits.endpoint_attributes))
    if max(map(len, texts)) > limits.attribute_key:
        raise InvalidError(_less(f"{what} key length", limits.attribute_key))
    for values in texts.values():
        if not values:
            continue
        if len(values) > limits.attribute_values:
            raise InvalidError(_less(f"Number of values of one of {what}", limits.attribute_values))
        if max([len(text) for text in values if text is not None], default=0) > (
            limits.attribute_value
        ):
            raise InvalidError(_less(f"{what} value length", limits.attribute_value))


def _less(what: str, limit: int) -> str:
    return f"{what} should be less than {limit}."


def _check_nesting(raw: bytes) -> None:
    """Raise InvalidError for a value with more levels than anybody reads."""
    if raw.count(b"{") + raw.count(b"[") <= MAX_NESTING:
        return
    depth = 0
    for bracket in _BRACKETS.findall(_TEXT.sub(b"", raw)):
        depth += 1 if bracket in {b"[", b"{"} else -1
        if depth > MAX_NESTING:
            message = "The item is nested too deeply."
            raise InvalidError(message)


def _typed(read: Callable[[bytes], _Read], raw: bytes) -> _Read:
    """Return a value as the model has it; raises InvalidError."""
    try:
        return read(raw)
    except msgspec.ValidationError as error:
        raise InvalidError(_message(error)) from None
    except msgspec.DecodeError:  # half a surrogate pair that was not found before
        message = "The item is not JSON."
        raise InvalidError(message) from None


def _message(error: msgspec.ValidationError) -> str:
    """Return a library's words in those of the API, with names of the model only."""
    what, _, path = str(error).partition(_PLACE)
    path = path.removesuffix("`").removeprefix(".")
    if missing := re.fullmatch(r"Object missing required field `(\w+)`", what):
        return f"{path + '.' if path else ''}{missing[1]} is required."
    if what.startswith("Invalid enum value"):
        return f"{path} is none of the values that it may have."
    wrong = re.sub(r"`([^`]*)`", r"\1", what)
    return f"{path or 'The item'} is not valid: {wrong}."

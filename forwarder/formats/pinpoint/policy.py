"""What the settings of a connection leave of a record of the event stream.

They mean of a record what they mean of mParticle's documents:

* ``include_location_information`` off: the endpoint has no ``Location``.
* ``include_metadata`` off: ``application`` keeps ``app_id`` and ``package_name``, ``device`` tells
  nothing, the endpoint has no ``Demographic``.
* ``include_user_identities`` off: the endpoint has no ``Address``, its ``User`` no ``UserId``, and
  ``client`` no ``cognito_id``.
* ``metadata_field_exclusion``: paths from the record's top, never of its event.

``endpoint`` is meant in both its forms, the object and the text in ``client_context.custom``. Where
an object may stand in any other form, a list or a text, what it tells cannot be taken out: such a
record is refused as soon as something of the endpoint is hidden.
"""

import re
from collections.abc import Callable, Sequence

from msgspec import Raw

from forwarder.config.connection import Settings
from forwarder.config.targets import PINPOINT_EVENT_FIELDS
from forwarder.formats import rawjson
from forwarder.formats.memo import Memo
from forwarder.formats.rawjson import ABSENT

_NAMES = frozenset({"app_id", "package_name"})
_NO_SDK = Raw(b"{}")
_NO_DEVICE = Raw(b'{"platform":{}}')
_MEMO = 1024
_OPENS_OBJECT = re.compile(rb"\{|\\u007[bB]")

_Object = dict[str, Raw]


class RecordPolicy:
    """Takes out of records what one connection does not want; ``is_plain``: that is nothing."""

    def __init__(self, settings: Settings) -> None:
        """Compile the settings."""
        self._located = settings.include_location_information
        self._metadata = settings.include_metadata
        self._identities = settings.include_user_identities
        paths = [path.split(".") for path in settings.metadata_field_exclusion]
        self._exclusions = [path for path in paths if path[0] not in PINPOINT_EVENT_FIELDS]
        self._endpoint_exclusions = [
            path[1:] for path in paths if path[0] == "endpoint" and path[1:]
        ]
        self._drops_endpoint = ["endpoint"] in paths
        tells_all = self._located and self._metadata and self._identities
        self.is_plain = tells_all and not self._exclusions
        self._hides = not tells_all or bool(self._endpoint_exclusions) or self._drops_endpoint
        self._endpoints: Memo[bytes, bytes] = Memo(_MEMO)

    def reduced(self, record: bytes) -> bytes:
        """Return what is left of a record; raises ValueError for what cannot be taken apart."""
        fields = rawjson.fields(record)
        if not self._metadata:
            _change(fields, "application", _named)
            if "device" in fields:
                fields["device"] = _NO_DEVICE
        if not self._identities:
            _change(fields, "client", _anonymous)
        self._change_endpoint(fields)
        for path in self._exclusions:
            exclude(fields, path)
        return rawjson.encode_object(fields)

    def endpoint(self, raw: bytes) -> bytes:
        """Return what is left of an endpoint."""
        known = self._endpoints.get(raw)
        if known is not None:
            return known
        fields = rawjson.fields(raw)
        if not self._located:
            fields.pop("Location", None)
        if not self._metadata:
            fields.pop("Demographic", None)
        if not self._identities:
            fields.pop("Address", None)
            _change(fields, "User", _nameless)
        for path in self._endpoint_exclusions:
            exclude(fields, path)
        found = rawjson.encode_object(fields)
        return self._endpoints.keep(raw, found, len(raw) + len(found))

    def _change_endpoint(self, fields: _Object) -> None:
        """Reduce the endpoint of a record, in whichever form it is there."""
        if not self._hides:
            return
        if bytes(fields.get("endpoint", ABSENT))[:1] == b"{":
            fields["endpoint"] = Raw(self.endpoint(bytes(fields["endpoint"])))
        elif not self._drops_endpoint:
            _check_no_object(fields, "endpoint")
        if ["client_context"] not in self._exclusions:
            _check_no_object(fields, "client_context")
            _change(fields, "client_context", self._change_context)

    def _change_context(self, context: _Object) -> None:
        _check_no_object(context, "custom")
        _change(context, "custom", self._change_custom)

    def _change_custom(self, custom: _Object) -> None:
        raw = bytes(custom.get("endpoint", ABSENT))
        if not raw or raw == rawjson.NULL:
            return
        if self._drops_endpoint:
            del custom["endpoint"]
        elif raw[:1] == b"{":
            custom["endpoint"] = Raw(self.endpoint(raw))
        elif (text := rawjson.text_of(raw)) and text.lstrip()[:1] == "{":
            inner = text.encode(errors="backslashreplace")
            custom["endpoint"] = Raw(rawjson.quote(self.endpoint(inner).decode()))
        else:
            _check_no_object(custom, "endpoint")


def _check_no_object(fields: _Object, name: str) -> None:
    """Raise ValueError where a member is a list or a text that has an object in it."""
    raw = bytes(fields.get(name, ABSENT))
    if raw[:1] != b"{" and _OPENS_OBJECT.search(raw):
        message = f"`{name}` holds an object in a form that nothing is taken out of"
        raise ValueError(message)


def _named(application: _Object) -> None:
    """Leave what names an app."""
    for key in [key for key in application if key not in _NAMES]:
        del application[key]
    application["sdk"] = _NO_SDK


def _anonymous(client: _Object) -> None:
    client.pop("cognito_id", None)


def _nameless(user: _Object) -> None:
    user.pop("UserId", None)


def _change(fields: _Object, name: str, change: Callable[[_Object], None]) -> None:
    """Change a member, if it is an object."""
    raw = bytes(fields.get(name, ABSENT))
    if raw[:1] == b"{":
        inner = rawjson.fields(raw)
        change(inner)
        fields[name] = Raw(rawjson.encode_object(inner))


def exclude(fields: _Object, path: Sequence[str]) -> bool:
    """Remove what a path names; tell whether something was removed."""
    name, rest = path[0], path[1:]
    if name not in fields:
        return False
    if not rest:
        del fields[name]
        return True
    raw = bytes(fields[name])
    inner = rawjson.fields(raw) if raw[:1] == b"{" else {}
    if not exclude(inner, rest):
        return False
    fields[name] = Raw(rawjson.encode_object(inner))
    return True

"""A context of mParticle's made of one of Pinpoint's: the endpoint, its user, its app.

What mParticle has no field for stands in ``integration_attributes.pinpoint``, by Pinpoint's own
names with colons between them: exclusions, whose paths have dots, reach each of them.
"""

from msgspec import Raw

from forwarder.config.connection import Settings
from forwarder.formats import rawjson
from forwarder.formats.rawjson import ABSENT

_Object = dict[str, Raw]

PLATFORMS = {
    name.lower().encode(): b'"%b"' % name.encode()
    for name in ("iOS", "Android", "web", "tvOS", "roku", "alexa", "xbox")
}
"""Spellings that mParticle gives to platforms which clients of Pinpoint write in any case."""

_APPLE = ("APNS", "APNS_SANDBOX", "APNS_VOIP", "APNS_VOIP_SANDBOX")
NETWORKS = dict.fromkeys(_APPLE, b"apn") | {"GCM": b"gcm", "ADM": b"adm", "BAIDU": b"baidu"}
"""ChannelType of push messages -> the network that delivers them, as mParticle names it."""

_ADDRESSES = {"EMAIL": "email", "SMS": "mobile_number", "VOICE": "mobile_number"}
"""ChannelType -> the type of identity that the endpoint's Address is; any other: ``other``."""

_DEMOGRAPHIC = {
    "PlatformVersion": "os_version",
    "Make": "device_manufacturer",
    "Model": "device_model",
}
_APPLICATION = {
    "AppPackageName": "package",
    "AppTitle": "application_name",
    "AppVersionCode": "application_build_number",
}
_LOCATION = {
    "Latitude": "latitude",
    "Longitude": "longitude",
    "Country": "country_code",
    "Region": "region_code",
    "City": "city_name",
    "PostalCode": "postal_code",
}
_NOTHING = frozenset({b"", rawjson.NULL, b'""'})
_ENVIRONMENT = Raw(b'"production"')


class MappedContext:
    """What an endpoint says, as mParticle's keys and what is left: of one context.

    ``fields``: the context. ``location``: the members of ``location``; empty: none is known.
    ``app`` and ``endpoint``: their ids, as JSON values. ``channel``: how the endpoint is reached,
    ``address``: where, as a JSON value.
    """

    def __init__(self, record: _Object, settings: Settings) -> None:
        """Take a context apart; what is of an odd type stays among what is left."""
        self._left: _Object = {}
        self._metadata = settings.include_metadata
        self._batch_location = settings.include_event_batch_location
        endpoint = _object(record, "Endpoint")
        self._application = _object(record, "Application")
        self._demographic = _object(endpoint, "Demographic")
        user, place = _object(endpoint, "User"), _object(endpoint, "Location")
        self.location = _renamed(place, _LOCATION) | place
        for name, wanted in (
            ("Location", settings.include_location_information),
            ("Demographic", settings.include_metadata),
            ("User", settings.include_user_identities),
        ):
            if not wanted:  # of an odd type, or it would be gone already
                endpoint.pop(name, None)
        self.app = bytes(record.get("ApplicationId", ABSENT))
        self.endpoint = bytes(record.get("EndpointId", endpoint.get("Id", ABSENT)))
        for name, own in (("Id", self.endpoint), ("ApplicationId", self.app)):
            if bytes(endpoint.get(name, ABSENT)) == own:
                endpoint.pop(name, None)
        self.channel = rawjson.text_of(bytes(endpoint.get("ChannelType", ABSENT))) or ""
        self.address = bytes(endpoint.pop("Address", ABSENT))
        self.fields = self._map(user)
        self._note("", record)
        self._note("", endpoint)
        if settings.include_user_identities:
            self._note("User:", user)
        if self._left:
            left = Raw(rawjson.encode_object(self._left))
            whole = rawjson.encode_object({"pinpoint": left})
            self.fields["integration_attributes"] = Raw(whole)

    @property
    def takes_push(self) -> bool:
        """Tell whether the address is the token of a device that takes push messages."""
        return self.channel in NETWORKS and self.address[:1] == b'"'

    def _map(self, user: _Object) -> _Object:
        """Return the keys that mParticle has for what an endpoint says."""
        identities, attributes = self._identities(user), _object(user, "UserAttributes")
        device, application = self._device(), self._app()
        found: _Object = {"environment": _ENVIRONMENT}
        if self.endpoint not in _NOTHING:
            found["mp_deviceid"] = Raw(self.endpoint)
        if identities:
            found["user_identities"] = Raw(rawjson.encode_object(identities))
        if attributes:
            told = {name: _value(raw) for name, raw in attributes.items()}
            found["user_attributes"] = Raw(rawjson.encode_object(told))
        if device:
            found["device_info"] = Raw(rawjson.encode_object(device))
        if application:
            found["application_info"] = Raw(rawjson.encode_object(application))
        version = self._application.pop("ClientSdkVersion", ABSENT)
        if bytes(version) not in _NOTHING:
            found["sdk_version"] = version
        if self.location and self._batch_location:
            place = Raw(rawjson.encode_object(self.location))
            found["context"] = Raw(rawjson.encode_object({"location": place}))
        self._note("", self._application)
        return found

    def _identities(self, user: _Object) -> _Object:
        """Return who the user is, by the type of identity."""
        found: _Object = {}
        if bytes(user.get("UserId", ABSENT)) not in _NOTHING:
            found["customer_id"] = user.pop("UserId")
        if self.address not in _NOTHING and not self.takes_push:
            found[_ADDRESSES.get(self.channel, "other")] = Raw(self.address)
        return found

    def _device(self) -> _Object:
        """Return what the device is; what of it mParticle has no field for is metadata as well."""
        told, found = self._demographic, _Object()
        platform = bytes(told.pop("Platform", ABSENT))
        if platform not in _NOTHING:
            spelled = PLATFORMS.get(platform.strip(b'"').lower(), platform)
            found["platform"] = Raw(spelled)
        found |= _renamed(told, _DEMOGRAPHIC)
        locale = rawjson.text_of(bytes(told.get("Locale", ABSENT)))
        if locale:
            language, *rest = locale.replace("-", "_").split("_")
            found["locale_language"] = Raw(rawjson.quote(language))
            if rest:
                found["locale_country"] = Raw(rawjson.quote(rest[-1]))
        if self.takes_push:
            found["push_token"] = Raw(self.address)
        return found

    def _app(self) -> _Object:
        """Return what the app is."""
        found = _renamed(self._application, _APPLICATION)
        version = self._demographic.pop("AppVersion", ABSENT)
        if bytes(version) not in _NOTHING:
            found["application_version"] = version
        if self._metadata:
            self._note("Demographic:", self._demographic)
        return found

    def _note(self, prefix: str, members: _Object) -> None:
        """Leave members among what is left: values of their own as they are, all else as text."""
        for name, raw in members.items():
            value = bytes(raw)
            if name in {"Attributes", "Metrics"} and value[:1] == b"{" and not prefix:
                self._note(f"{name}:", rawjson.fields(raw))
            elif value[:1] == b"[":
                value = bytes(_value(raw))
                text = value if value[:1] == b'"' else rawjson.quote(value.decode())
                self._left[prefix + name] = Raw(text)
            elif value[:1] == b"{":
                self._left[prefix + name] = Raw(rawjson.quote(value.decode()))
            elif value not in {b"", rawjson.NULL}:
                self._left[prefix + name] = raw


def _value(raw: Raw) -> Raw:
    """Return a list of one value as that value; several stay a list."""
    if bytes(raw)[:1] != b"[":
        return raw
    several = rawjson.elements(raw)
    return several[0] if len(several) == 1 else raw


def _renamed(fields: _Object, names: dict[str, str]) -> _Object:
    """Take members out, and return them by the names that mParticle gives them."""
    return {
        other: fields.pop(name)
        for name, other in names.items()
        if bytes(fields.get(name, ABSENT)) not in _NOTHING
    }


def _object(fields: _Object, name: str) -> _Object:
    """Take out a member that is an object; anything else stays."""
    raw = fields.get(name, ABSENT)
    if bytes(raw)[:1] != b"{":
        return {}
    del fields[name]
    return rawjson.fields(raw)

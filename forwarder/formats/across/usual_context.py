"""What documents of mParticle's have of a usual context of Pinpoint's, written at once.

Usual is what a gateway writes of an app's endpoint: no member that should not be there, and none
of an odd type where it matters. ``mparticle_context`` maps any context, and makes the same of a
usual one in twice the time.
"""

import msgspec
from msgspec import Raw, Struct

from forwarder.config.connection import Settings
from forwarder.formats import rawjson
from forwarder.formats.across import mparticle_context as contexts
from forwarder.formats.across.mparticle_context import NO_PART, EndpointFacts
from forwarder.formats.memo import Memo
from forwarder.formats.rawjson import ABSENT

_Object = dict[str, Raw]

_MEMO = 1024
_NO_TEXT = b'""'
_NONE: _Object = {}
_OBJECT = frozenset({b"", b"{"})
_NETWORKS = {b'"%b"' % name.encode(): found for name, found in contexts.NETWORKS.items()}
_ADDRESSES = {b'"%b"' % name.encode(): found for name, found in contexts.ADDRESSES.items()}
"""``ChannelType`` as it is written without escapes."""


class UsualContext(EndpointFacts, frozen=True, gc=False):
    """What an endpoint says: ``rest``, as the object of what its documents have of it."""

    rest: bytes


class _UsualRecord(Struct, forbid_unknown_fields=True, gc=False):
    ApplicationId: Raw
    EndpointId: Raw
    Endpoint: dict[str, Raw]
    ArrivalTimestamp: Raw = ABSENT
    Application: Raw = ABSENT


class _User(Struct, forbid_unknown_fields=True, gc=False):
    UserId: Raw = ABSENT
    UserAttributes: dict[str, Raw] = {}


class _Installed(Struct, frozen=True, gc=False):
    """A device and an app: members of a document, each with a comma ahead, and what is left.

    ``device`` is an object that is not closed yet, without what stands in front of it.
    """

    device: bytes
    app: bytes
    left: _Object


_REST = b'{"environment":"production"%b%b%b%b%b,"integration_attributes":{"pinpoint":%b}%b'
_READ = msgspec.json.Decoder(_UsualRecord).decode
_READ_USER = msgspec.json.Decoder(_User).decode
_NOBODY = Raw(b"{}")


def leaves_all(settings: Settings) -> bool:
    """Tell whether settings leave usual contexts as they are, but for what is told here."""
    return (
        settings.include_metadata
        and settings.include_user_identities
        and settings.include_location_information
        and not settings.include_event_batch_location
        and not settings.metadata_field_exclusion
    )


class UsualContexts:
    """Writes what documents have of usual contexts, by settings that ``leaves_all`` is true of.

    It remembers the devices and apps that it has seen: many endpoints have the same.
    """

    def __init__(self, settings: Settings) -> None:
        """Take what documents have at most."""
        self._names_device = settings.include_mp_deviceid
        told = settings.include_system_notifications
        self._end = b',"system_notifications":[]}' if told else b"}"
        self._installed: Memo[tuple[bytes, bytes], _Installed] = Memo(_MEMO)

    def write(self, context: bytes, time_ms: int) -> UsualContext | None:
        """Return what documents have of a context; None: it is not usual.

        ``time_ms`` dates the user's identities.
        """
        try:
            record = _READ(context)
            endpoint = record.Endpoint
            user = _READ_USER(endpoint.pop("User", _NOBODY))
        except msgspec.DecodeError:
            return None
        device = bytes(endpoint.pop("Demographic", ABSENT))
        installed = self._known(device, bytes(record.Application))
        place, address = endpoint.pop("Location", ABSENT), bytes(endpoint.pop("Address", ABSENT))
        channel, customer = bytes(endpoint.get("ChannelType", ABSENT)), bytes(user.UserId)
        if (
            installed is None
            or (address and address[:1] != b'"')
            or (customer and (customer[:1] != b'"' or customer == _NO_TEXT))
            or (place is not ABSENT and bytes(place)[:1] != b"{")
            or b"\\" in channel
        ):
            return None
        app, own = record.ApplicationId, record.EndpointId
        for name, known in (("Id", own), ("ApplicationId", app)):
            if endpoint.get(name) == known:
                del endpoint[name]
        left = contexts.encode_left(
            installed.left, {"ApplicationId": app, "EndpointId": own}, endpoint, _NONE
        )
        network = _NETWORKS.get(channel, b"") if address else b""
        rest = _REST % (
            _device_id(bytes(own)) if self._names_device else b"",
            _identities(customer, b"" if network else address, channel, time_ms),
            _attributes(user.UserAttributes) if user.UserAttributes else b"",
            _device_info(installed.device, address if network else b""),
            installed.app,
            left,
            self._end,
        )
        location = _NONE if place is ABSENT else contexts.located(rawjson.fields(place))
        return UsualContext(location, bytes(app), bytes(own), network, address, rest)

    def _known(self, device: bytes, application: bytes) -> _Installed | None:
        """Return what device and app are; None: one of them is no object."""
        key = device, application
        known = self._installed.get(key)
        if known is None:
            if device[:1] not in _OBJECT or application[:1] not in _OBJECT:
                return None
            size = 3 * (len(device) + len(application))
            known = self._installed.keep(key, _read(device, application), size)
        return known


def _read(device: bytes, application: bytes) -> _Installed:
    """Return what device and app are; both are objects, or empty."""
    part = contexts.read_device(rawjson.fields(device)) if device else NO_PART
    app = contexts.read_app(rawjson.fields(application) if application else {}, part.version)
    members = b""
    if app.found != b"{}":
        members = b',"application_info":%b' % app.found
    if app.version is not ABSENT:
        members += b',"sdk_version":%b' % app.version
    return _Installed(part.found[:-1], members, part.left | app.left)


def _device_id(own: bytes) -> bytes:
    return b"" if own in contexts.NOTHING else b',"mp_deviceid":%b' % own


def _device_info(device: bytes, token: bytes) -> bytes:
    """Return the device; ``device`` is not closed yet, and ``token`` empty if there is none."""
    if token:
        comma = b"," if len(device) > len(b"{") else b""
        return b',"device_info":%b%b"push_token":%b}' % (device, comma, token)
    return b',"device_info":%b}' % device if len(device) > len(b"{") else b""


def _identities(customer: bytes, address: bytes, channel: bytes, time_ms: int) -> bytes:
    """Return who the user is; each empty if it is not told."""
    address = b"" if address == _NO_TEXT else address
    if not customer and not address:
        return b""
    found = contexts.identity(b"customer_id", customer, time_ms) if customer else b""
    if address:
        other = contexts.identity(_ADDRESSES.get(channel, b"other"), address, time_ms)
        found = b"%b,%b" % (found, other) if found else other
    return b',"user_identities":[%b]' % found


def _attributes(members: _Object) -> bytes:
    for name, raw in members.items():
        members[name] = contexts.single(raw)
    return b',"user_attributes":%b' % rawjson.encode_object(members)

"""Tell whose an upload is: the device key, an injective name for user, device and app."""

import msgspec
from msgspec import Raw

from forwarder.model import Partition
from forwarder.stages import rawjson
from forwarder.stages.rawjson import ABSENT

_MEMO = 4096
_EMPTY = b'""'
_PRODUCTION = b'"production"'
_NOTHING = frozenset({b"", rawjson.NULL, _EMPTY})
_IDS = (
    "android_uuid",
    "android_advertising_id",
    "ios_idfv",
    "ios_advertising_id",
    "roku_advertising_id",
    "fire_advertising_id",
    "amp_id",
    "microsoft_advertising_id",
    "roku_publisher_id",
    "microsoft_publisher_id",
)


class Identity:
    """Reads device keys; remembers the packages of application_info objects it has seen."""

    def __init__(self, partition: Partition) -> None:
        """Begin with nothing remembered."""
        self._prefix = f"@{partition.topic}/{partition.number}/".encode()
        self._packages: dict[bytes, bytes] = {}

    def environment(self, fields: dict[str, Raw]) -> bytes:
        """Return the token of the environment; production where there is none."""
        raw = fields.get("environment")
        token = _EMPTY if raw is None else token_of(raw)
        return _PRODUCTION if token == _EMPTY else token

    def package(self, fields: dict[str, Raw]) -> bytes:
        """Return the token of the app's package, empty text where there is none."""
        raw = bytes(fields.get("application_info", ABSENT))
        known = self._packages.get(raw)
        if known is None:
            if len(self._packages) >= _MEMO:
                self._packages.clear()
            known = self._packages[raw] = member(raw, ("package",))
        return known

    def key(
        self, fields: dict[str, Raw], environment: bytes, package: bytes, offset: int, start: int
    ) -> bytes:
        """Return the device key; an upload that names neither device nor user is its own.

        Every part but the first is a JSON string or another self-delimiting value, so no two
        different keys look the same.
        """
        device = token_of(fields.get("mp_deviceid", ABSENT))
        if device == _EMPTY and "device_info" in fields:
            device = member(bytes(fields["device_info"]), _IDS)
        mpid = token_of(fields.get("mpid", ABSENT))
        if device == mpid == _EMPTY:
            return b"%b%d/%d" % (self._prefix, offset, start)
        return b"%b,%b,%b,%b" % (environment, package, device, mpid)


def token_of(raw: Raw) -> bytes:
    """Return the token of a value, the empty text for null and for what is not there."""
    value = bytes(raw)
    if value[:1] == b'"' and b"\\" not in value:  # nearly always
        return value
    return _EMPTY if value in _NOTHING else rawjson.token(value)


def member(raw: bytes, names: tuple[str, ...]) -> bytes:
    """Return the token of the first of these members that an object has, else the empty text."""
    if raw[:1] != b"{":
        return _EMPTY
    try:
        found = _DECODERS[names].decode(raw)
        values = [getattr(found, name) for name in names]
    except msgspec.DecodeError:
        fields = rawjson.fields(raw)
        values = [fields.get(name, ABSENT) for name in names]
    for value in values:
        if value is not ABSENT and (token := token_of(value)) != _EMPTY:
            return token
    return _EMPTY


def _narrow(names: tuple[str, ...]) -> msgspec.json.Decoder[msgspec.Struct]:
    """Build a decoder that keeps these members of an object and skips the rest."""
    struct = msgspec.defstruct("Narrow", [(name, Raw, ABSENT) for name in names], gc=False)
    return msgspec.json.Decoder(struct)


_NARROWED: tuple[tuple[str, ...], ...] = (_IDS, ("package",), ("platform",))
_DECODERS = {names: _narrow(names) for names in _NARROWED}

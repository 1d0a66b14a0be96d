"""Tell whose an upload is: the device key, and with the identities of its user its owner.

Values that name nobody are none: SDKs and platforms send them where they know none. The table with
its sources is in docs/mparticle-format.md. It holds for every id: of devices and users, each user
identity, and sessions.
"""

import re
from hashlib import blake2b

import msgspec
from msgspec import Raw

from forwarder.formats import rawjson
from forwarder.formats.ids import MAX_ID_BYTES, bounded_token
from forwarder.formats.memo import Memo
from forwarder.formats.rawjson import ABSENT
from forwarder.model import Partition

NO_ID = b'""'
"""The token of an id that is not there, or that means none."""

NONE_WORDS = frozenset({
    "unknown", "null", "(null)", "<null>", "undefined", "none", "nil", "<nil>", "(nil)",
    "optional(nil)", "n/a", "na", "nan", "-1", "true", "false", "[]", "{}", "[object object]",
    "not set", "(not set)", "not available", "anonymous", "anon", "guest", "android", "deface",
    "9774d56d682e549c", "02:00:00:00:00:00",
})  # fmt: skip
"""What means none as a whole, case folded and without white space around it."""

_ZERO = re.compile(r"[-+0:.,_{}()*\s\0]*|[-+]?0+(\.0+)?[eE][-+]?[0-9]+")
"""Nothing, zeros in any number and grouping, a number that is zero, or asterisks."""

_PADDING = b'"-+0:.,_{}()* \t\r\n'
_MAX_WORD_CHARACTERS = max(map(len, NONE_WORDS))
_NUMBER = b"-0123456789"
_memo: Memo[bytes, bytes] = Memo(8192)


def id_of(value: bytes) -> bytes:
    """Return the token of an id: one spelling for equal ids (42 = "42"), ``NO_ID`` for none.

    A value that is neither a text nor a number names nobody. One of more than ``MAX_ID_BYTES``
    becomes its digest.
    """
    # Nearly always: too long for a word, and no zero; or a number that is neither.
    if len(value.strip(_PADDING)) > _MAX_WORD_CHARACTERS:
        first = value[:1]
        if first != b'"':
            return bounded_token(b'"%b"' % value) if first in _NUMBER else NO_ID
        if b"\\" not in value and value.isascii():
            return value if len(value) <= MAX_ID_BYTES else bounded_token(value)
    elif value.isdigit() and value[:1] != b"0":
        return b'"%b"' % value
    known = _memo.get(value)
    # An answer is short, or the id itself.
    return _memo.keep(value, _classify(value), 2 * len(value)) if known is None else known


def _classify(value: bytes) -> bytes:
    text = rawjson.text_of(value)
    return NO_ID if text is None or means_none(text) else bounded_token(rawjson.name_token(value))


def means_none(text: str) -> bool:
    """Tell whether a text stands for no id at all."""
    digits = text.lstrip("-")
    if digits.isdigit() and digits[0] != "0":  # nearly always
        return text == "-1"
    return text.strip().casefold() in NONE_WORDS or _ZERO.fullmatch(text) is not None


_MEMO = 4096
_PRODUCTION = b'"production"'
_NOTHING = frozenset({b"", rawjson.NULL, NO_ID})
DEVICE_ID_KEYS = (
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
"""Members of ``device_info`` that name a device, in the order in which they are asked."""

_PACKAGE = ("package",)
_ID_ENDS = (b'_id"', b'"android_uuid"', b'"ios_idfv"')
"""How the names in ``DEVICE_ID_KEYS`` end, or are: each stands once for each of them."""

IDENTITIES_SEPARATOR = b"#"
"""Between a device key and the digest of identities."""


def ordering_id(fields: dict[str, Raw]) -> bytes:
    """Return what orders uploads beside each other: device id, else mpid, else the upload's own id.

    A JSON string; ``NO_ID`` of an upload that has none of them. Caller: who writes records.
    """
    token = id_of(bytes(fields.get("mp_deviceid", ABSENT)))
    if token == NO_ID and "device_info" in fields:
        found = (id_of(bytes(v)) for v in members(bytes(fields["device_info"]), DEVICE_ID_KEYS))
        token = next((one for one in found if one != NO_ID), NO_ID)
    for name in ("mpid", "source_request_id"):
        if token == NO_ID:
            token = id_of(bytes(fields.get(name, ABSENT)))
    return token


class DeviceIdentity:
    """Reads device keys; remembers packages and identities that it has seen.

    ``repeated`` is set where an object that was read has a key twice: whoever takes the other
    value would see another app or device, so it is forwarded with the one that was read.
    """

    def __init__(self, partition: Partition) -> None:
        """Create with empty caches."""
        self.prefix = f"@{partition.topic}/{partition.number}/".encode()
        self._environments: Memo[bytes, bytes] = Memo(_MEMO)
        self._packages: Memo[bytes, tuple[bytes, bool]] = Memo(_MEMO)
        self._people: Memo[bytes, bytes] = Memo(_MEMO)
        self.repeated = False

    def keys(
        self, fields: dict[str, Raw], offset: int, start: int
    ) -> tuple[bytes, bytes, bytes, bytes]:
        """Return the tokens of environment and app, the device key, and the owner.

        The environment is production, and the app's package the empty text, where there is none.
        An upload without device and user is its own. The device key orders deliveries. The owner is
        who may share a window: the device key where it holds an mpid, else also a digest of the
        user's identities. Every part but the first is a JSON string, so no two different keys look
        the same.
        """
        raw = bytes(fields.get("environment", ABSENT))
        environment = self._environments.get(raw) or self._environment(raw)
        raw = bytes(fields.get("application_info", ABSENT))
        application, twice = self._packages.get(raw) or self._package(raw)
        if twice:
            self.repeated = True
        device = id_of(bytes(fields.get("mp_deviceid", ABSENT)))
        if device == NO_ID and "device_info" in fields:
            device = self._device(bytes(fields["device_info"]))
        mpid = id_of(bytes(fields.get("mpid", ABSENT)))
        if device == mpid == NO_ID:
            key = b"%b%d/%d" % (self.prefix, offset, start)
            return environment, application, key, key
        key = b"%b,%b,%b,%b" % (environment, application, device, mpid)
        if len(key) > MAX_ID_BYTES:  # hardly ever
            key = b"%b,%b,%b,%b" % (
                bounded_token(environment),
                bounded_token(application),
                device,
                mpid,
            )
        if mpid != NO_ID:
            return environment, application, key, key
        people = self.digest(bytes(fields.get("user_identities", ABSENT)))
        return environment, application, key, key + IDENTITIES_SEPARATOR + people

    def _environment(self, raw: bytes) -> bytes:
        token = token_of(raw)
        return self._environments.keep(raw, _PRODUCTION if token == NO_ID else token, 2 * len(raw))

    def _package(self, raw: bytes) -> tuple[bytes, bool]:
        twice = raw[:1] == b"{" and rawjson.repeats_key(raw)
        known = first_member_token(raw, _PACKAGE), twice
        return self._packages.keep(raw, known, len(raw) + len(known[0]))

    def _device(self, raw: bytes) -> bytes:
        """Return the first id of ``device_info`` that names a device."""
        values = members(raw, DEVICE_ID_KEYS)
        if _may_repeat(raw, values):
            self.repeated = self.repeated or rawjson.repeats_key(raw)
        for value in values:
            if value is not ABSENT and (token := id_of(bytes(value))) != NO_ID:
                return token
        return NO_ID

    def digest(self, raw: bytes) -> bytes:
        """Return ``identities_digest`` of these identities."""
        found = self._people.get(raw)
        return self._people.keep(raw, identities_digest(raw), len(raw)) if found is None else found


def request_key(
    fields: dict[str, Raw], environment: bytes, application: bytes, device: bytes
) -> bytes:
    """Return what an upload is known by if it is sent again; empty where it does not say.

    ``source_request_id``, which mParticle's own clients keep when they send a request again, within
    the input (``api_key``) and the device key, or without one the app: a sender that counts its
    requests on each device must not lose one device's events to another's.
    """
    request = id_of(bytes(fields.get("source_request_id", ABSENT)))
    if request == NO_ID:
        return b""
    scope = device
    if scope[:1] == b"@":  # the upload's own place in the input
        scope = b"%b,%b" % (environment, application)
    return b"%b,%b,%b" % (request, token_of(bytes(fields.get("api_key", ABSENT))), scope)


def identities_digest(raw: bytes) -> bytes:
    """Return a digest of user identities; empty if none names anybody.

    Equal for equal identities in another order, as object or as array, under ``customerid``
    or ``customer_id``, as number or as text.
    """
    named = sorted(set(_identities(raw)))
    return blake2b(b",".join(named), digest_size=16).hexdigest().encode() if named else b""


def _identities(raw: bytes) -> list[bytes]:
    """Return identities as ``type:identity`` in JSON; what is of another form as it is."""
    first = raw[:1]
    if first == b"{":
        pairs = [(rawjson.quote(kind), bytes(one)) for kind, one in rawjson.fields(raw).items()]
        return [named for kind, value in pairs if (named := _identity(kind, value))]
    if first == b"[":
        return [named for one in rawjson.elements(raw) if (named := _entry(bytes(one)))]
    return [] if raw in _NOTHING else [b"=" + raw]


def _entry(raw: bytes) -> bytes:
    """Return an identity of the array form; one that is odd, or says it twice, as it is."""
    if raw[:1] != b"{":
        return b"" if raw in _NOTHING else raw
    fields = rawjson.fields(raw)
    kind, value = fields.get("identity_type"), fields.get("identity", ABSENT)
    if kind is None or rawjson.repeats_key(raw):
        return raw
    return _identity(rawjson.name_token(bytes(kind)), bytes(value))


def _identity(kind: bytes, value: bytes) -> bytes:
    """Return what one identity says; nothing if its value means none."""
    named = id_of(value)
    if named == NO_ID:
        if value[:1] not in {b"{", b"["}:  # these are forwarded as the text they are
            return b""
        named = rawjson.quote(value.decode())
    return b"%b:%b" % (b'"customer_id"' if kind == b'"customerid"' else kind, named)


def token_of(value: bytes) -> bytes:
    """Return the token of a value, the empty text for null and for what is not there."""
    if value[:1] == b'"' and b"\\" not in value:  # nearly always
        return value
    return NO_ID if value in _NOTHING else rawjson.name_token(value)


def first_member_token(raw: bytes, names: tuple[str, ...]) -> bytes:
    """Return the token of the first of these members that an object has, else the empty text."""
    for value in members(raw, names):
        if value is not ABSENT and (token := token_of(bytes(value))) != NO_ID:
            return token
    return NO_ID


def members(raw: bytes, names: tuple[str, ...]) -> list[Raw]:
    """Return the raw values of these members of an object, ``ABSENT`` for what it has not."""
    if raw[:1] != b"{":
        return []
    try:
        found = _DECODERS[names].decode(raw)
        return [getattr(found, name) for name in names]
    except msgspec.DecodeError:
        fields = rawjson.fields(raw)
        return [fields.get(name, ABSENT) for name in names]


def _may_repeat(raw: bytes, values: list[Raw]) -> bool:
    """Tell whether some id may stand twice in a ``device_info``; hardly ever."""
    found = sum([value is not ABSENT for value in values])
    return b"\\u00" in raw or sum([raw.count(end) for end in _ID_ENDS]) > found


def _member_decoder(names: tuple[str, ...]) -> msgspec.json.Decoder[msgspec.Struct]:
    """Build a decoder that keeps these members of an object and skips the rest."""
    struct = msgspec.defstruct("Narrow", [(name, Raw, ABSENT) for name in names], gc=False)
    return msgspec.json.Decoder(struct)


PLATFORM = ("platform",)
_NARROWED: tuple[tuple[str, ...], ...] = (DEVICE_ID_KEYS, _PACKAGE, PLATFORM)
_DECODERS = {names: _member_decoder(names) for names in _NARROWED}

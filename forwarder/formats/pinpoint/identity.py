"""Tell whose an upload is, and what an event is known by if it comes again."""

from collections.abc import Sequence
from hashlib import blake2b

import msgspec
from msgspec import Raw, Struct

from forwarder.formats import rawjson
from forwarder.formats.ids import MAX_ID_BYTES, bounded_token
from forwarder.formats.memo import Memo
from forwarder.formats.rawjson import ABSENT
from forwarder.model import Partition

NO_ID = b'""'
_MEMO = 4096


class _UserPart(Struct, frozen=True, gc=False):
    UserId: Raw = ABSENT


class _EndpointUser(Struct, gc=False):
    User: _UserPart | None = None


_ENDPOINT = msgspec.json.Decoder(_EndpointUser).decode


def id_token(raw: bytes) -> bytes:
    """Return one spelling for equal ids (42 = "42"), at most ``MAX_ID_BYTES`` long; b"": none."""
    first = raw[:1]
    if first == b'"':
        if len(raw) <= MAX_ID_BYTES and b"\\" not in raw:  # nearly always
            return raw if raw != NO_ID else b""
    elif not (first.isdigit() or first == b"-"):
        return b""
    return bounded_token(rawjson.name_token(raw))


class EndpointIdentity:
    """Reads device keys and owners of one partition's uploads; remembers users that it has seen."""

    def __init__(self, partition: Partition) -> None:
        """Create with an empty memory."""
        self.prefix = f"@{partition.topic}/{partition.number}/".encode()
        self._apps: Memo[bytes, bytes] = Memo(_MEMO)
        self._people: Memo[bytes, bytes] = Memo(_MEMO)

    def keys(self, fields: dict[str, Raw], offset: int, start: int) -> tuple[bytes, bytes, bytes]:
        """Return the token of the app, the device key, and the owner.

        The device key is of both, and orders deliveries; what names no endpoint has one of its own.
        The owner, who may share a window, holds a digest of the user's id, too. Every part is a
        JSON string, so no two different keys look the same.
        """
        raw = bytes(fields.get("ApplicationId", ABSENT))
        app = self._apps.get(raw)
        if app is None:
            app = self._apps.keep(raw, id_token(raw) or NO_ID, 2 * len(raw))
        endpoint = id_token(bytes(fields.get("EndpointId", ABSENT)))
        if not endpoint:
            key = b"%b%d/%d" % (self.prefix, offset, start)
            return app, key, key
        key = b"%b,%b" % (app, endpoint)
        try:
            told = _ENDPOINT(fields.get("Endpoint", ABSENT)).User
            user = b"" if told is None else bytes(told.UserId)
        except msgspec.DecodeError:
            user = _user_of(bytes(fields.get("Endpoint", ABSENT)))
        if not user:
            return app, key, key
        known = self._people.get(user)
        if known is None:
            token = id_token(user)
            known = b"#" + blake2b(token, digest_size=16).hexdigest().encode() if token else b""
            self._people.keep(user, known, len(user) + len(known))
        return app, key, key + known


def _user_of(endpoint: bytes) -> bytes:
    """Return the user's id that an endpoint of odd members names; b"": none."""
    inner = bytes(rawjson.fields(endpoint).get("User", ABSENT)) if endpoint[:1] == b"{" else b""
    return bytes(rawjson.fields(inner).get("UserId", ABSENT)) if inner[:1] == b"{" else b""


def event_identities(device: bytes, event_ids: Sequence[bytes]) -> list[bytes]:
    """Return what events are known by if they come again; b"" for one without an id of its own.

    ``device`` is their device key. No two identities look the same.
    """
    if device[:1] != b'"':
        return [b""] * len(event_ids)
    before = device + b","
    return [before + token if token else b"" for token in map(id_token, event_ids)]

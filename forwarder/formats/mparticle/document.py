"""Documents, and the contexts they are made of: merged byte for byte, and as settings ask.

A context is an upload without its events; that of a window is merged of those of its uploads.
"""

from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Raw

from forwarder import native
from forwarder.config.connection import Connection, Settings
from forwarder.config.targets import RecordLimit
from forwarder.formats import rawjson
from forwarder.formats.contract import MAX_USER_CHARACTERS, ContextShape, Frame, Recognized
from forwarder.formats.ids import PLACEHOLDER_IDS, BatchIds
from forwarder.formats.mparticle import event_filter
from forwarder.formats.mparticle.identity import NONE_WORDS, means_none
from forwarder.formats.rawjson import ABSENT

ENCODER_VERSION = 1
"""Goes up whenever the same events would give other bytes."""

_BEFORE_EVENTS = b'{"events":['
_BEFORE_ID = b'],"message_id":"'
_BEFORE_NUMBER = b'","message_type":"events","schema_version":2,"batch_id":'

_MAX_CONTEXT_GROWTH = 16
"""By how much a context may grow in a document, at most: ``"":1,`` among the user identities
becomes 79 bytes of an array, with a time of 19 digits."""

_MAX_EVENT_GROWTH = 2
"""By how much events may grow as settings change them, at most: ids become texts."""

_MAX_OVERHEAD_BYTES = 64
"""More than what a document has that its context does not: empty ``system_notifications``, and
quotes around four ids."""

_LONGEST_TIME = 10**18

_NEVER = frozenset(
    {
        "api_key",
        "api_keys",
        "batch_id",
        "message_id",
        "message_type",
        "schema_version",
        "timestamp_unixtime_ms",
        "unique_id",
    }
)
_EMPTY = Raw(b"[]")
_SMALL = 1024
"""Bytes of a value that is kept although no document has it: it may tell whose the upload is."""

_Object = dict[str, Raw]

_DELETED = "deleted_user_attributes"
_NOTIFICATIONS = "system_notifications"
_MERGED = frozenset({_DELETED, _NOTIFICATIONS})

_MAX_KEYS = 64
_MAX_KEY_CHARACTERS = 1024
"""Keys, and characters in them, that are described one by one. The format has 31 keys."""

_MANY = {told: ContextShape(frozenset(), plain=False, dated=told) for told in (False, True)}
"""Stand for any other keys: such contexts are merged key by key."""

_TEXTS = msgspec.json.Decoder(list[str]).decode
_KEYS = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode


class MParticleDocuments:
    """Makes the documents of one connection: ``contract.DocumentMaker``."""

    render = None

    def __init__(self, connection: Connection, limit: RecordLimit) -> None:
        """Compile what all documents of the connection have in common."""
        settings = connection.settings
        self.version = b"%d" % ENCODER_VERSION
        self._payload_bytes = limit.payload_bytes
        self._policy = ContextPolicy(settings)
        self._quote = settings.int64_as_string
        self._unique = b""
        if settings.unique_id is not None:
            self._unique = b',"unique_id":%b' % rawjson.quote(settings.unique_id)
        self.bare_bytes = len(self._write(b"", PLACEHOLDER_IDS, b""))
        self.native = self._native_twin(limit)
        self.least = limit.least_payload_bytes()
        half = max(0, self.least // 2)
        empty = self.frame(b"{}", _LONGEST_TIME, _LONGEST_TIME).size + _MAX_OVERHEAD_BYTES
        self.small_context_bytes = max(0, half - empty) // _MAX_CONTEXT_GROWTH
        self.small_events_bytes = half // _MAX_EVENT_GROWTH

    def frame(self, context: bytes, dated_ms: int, newest_ms: int) -> Frame:
        """Encode everything but the events and the ids, whose length is known.

        ``dated_ms`` dates the user identities.
        """
        return self.frame_of(rawjson.fields(context), dated_ms, newest_ms)

    def frame_of(self, fields: _Object, dated_ms: int, newest_ms: int) -> Frame:
        """Encode everything but the events and the ids, of the members of a context."""
        user = mpid_of(fields)
        rest = rawjson.encode_object(self._policy.document_fields(fields, dated_ms))
        tail = self.tail(rest, newest_ms)
        return Frame(user, tail, self.bare_bytes + len(tail), self._payload_bytes(user))

    def tail(self, rest: bytes, newest_ms: int) -> bytes:
        """Return what follows the ids; ``rest``: the object of what is known of the context."""
        comma = b"," if len(rest) > len(b"{}") else b""
        return b',"timestamp_unixtime_ms":%d%b%b%b' % (newest_ms, self._unique, comma, rest[1:])

    def document(self, frame: Frame, events: bytes, ids: BatchIds) -> bytes:
        """Return a document of these comma-joined events."""
        return self._write(events, ids, frame.tail)

    def prune(self, context: bytes, most: int) -> bytes:
        """Return a context without what is large and in no document (``ContextPolicy.prune``)."""
        fields = rawjson.fields(context)
        kept = self._policy.prune(fields, most)
        return context if kept is fields else rawjson.encode_exact(kept)

    def recognize(self, value: bytes) -> Recognized | None:
        """Return the ``message_id`` and the mpid of a document, and how many events it has."""
        try:
            fields = rawjson.fields(value)
            name = rawjson.text_of(bytes(fields.get("message_id", ABSENT)))
            events = rawjson.elements(bytes(fields.get("events", _EMPTY))) if name else []
        except (ValueError, RecursionError):
            return None
        return Recognized(name, mpid_of(fields), len(events)) if name else None

    def _write(self, events: bytes, ids: BatchIds, tail: bytes) -> bytes:
        number = b'"%d"' % ids.number if self._quote else b"%d" % ids.number
        return b"".join(
            (_BEFORE_EVENTS, events, _BEFORE_ID, ids.text.encode(), _BEFORE_NUMBER, number, tail)
        )

    def _native_twin(self, limit: RecordLimit) -> object | None:
        """Return what makes the same documents natively, None where nothing is built."""
        core = native.core()
        if core is None:
            return None
        users = range(MAX_USER_CHARACTERS + 1) if limit.mpid_is_key else (0,)
        told = {
            **self._policy.compiled(),
            "none_words": list(map(_encoded, NONE_WORDS)),
            "unique": self._unique,
            "limits": [limit.payload_bytes("0" * length) for length in users],
            "layout": (_BEFORE_EVENTS, _BEFORE_ID, _BEFORE_NUMBER),
        }
        twin: object = core.MParticleTails(told)
        return twin


def mpid_of(fields: Mapping[str, Raw]) -> str:
    """Return the mpid by which a stream may choose the shard, as text; empty: none can.

    One that means none would send all without a user to one shard; sinks take no key that is
    longer than ``MAX_USER_CHARACTERS`` or no UTF-8.
    """
    text = rawjson.text_of(bytes(fields.get("mpid", ABSENT))) or ""
    if len(text) > MAX_USER_CHARACTERS or means_none(text):
        return ""
    return text if text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text) else ""


class ContextPolicy:
    """Turns a window's context into its document's, by the settings of one connection."""

    def __init__(self, settings: Settings) -> None:
        """Compile the settings."""
        self._settings = settings
        self._drop = _NEVER | set(_dropped(settings))
        self._located = (
            settings.include_event_batch_location and settings.include_location_information
        )
        paths = [path.split(".") for path in settings.metadata_field_exclusion]
        self._identities = frozenset(_kind(p[1]) for p in paths if _names_identity(p))
        self._exclusions = [path for path in paths if not _names_identity(path)]
        # What deletions are compared with stays as long as it can (``_union``).
        self._unsent = (self._drop | {p[0] for p in paths if len(p) == 1}) - {"user_attributes"}

    def compiled(self) -> dict[str, object]:
        """Return the settings as the native twin takes them, names and paths in bytes."""
        return {
            "drop": list(map(_encoded, self._drop)),
            "reduces_metadata": not self._settings.include_metadata,
            "strips_location": not self._located,
            "adds_notifications": self._settings.include_system_notifications,
            "quotes_integers": self._settings.int64_as_string,
            "integer_ids": list(map(_encoded, event_filter.INTEGER_IDS)),
            "excluded_kinds": list(map(_encoded, self._identities)),
            "exclusions": [list(map(_encoded, path)) for path in self._exclusions],
        }

    def document_fields(self, fields: _Object, identities_ms: int) -> _Object:
        """Return the keys of the document; ``identities_ms`` dates the user identities."""
        kept = {key: raw for key, raw in fields.items() if key not in self._drop}
        self._reduce_metadata(kept)
        if "user_identities" in kept:
            kept["user_identities"] = without_identities(
                identities(kept["user_identities"], identities_ms), self._identities
            )
        if self._settings.include_system_notifications:
            kept.setdefault("system_notifications", _EMPTY)
        for path in self._exclusions:
            _exclude(kept, path)
        if self._settings.int64_as_string:
            event_filter.quote_integers(kept)
        return kept

    def prune(self, fields: _Object, most: int) -> _Object:
        """Return the keys of a context that waits, without what is large and never forwarded.

        What becomes of them in a document is the same. Beyond ``most`` bytes all goes that
        documents leave out; so they are never more than a document's own.
        """
        kept = {k: raw for k, raw in fields.items() if len(raw) <= _SMALL or k not in self._unsent}
        if len(kept) == len(fields):
            kept = fields
        if sum([len(key) + len(raw) for key, raw in kept.items()]) <= most:
            return kept
        kept = {key: raw for key, raw in kept.items() if key not in self._drop}
        self._reduce_metadata(kept)
        if "user_identities" in kept:
            kept["user_identities"] = self._included_identities(kept["user_identities"])
        for path in self._exclusions:
            _exclude(kept, path)
        return kept

    def _included_identities(self, raw: Raw) -> Raw:
        """Return user identities, in whichever form, without those that are excluded."""
        if not self._identities or bytes(raw)[:1] != b"{":
            return without_identities(raw, self._identities)
        members = rawjson.fields(raw).items()
        return Raw(
            rawjson.encode_object({k: v for k, v in members if _kind(k) not in self._identities})
        )

    def _reduce_metadata(self, kept: _Object) -> None:
        """Leave of two objects only what is always forwarded."""
        if not self._settings.include_metadata and "application_info" in kept:
            package = _members(kept["application_info"]).get("package")
            if package is not None and bytes(package) != rawjson.NULL:
                kept["application_info"] = Raw(rawjson.encode_object({"package": package}))
            else:
                del kept["application_info"]
        if not self._located and "context" in kept:
            inner = _members(kept["context"])
            if inner.pop("location", None) is not None:
                kept["context"] = Raw(rawjson.encode_object(inner))


def _encoded(name: str) -> bytes:
    return name.encode(errors="backslashreplace")


def identities(raw: Raw, time: int) -> Raw:
    """Return user identities as an array; one that is no object passes as it is."""
    if bytes(raw)[:1] != b"{":
        return raw
    end, entries = b',"timestamp_unixtime_ms":%d}' % time, list[bytes]()
    for kind, value in rawjson.fields(raw).items():
        text = bytes(value)
        if text == rawjson.NULL:
            continue
        begin = _BEGINS.get(kind) or _entry(kind)
        entries.append(begin + (text if text[:1] == b'"' else rawjson.quote(text.decode())) + end)
    return Raw(b"[%b]" % b",".join(entries))


def _entry(kind: str) -> bytes:
    """Return what the entry of an identity begins with."""
    return b'{"identity_type":%b,"identity":' % rawjson.quote(kind)


_BEGINS = {kind: _entry(kind) for kind in (
    "other", "customer_id", "facebook", "twitter", "google", "microsoft", "yahoo", "email",
    "facebook_custom_audience_id", "other_id_2", "other_id_3", "other_id_4", "phone_number",
)} | {"customerid": _entry("customer_id")}  # fmt: skip
"""Of the types that the format names, and that one which SDKs spell in two ways."""


def without_identities(raw: Raw, kinds: frozenset[str]) -> Raw:
    """Return an array of user identities without those of these types; all else as it is.

    Documents hold an array whichever form an upload had, so an exclusion means its entries.
    """
    if not kinds or bytes(raw)[:1] != b"[":
        return raw
    entries = rawjson.elements(raw)
    kept = [entry for entry in entries if _kind_of(entry) not in kinds]
    return raw if len(kept) == len(entries) else Raw(rawjson.encode_array(kept))


def _kind_of(entry: Raw) -> str | None:
    named = rawjson.text_of(bytes(_members(entry).get("identity_type", rawjson.ABSENT)))
    return None if named is None else _kind(named)


def _kind(name: str) -> str:
    """Return the one spelling of an identity's type; SDKs say ``customerid``, too."""
    folded = name.lower()
    return "customer_id" if folded == "customerid" else folded


def _names_identity(path: list[str]) -> bool:
    return path[0] == "user_identities" and len(path) == 2  # noqa: PLR2004  # its name and a type


def _dropped(settings: Settings) -> Iterable[str]:
    """Yield the keys that are left out whole."""
    if not settings.include_mp_deviceid:
        yield "mp_deviceid"
    if not settings.include_metadata:
        yield from ("device_info", "source_info")
    if not settings.include_user_identities:
        yield "user_identities"
    if not settings.include_consent_state:
        yield "consent_state"
    if not settings.include_system_notifications:
        yield "system_notifications"


def _members(raw: Raw) -> _Object:
    return rawjson.fields(raw) if bytes(raw)[:1] == b"{" else {}


def _exclude(fields: _Object, path: list[str]) -> bool:
    """Remove what a path names; tell whether something was removed."""
    name, rest = path[0], path[1:]
    if name not in fields:
        return False
    if not rest:
        del fields[name]
        return True
    inner = _members(fields[name])
    if not _exclude(inner, rest):
        return False
    fields[name] = Raw(rawjson.encode_object(inner))
    return True


# ------------------------------------------------------------------ contexts


def shape_of(fields: dict[str, Raw]) -> ContextShape:
    """Describe the keys of a context; of many, or long ones, alike: each window would keep them."""
    identities = "user_identities" in fields
    if len(fields) > _MAX_KEYS or sum(map(len, fields)) > _MAX_KEY_CHARACTERS:
        return _MANY[identities]
    keys = frozenset(fields)
    return ContextShape(keys, keys.isdisjoint(_MERGED), identities)


def context_shape(context: bytes) -> ContextShape:
    """Describe a context."""
    return shape_of(rawjson.fields(context))


def merge_contexts(old: bytes, new: bytes) -> tuple[bytes, ContextShape]:
    """Return the merged context; the newest wins, a null never erases."""
    both = merge_fields(rawjson.fields(old), rawjson.fields(new))
    return rawjson.encode_exact(both), shape_of(both)


def merge_fields(old: dict[str, Raw], new: dict[str, Raw]) -> dict[str, Raw]:
    """Return the merged context: keys as ``new`` has them, then those only ``old`` has."""
    merged = new | {key: value for key, value in old.items() if key not in new}
    if _NOTIFICATIONS in old and _NOTIFICATIONS in new:
        merged[_NOTIFICATIONS] = _append(old[_NOTIFICATIONS], new[_NOTIFICATIONS])
    if _DELETED in old:
        merged[_DELETED] = _union(old[_DELETED], new.get(_DELETED), new.get("user_attributes"))
    return merged


def _append(old: Raw, new: Raw) -> Raw:
    """Return both arrays as one; the newer value alone where either is none."""
    try:
        return Raw(rawjson.encode_array(rawjson.elements(old) + rawjson.elements(new)))
    except rawjson.ShapeError:
        return new


def _union(old: Raw, new: Raw | None, attributes: Raw | None) -> Raw:
    """Return old deletions that were not set again, then the new ones, each name once."""
    plain = _plain_union(bytes(old), bytes(new or b"[]"), bytes(attributes or b""))
    if plain is not None:
        return plain
    try:
        again = _set(attributes)
        names = [n for n in rawjson.elements(old) if rawjson.name_token(bytes(n)) not in again]
        both = names + (rawjson.elements(new) if new is not None else [])
    except rawjson.ShapeError:
        return old if new is None else new
    return Raw(
        rawjson.encode_array(
            list({rawjson.name_token(bytes(name)): name for name in both}.values())
        )
    )


def _plain_union(old: bytes, new: bytes, attributes: bytes) -> Raw | None:
    """Return the union where all names are texts without an escape; None: look at each."""
    if b"\\" in old or b"\\" in new or b"\\" in attributes:
        return None
    try:
        again = _KEYS(attributes) if attributes[:1] == b"{" else {}
        names = dict.fromkeys(name for name in _TEXTS(old) if name not in again)
        return Raw(_encode([*(names | dict.fromkeys(_TEXTS(new)))]))
    except msgspec.DecodeError:
        return None


def _set(attributes: Raw | None) -> frozenset[bytes]:
    if attributes is None:
        return frozenset()
    try:
        return frozenset(rawjson.quote(key) for key in rawjson.fields(attributes))
    except rawjson.ShapeError:
        return frozenset()

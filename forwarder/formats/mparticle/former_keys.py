"""How uploads were keyed before ``device-2`` and ``session-2``: for replays below the switch (L2).

These rules are never changed: windows, entries and batches under their keys are in Kafka. They
believed every device id whatever it said, took no notice of user identities, and named a session
by ``session_uuid``, else by ``session_id``, as it was spelled.
"""

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from forwarder.formats import rawjson
from forwarder.formats.contract import FormerRule, Upload
from forwarder.formats.mparticle.identity import DEVICE_ID_KEYS, members
from forwarder.formats.rawjson import ABSENT

_EMPTY = b'""'
_NOTHING = frozenset({b"", rawjson.NULL, _EMPTY})


class _Data(msgspec.Struct, frozen=True, gc=False):
    session_uuid: Raw = ABSENT
    session_id: Raw = ABSENT


class _Event(msgspec.Struct, gc=False):
    data: _Data = _Data()


_EVENTS = msgspec.json.Decoder(list[_Event]).decode


def key_as_before(upload: Upload) -> Upload:
    """Return an upload as it was keyed by these rules; made once for all lanes."""
    if upload.former is None:
        key = _device(upload)
        sessions = _sessions(upload.body) if upload.sessions else []
        upload.former = replace(upload, device=key, owner=key, sessions=sessions, name=b"")
    return upload.former


def _device(upload: Upload) -> bytes:
    fields = rawjson.fields(upload.context)
    device = _token(fields.get("mp_deviceid", ABSENT))
    if device == _EMPTY and "device_info" in fields:
        found = [_token(raw) for raw in members(bytes(fields["device_info"]), DEVICE_ID_KEYS)]
        device = next((token for token in found if token != _EMPTY), _EMPTY)
    mpid = _token(fields.get("mpid", ABSENT))
    if device == mpid == _EMPTY:
        return upload.device  # a key of its own by both rules
    return b"%b,%b,%b,%b" % (upload.environment, upload.application, device, mpid)


def _sessions(body: bytes) -> list[bytes]:
    raw = b"[%b]" % body
    try:
        return [
            _session_name_before(event.data.session_uuid, event.data.session_id)
            for event in _EVENTS(raw)
        ]
    except msgspec.DecodeError:
        return [_slow_name(element) for element in rawjson.elements(raw)]


def _slow_name(element: Raw) -> bytes:
    data = rawjson.fields(bytes(element)).get("data", ABSENT)
    fields = rawjson.fields(bytes(data)) if bytes(data)[:1] == b"{" else {}
    return _session_name_before(
        fields.get("session_uuid", ABSENT), fields.get("session_id", ABSENT)
    )


def _session_name_before(uuid: Raw, number: Raw) -> bytes:
    name = bytes(uuid)
    if name in _NOTHING:
        name = bytes(number)
    return b"" if name in _NOTHING else name


def _token(raw: Raw) -> bytes:
    value = bytes(raw)
    return _EMPTY if value in _NOTHING else rawjson.name_token(value)


RULES = {
    "device-1": FormerRule(by_session=False, keyed=key_as_before),
    "session-1": FormerRule(by_session=True, keyed=key_as_before),
}
"""By their stored names."""

"""The record of a topic with ``format: mparticle``, as a gateway writes it: one upload.

Its bytes are those that came, but for two members: ``api_key`` is that of the credentials which
sent it, and ``api_keys`` is left out, so that no upload passes for another app's;
``environment`` is that of the input where the upload names none. The Kafka key is what orders it:
the device id, else the mpid, else ``source_request_id``, else a digest of the upload.
"""

from hashlib import blake2b

import msgspec
from msgspec import Raw

from forwarder.formats import rawjson
from forwarder.formats.contract import Reject
from forwarder.formats.mparticle.decode import MParticleDecoder
from forwarder.formats.mparticle.identity import NO_ID, ordering_id, token_of
from forwarder.formats.rawjson import ABSENT
from forwarder.model import Partition, Reason


class UploadRecord(msgspec.Struct, frozen=True, gc=False):
    """What is written of an upload, and how many events it has."""

    key: bytes
    value: bytes
    events: int


class UploadRecords:
    """Makes records of uploads. What it refuses is what the decoder of such a topic would.

    Caller: the Events API of a gateway.
    """

    def __init__(self) -> None:
        self._decoder = MParticleDecoder(Partition("", 0), sessions=False, places=False)

    def make(self, upload: bytes, api_key: str, environment: str) -> UploadRecord | Reject:
        """Return the record of an upload that came with these credentials, or why it is none."""
        upload = upload.strip(b" \t\r\n")
        if upload[:1] != b"{":
            return Reject(Reason.NOT_AN_UPLOAD, "not a JSON object")
        decoded = self._decoder.decode(upload, 0, 0, 0)
        if isinstance(decoded, Reject):
            return decoded
        fields = rawjson.fields(upload)
        fields.pop("api_keys", None)
        fields["api_key"] = Raw(rawjson.quote(api_key))
        if token_of(bytes(fields.get("environment", ABSENT))) == NO_ID:
            fields["environment"] = Raw(rawjson.quote(environment))
        token = ordering_id(fields)
        key = blake2b(upload, digest_size=16).hexdigest().encode() if token == NO_ID else token
        events = sum([len(one.types) for one in decoded])
        return UploadRecord(key.strip(b'"'), rawjson.encode_object(fields), events)

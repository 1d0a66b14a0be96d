"""What a match compares of an upload's context: its platform, and the keys of its app."""

from collections.abc import Mapping

import msgspec
from msgspec import Raw

from forwarder.formats import rawjson
from forwarder.formats.contract import Upload
from forwarder.formats.mparticle.identity import PLATFORM, first_member_token
from forwarder.formats.rawjson import ABSENT


class _Matched(msgspec.Struct, gc=False):
    device_info: Raw = ABSENT
    api_key: Raw = ABSENT
    api_keys: Raw = ABSENT


_MATCHED = msgspec.json.Decoder(_Matched).decode


def note(upload: Upload, fields: Mapping[str, Raw]) -> None:
    """Note in an upload what a match compares of these members of its context."""
    device = bytes(fields.get("device_info", ABSENT))
    upload.platform = first_member_token(device, PLATFORM)
    found = [bytes(fields["api_key"])] if "api_key" in fields else []
    if "api_keys" in fields and bytes(several := fields["api_keys"])[:1] == b"[":
        found += [bytes(element) for element in rawjson.elements(several)]
    upload.api_keys = tuple(found)


def read(upload: Upload) -> None:
    """Note it of a context that nobody has read yet."""
    try:
        told = msgspec.structs.asdict(_MATCHED(upload.context))
    except msgspec.DecodeError:  # half a surrogate pair
        told = rawjson.fields(upload.context)
    note(upload, {name: raw for name, raw in told.items() if raw is not ABSENT})

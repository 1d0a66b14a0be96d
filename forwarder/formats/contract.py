"""What a decoder hands to collecting: an upload, whose it is, and what its windows are keyed by."""

from hashlib import blake2b

import msgspec
from msgspec import Raw

from forwarder.model import Piece


class Names(msgspec.Struct, frozen=True, gc=False):
    """The top-level keys of an upload without its events; one object for equal lists of keys.

    ``plain`` tells that no key among them needs more than "the newest wins" when merged.
    """

    keys: frozenset[str]
    plain: bool
    identities: bool


class Upload(msgspec.Struct, gc=False):
    """One decoded upload.

    ``offset`` is its record's, ``start`` the index of its first event in the record, ``time``
    its record time and ``clock`` the partition's record clock, both in milliseconds.
    ``device`` is the device key, ``owner`` what its windows are keyed by: who may share a document.
    ``environment`` and ``package`` are tokens. ``types`` and ``sessions`` have one entry per
    event (sessions are empty unless asked for); ``governed`` lists the events that may carry a
    location. ``body`` is the events joined by commas. ``fields`` are views of the record,
    ``context`` is the same as an object of its own, without nulls. ``forms`` and ``bodies`` hold
    the events as the lanes' transforms have left them, so that lanes alike share the work; so
    do, in a replay, ``name``, the digest of the owner, and ``former``, the upload by former rules.
    ``merged`` is what its context makes of the one of a window that it was last held against.
    ``size``: its bytes of the record. ``keyless``: it has no key ``events``; ``used``: it has no
    events, and touched a window all the same, or became a document.
    """

    offset: int
    start: int
    time: int
    clock: int
    device: bytes
    owner: bytes
    environment: bytes
    package: bytes
    types: list[str]
    sessions: list[bytes]
    governed: list[int]
    body: bytes
    fields: dict[str, Raw]
    context: bytes
    names: Names
    forms: dict[int, list[bytes]] | None = None
    bodies: dict[int, bytes] | None = None
    name: bytes = b""
    former: "Upload | None" = None
    merged: "tuple[bytes, tuple[bytes, Names]] | None" = None
    size: int = 0
    keyless: bool = False
    used: bool = False


Kept = tuple[Upload, list[Piece]]
"""What a lane keeps of an upload; no pieces: its context alone."""


def digest(key: bytes) -> bytes:
    """Return the 16 bytes that stand for a key outside the process."""
    return blake2b(key, digest_size=16).digest()

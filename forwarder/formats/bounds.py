"""What a record may take of a worker, whatever it claims: nesting, and how many parts."""

import msgspec
from msgspec import Raw

# Nesting is bounded by the stack that is left: whoever decodes an upload's parts later may
# stand deeper than decode, so uploads with this many brackets have to fit with a margin.
_BRACKETS = 600
_STACK_MARGIN = 120
SHORT = 2 * _BRACKETS
"""Bytes of a record that cannot have more of anything than it may: nobody need look."""

MAX_VALUES = 1_000_000
MAX_EVENTS = 100_000
MAX_UPLOADS = 10_000
"""Commas, events and uploads of a record, whatever its size: each takes up to a hundred bytes, an
upload a kilobyte, where it has only two or three in the record. An upload of an SDK has 256 KB at
most (docs/mparticle-format.md), a bulk request 100 of them."""

MAX_REPEATED_BYTES = 16 * 1024 * 1024
"""Bytes of contexts of uploads that are cut out of one, and repeat what it has: an endpoint of
Pinpoint's has 15 KB at most, a request 100 events."""

_FIELDS = msgspec.json.Decoder(dict[str, Raw]).decode


class TooManyError(Exception):
    """A record has more parts than a worker has memory for."""


def check_number(number: int, most: int, of: str) -> None:
    """Raise ``TooManyError`` for a record with more parts of a kind than there may be."""
    if number > most:
        message = f"has more than {most:,} {of}: send fewer in a record"
        raise TooManyError(message)


def check_record(value: bytes) -> None:
    """Raise RecursionError for a record that nests too deeply, TooManyError for too many values.

    Caller: a decoder, first of all; it costs a short record nothing.
    """
    if len(value) > SHORT and value.count(b"[") + value.count(b"{") > _BRACKETS:
        _fits(value, _STACK_MARGIN)
    if len(value) > MAX_VALUES:
        check_number(value.count(b","), MAX_VALUES, "commas")


def _fits(value: bytes, margin: int) -> None:
    """Raise RecursionError unless the value can be decoded ``margin`` calls deeper."""
    if margin:
        _fits(value, margin - 1)
        return
    try:
        _FIELDS(value)
    except msgspec.DecodeError:
        return

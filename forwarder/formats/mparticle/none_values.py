"""Tell which values of an id name nobody: SDKs and platforms send them where they know none.

The table with its sources is in docs/mparticle-format.md. It holds for every id: of devices and
users, each user identity, and sessions.
"""

import re
from hashlib import blake2b

from forwarder.formats import rawjson
from forwarder.formats.memo import Memo

NONE = b'""'
"""The token of an id that is not there, or that means none."""

WORDS = frozenset({
    "unknown", "null", "(null)", "<null>", "undefined", "none", "nil", "<nil>", "(nil)",
    "optional(nil)", "n/a", "na", "nan", "-1", "true", "false", "[]", "{}", "[object object]",
    "not set", "(not set)", "not available", "anonymous", "anon", "guest", "android", "deface",
    "9774d56d682e549c", "02:00:00:00:00:00",
})  # fmt: skip
"""What means none as a whole, case folded and without white space around it."""

_ZERO = re.compile(r"[-+0:.,_{}()*\s\0]*|[-+]?0+(\.0+)?[eE][-+]?[0-9]+")
"""Nothing, zeros in any number and grouping, a number that is zero, or asterisks."""

_PADDING = b'"-+0:.,_{}()* \t\r\n'
_LONGEST = max(map(len, WORDS))
_NUMBER = b"-0123456789"
_looked_at: Memo[bytes, bytes] = Memo(8192)

LONGEST_ID = 256
"""Bytes of a token that is kept as it came; a longer one is named by its digest: window keys are
stored with every window, several times, and have to fit."""


def id_of(value: bytes) -> bytes:
    """Return the token of an id: one spelling for equal ids (42 = "42"), ``NONE`` for none.

    A value that is neither a text nor a number names nobody. One of more than ``LONGEST_ID`` bytes
    becomes its digest.
    """
    first = value[:1]
    if len(value.strip(_PADDING)) > _LONGEST:  # nearly always: too long for a word, and no zero
        if first != b'"':
            return short(b'"%b"' % value) if first in _NUMBER else NONE
        if b"\\" not in value and value.isascii():
            return value if len(value) <= LONGEST_ID else short(value)
    known = _looked_at.get(value)
    # An answer is short, or the id itself.
    return _looked_at.keep(value, _look(value), 2 * len(value)) if known is None else known


def short(token: bytes) -> bytes:
    """Return a token as it is, or the one that stands for a long one."""
    if len(token) <= LONGEST_ID:
        return token
    return b'"~%b"' % blake2b(token, digest_size=16).hexdigest().encode()


def _look(value: bytes) -> bytes:
    text = rawjson.text_of(value)
    return NONE if text is None or means_none(text) else short(rawjson.token(value))


def means_none(text: str) -> bool:
    """Tell whether a text stands for no id at all."""
    return text.strip().casefold() in WORDS or _ZERO.fullmatch(text) is not None

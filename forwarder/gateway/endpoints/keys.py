"""Ids as the stores' indexes know them."""

import hashlib

LONGEST = 512
"""Bytes: PostgreSQL takes no index row above about 2,700, and one row has two ids."""


def index_key(text: str) -> bytes:
    """Return an id as bytes of bounded length, another for every id.

    An id of more than ``LONGEST`` bytes is named by its digest, after a byte that UTF-8 never
    begins with. As bytes, because a text of PostgreSQL holds no NUL, and depends on the encoding
    of its database.
    """
    encoded = text.encode()
    if len(encoded) <= LONGEST:
        return encoded
    return b"\xff" + hashlib.sha256(encoded).digest()

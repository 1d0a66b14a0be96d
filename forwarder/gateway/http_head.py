"""What is known of a request before its body: its line and its header, as they came."""

from collections.abc import Mapping, Sequence

import msgspec


class RequestHead(msgspec.Struct, frozen=True, gc=False):
    """The head of a request. Made by a connection, read by routes, authentication and CORS.

    ``path`` and ``query`` are as received, percent-encoded, without the ``?``. ``header``: lookup
    by name whatever its case, of equal names the first; ``fields``: every field in order, names and
    values as bytes. ``length``: the body's as announced, None where it comes in chunks.
    """

    method: str
    path: str
    query: str
    header: Mapping[str, str]
    fields: Sequence[tuple[bytes, bytes]]
    length: int | None
    arrival_ms: int

"""Records that are no uploads: each has to become one dead letter and stop nothing."""

import random
from collections.abc import Iterator
from typing import NamedTuple

EVENT = b'{"event_type":"custom_event","data":{"event_name":"alone"}}'

SHAPES: tuple[tuple[str, bytes], ...] = (
    ("invalid_json", b'{"events":[{"event_type":"screen_view","data":{"screen_name":"cut of'),
    ("invalid_json", b"<html><body>502 Bad Gateway</body></html>"),
    ("invalid_json", b'{"mpid":1,"events":[]} {"mpid":2,"events":[]}'),
    ("invalid_utf8", b'{"mpid":1,"user_attributes":{"name":"J\xf6rg"},"events":[]}'),
    ("not_an_upload", b"42"),
    ("not_an_upload", b'"an upload"'),
    ("not_an_upload", EVENT),
    ("not_an_upload", b'{"mpid":1,"events":{"event_type":"custom_event"}}'),
    ("not_an_upload", b'[{"mpid":1,"events":[]},' + EVENT + b"]"),
    ("not_an_upload", b"{}"),
)
LATER: tuple[tuple[str, bytes], ...] = (
    ("not_an_upload", b'{"type":"track","event":"Ordered","userId":"u","context":{"ip":"::1"}}'),
    ("not_an_upload", b'{"mpid":1,"payload":{"events":[]}}'),
    ("not_an_upload", b'{"mpid":1,"events":[],"events":[]}'),
)
"""What releases before the keying rule ``device-2`` took for uploads."""


class Malformed(NamedTuple):
    """One record that cannot be used, and the ``reason`` its dead letter has to give."""

    key: bytes
    value: bytes
    timestamp_ms: int
    reason: str


def poison(
    seed: int, count: int, start_ms: int, span_ms: int = 60_000, *, plain: bool = False
) -> Iterator[Malformed]:
    """Yield malformed records, every shape in turn, spread evenly over ``span_ms``.

    ``plain``: only what every release refuses.
    """
    shapes = SHAPES if plain else SHAPES + LATER
    rng = random.Random(seed)  # noqa: S311  # repeatable, not secret
    for index in range(count):
        reason, value = shapes[index % len(shapes)]
        key = b"broken-%d" % rng.randrange(1_000)
        yield Malformed(key, value, start_ms + span_ms * index // count, reason)

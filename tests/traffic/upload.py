"""What the generator hands out: a Kafka record, and what an oracle has to know about it."""

from typing import NamedTuple


class Upload(NamedTuple):
    """One record of the input topic, keyed by device.

    ``event_ids``, ``event_types`` and ``sessions`` have one entry per event, in the order of the
    record; a session is named by ``session_id``, else by ``session_uuid``, else it is empty.
    ``environment`` is ``production`` where the upload says nothing; ``mpid`` is its text, empty
    where there is none. An upload without events is a heartbeat.
    """

    key: bytes
    value: bytes
    timestamp_ms: int
    device: str
    event_ids: tuple[str, ...]
    event_types: tuple[str, ...]
    sessions: tuple[str, ...]
    environment: str
    application: str
    platform: str
    api_key: str
    mpid: str

"""What an operator's command puts into a stream of mParticle's batches to see whether it can."""

import msgspec

from forwarder.config.connection import Connection


def probe_document(connection: Connection, name: str, _: int, sent_at: str) -> bytes:
    """Return a document that readers can tell from a batch: no event, a type of its own."""
    return msgspec.json.encode({
        "message_type": "forwarder_test",
        "message_id": name,
        "connection": connection.name,
        "sent_at": sent_at,
        "events": [],
    })  # fmt: skip

"""All that is used of aiokafka's private names, and all that is replaced in it.

aiokafka 0.14 has no public way to any of it, so the dependency ends below 0.15, and a test for each
name fails where the next release has it no more or in another form. Nothing outside of this package
touches a private name of the client. Modules by what they are about: connections, requests and
their bytes, consumers, producers and their senders, the batches that were fetched, and the records
of one.
"""

from forwarder.kafka.patches import (
    batches,
    connections,
    consumers,
    producers,
    records,
    senders,
    structs,
)

_installed = False


def install(max_unpacked_batch: int = records.LIMIT) -> None:
    """Patch the client of this process; ``max_unpacked_batch``: unpacked bytes of one batch.

    Caller: whoever composes a program, once, before it makes the first client. More than once
    changes the bound alone.
    """
    global _installed  # noqa: PLW0603  # what is patched is the process's, too
    batches.install(max_unpacked_batch)
    connections.install()
    consumers.install()
    producers.install()
    senders.install()
    structs.install()
    _installed = True


def check_installed() -> None:
    """Raise RuntimeError unless the client is patched. Caller: whoever makes one."""
    if not _installed:
        text = "the Kafka client is used as it comes: call forwarder.kafka.patches.install() first"
        raise RuntimeError(text)

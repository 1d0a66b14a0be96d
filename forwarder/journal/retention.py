"""For how long Kafka keeps the outbox: an operator may change it at any time."""

import structlog

from forwarder.clock import Clock
from forwarder.config.settings import Configuration, outbox_topic
from forwarder.errors import ForwarderError
from forwarder.kafka.admin import KafkaAdmin

log = structlog.get_logger()

EVERY = 60.0
"""Seconds for which an answer of Kafka is good."""


class OutboxRetention:
    """What ``retention.ms`` of the outbox topics says. Caller: the gauges."""

    def __init__(self, settings: Configuration, cluster: KafkaAdmin, clock: Clock) -> None:
        """Create; until Kafka answers, what the configuration says is true."""
        self._clock = clock
        names = [topic.name for topic in settings.kafka.topics]
        self._topics = {name: outbox_topic(settings.kafka.group_id, name) for name in names}
        configured = settings.journal.outbox_retention_ms / 1000
        self._kept: dict[str, float | None] = dict.fromkeys(names, configured)
        self._cluster = cluster
        self._asked = float("-inf")

    def seconds(self, topic: str) -> float | None:
        """Return for how many seconds the outbox of an input topic is kept; None: for ever."""
        return self._kept.get(topic)

    async def refresh(self) -> None:
        """Ask Kafka, if that was long ago; what it does not tell stays as it was."""
        now = self._clock.steady()
        if now - self._asked < EVERY:
            return
        self._asked = now
        try:
            found = await self._cluster.settings(self._topics.values())
        except ForwarderError as error:
            log.debug("retention.unknown", error=str(error))
            return
        for name, outbox in self._topics.items():
            told = found.get(outbox)
            if told is not None and not isinstance(told, str) and "retention.ms" in told:
                kept = int(told["retention.ms"])
                self._kept[name] = None if kept < 0 else kept / 1000

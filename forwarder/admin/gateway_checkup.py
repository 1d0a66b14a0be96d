"""Look at a Kafka as a gateway would use it: the topics it writes to, their limits, rights.

Runs beside live gateways: what it leaves in Kafka is the id of a producer that wrote nothing.
"""

from collections.abc import Iterator, Mapping

from forwarder.admin.kafka_checkup import KNOCK_SECONDS, knock, replica_findings
from forwarder.config.gateway import Gateway
from forwarder.config.settings import Kafka
from forwarder.config.yaml.units import format_size
from forwarder.errors import ForwarderError
from forwarder.journal.topics import message_limit
from forwarder.kafka.admin import KafkaAdmin
from forwarder.kafka.idempotent import IdempotentProducer
from forwarder.ops.diagnosis import Finding, FindingGrade, fail, note, ok

UPLOAD_BYTES = 256 * 1024
"""The largest upload of mParticle's Events API (its documentation, "Payload size")."""

_ENVELOPE_BYTES = 4 * 1024
"""What a record holds beside endpoint and event, and Kafka beside the record."""


class GatewayCheckup:
    """One look at the Kafka of a gateway."""

    def __init__(self, kafka: Kafka, gateway: Gateway, client_id: str) -> None:
        """Create; connects in ``findings``."""
        self._kafka = kafka
        self._gateway = gateway
        self._client_id = client_id
        self._cluster = KafkaAdmin(kafka, client_id, KNOCK_SECONDS)

    async def findings(self) -> list[Finding]:
        """Return what was found; what does not answer is a finding, too."""
        found: list[Finding] = []
        try:
            found += await knock(self._kafka, self._client_id)
            if any(one.grade is not FindingGrade.FAIL for one in found):
                await self._look(found)
        except ForwarderError as error:
            found.append(fail(error.what, error.remedy))
        finally:
            await self._cluster.close()
        return found

    async def _look(self, found: list[Finding]) -> None:
        """Look at the topics, then ask for the id of a producer as a gateway does."""
        wanted = self._wanted()
        counts = await self._cluster.partition_counts()
        there = [topic for topic in wanted if topic in counts]
        settings = await self._cluster.settings(there)
        for topic, most in wanted.items():
            if topic not in counts:
                what = f"topic {topic} is not there, or may not be seen"
                found.append(fail(what, "create it, or grant Describe on it: a gateway does not"))
            else:
                room = message_limit(settings.get(topic))
                found += _sizes(topic, counts[topic], most, room)
        found += _rights(await self._cluster.topic_rights(there) if there else {})
        found += replica_findings(there, settings, await self._cluster.in_sync())
        if len(there) == len(wanted):
            found.append(await self._producer(there))

    def _wanted(self) -> Mapping[str, int]:
        """Return by topic the largest record that a request may make."""
        limits, wanted = self._gateway.limits, dict[str, int]()
        if api := self._gateway.pinpoint:
            wanted[api.topic] = limits.event_bytes + limits.endpoint_bytes + _ENVELOPE_BYTES
        if events := self._gateway.mparticle:
            wanted[events.topic] = UPLOAD_BYTES + _ENVELOPE_BYTES
        return wanted

    async def _producer(self, topics: list[str]) -> Finding:
        """Find out whether an idempotent producer is let in, by being one that writes nothing."""
        producer = IdempotentProducer(self._kafka, self._client_id, self._cluster, topics, {})
        try:
            await producer.start()
        except ForwarderError as error:
            return fail(error.what, error.remedy)
        finally:
            await producer.close()
        return ok("an idempotent producer is let in")


def _sizes(topic: str, count: int, most: int, room: int) -> Iterator[Finding]:
    plural = "" if count == 1 else "s"
    size = format_size(room)
    yield ok(f"topic {topic}: {count} partition{plural}, messages up to {room} bytes")
    if room < most:
        what = f"topic {topic} takes messages of {size}, a request may make {format_size(most)}"
        remedy = (
            f"raise its max.message.bytes to {most}, or lower gateway.limits: what fits none is"
        )
        yield Finding(FindingGrade.NOTE, what, f"{remedy} refused with 413")


def _rights(granted: Mapping[str, frozenset[str]] | None) -> Iterator[Finding]:
    if granted is None:
        yield note("this Kafka is too old to say what is granted")
        return
    for topic, rights in granted.items():
        if "Write" not in rights:
            yield fail(f"topic {topic}: Write not granted", f"grant Write on topic {topic}")
        if "DescribeConfigs" not in rights:
            what = f"topic {topic}: DescribeConfigs not granted, so that its limit is not known"
            yield Finding(FindingGrade.NOTE, what, f"grant DescribeConfigs on topic {topic}")

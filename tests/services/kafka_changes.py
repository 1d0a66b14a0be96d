"""What an administrator does to a running Kafka: rights taken away and given back, settings."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest

KINDS = {"topic": 2, "group": 3, "cluster": 4, "transactional-id": 5}
OPERATIONS = {
    "Read": 3,
    "Write": 4,
    "Create": 5,
    "Delete": 6,
    "Alter": 7,
    "Describe": 8,
    "DescribeConfigs": 10,
    "IdempotentWrite": 12,
}
LITERAL, PREFIXED = 3, 4
DENY, ALLOW = 2, 3

_SET_ON_THE_TOPIC = 1
"""``DYNAMIC_TOPIC_CONFIG`` of DescribeConfigs: what stands on the topic itself."""


class Changes:
    """Changes of one cluster, asked for by its owner."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap

    async def grant(self, resource: str, operations: str) -> None:
        """Grant what a line of the printed list says, such as ``topic t`` and ``Read, Write``."""
        for operation in operations.split(", "):
            await self._write(resource, operation, ALLOW)

    async def deny(self, resource: str, operation: str) -> None:
        """Take one right away, whatever else is granted."""
        await self._write(resource, operation, DENY)

    async def deny_no_more(self, resource: str, operation: str) -> None:
        """Give back what ``deny`` took."""
        kind, name, pattern = _parts(resource)
        request = DeleteAclsRequest(
            KINDS[kind], name, pattern, "User:worker", "*", OPERATIONS[operation], DENY
        )
        async with self._admin() as admin:
            answer = await admin._client.send(admin._client.get_random_node(), request)  # noqa: SLF001
        assert [0] == [one[0] for one in answer.filter_responses]

    async def set_topic(self, topic: str, settings: Mapping[str, str | None]) -> None:
        """Set some settings of a topic, and leave the others; None: as the broker has it."""
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        async with self._admin() as admin:
            [answer] = await admin.describe_configs([resource])
            entries = answer.resources[0][4]
            kept: dict[str, str | None] = {
                name: value for name, value, _, source, *_ in entries if source == _SET_ON_THE_TOPIC
            }
            wanted = {k: v for k, v in (kept | dict(settings)).items() if v is not None}
            changed = ConfigResource(ConfigResourceType.TOPIC, topic, configs=wanted)
            [told] = await admin.alter_configs([changed])
            assert [0] == [one[0] for one in told.resources]

    async def _write(self, resource: str, operation: str, permission: int) -> None:
        kind, name, pattern = _parts(resource)
        request = CreateAclsRequest(
            KINDS[kind], name, pattern, "User:worker", "*", OPERATIONS[operation], permission
        )
        async with self._admin() as admin:
            answer = await admin._client.send(admin._client.get_random_node(), request)  # noqa: SLF001
        assert [0] == [code for code, _ in answer.creation_responses]

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator[Any]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()


def _parts(resource: str) -> tuple[str, str, int]:
    kind, _, name = resource.partition(" ")
    pattern = PREFIXED if name.endswith(" (prefixed)") else LITERAL
    return kind, name.removesuffix(" (prefixed)") or "kafka-cluster", pattern

"""A fake AWS (Kinesis, Firehose, STS) that can do what no emulator does: fail on request.

In a test: ``async with FakeAws() as aws: aws.make_stream("s"); aws.fault("partial", rate=0.2)``.
As a process: ``python -m tests.fake_aws --port 0 --books FILE``, see ``control``.
"""

import asyncio
from collections.abc import Sequence
from typing import Self

from forwarder.clock import Clock
from tests.fake_aws import control, dispatch
from tests.fake_aws.accounts import (
    CUSTOMER_ACCOUNT,
    HOME_ACCOUNT,
    ROOT_KEY,
    ROOT_SECRET,
    Keys,
    Role,
)
from tests.fake_aws.books import Books
from tests.fake_aws.policy import Document, allow, root_arn, trust
from tests.fake_aws.shards import DeliveryStream, Limits, Stored, Stream, firehose_limits, unlimited
from tests.fake_aws.web import Connection, Reply, Request
from tests.fake_aws.world import Seen, Terms, World

ROOT = Keys(ROOT_KEY, ROOT_SECRET)
CUSTOMER_ROOT = Keys(CUSTOMER_ACCOUNT, ROOT_SECRET)
UNLIMITED = unlimited(Limits())
UNLIMITED_FIREHOSE = unlimited(firehose_limits())

__all__ = [
    "CUSTOMER_ACCOUNT",
    "CUSTOMER_ROOT",
    "HOME_ACCOUNT",
    "ROOT",
    "UNLIMITED",
    "UNLIMITED_FIREHOSE",
    "FakeAws",
    "Keys",
    "Limits",
    "Stored",
    "Terms",
]


class FakeAws:
    """One endpoint on loopback for all three services, as long as it is entered."""

    def __init__(
        self,
        terms: Terms | None = None,
        clock: Clock | None = None,
        books: Books | None = None,
        seed: int = 0,
    ) -> None:
        """Prepare; nothing listens yet."""
        self.world = World(terms or Terms(), clock, books, seed)
        self.url = ""
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Listen on a free port."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self.stop()

    async def start(self, port: int = 0) -> int:
        """Listen; return the port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self._answer, self._connections), "127.0.0.1", port
        )
        found: int = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{found}"
        return found

    async def stop(self) -> None:
        """Break what is open and listen no more."""
        assert self._server is not None
        self._server.close()
        for connection in list(self._connections):
            connection.abort()
        await self._server.wait_closed()

    def _answer(self, request: Request) -> Reply:
        if request.target.startswith(control.PATH):
            return control.answer(self.world, request)
        return dispatch.answer(self.world, request)

    @property
    def streams(self) -> dict[str, Stream]:
        """Return the data streams by name."""
        return self.world.streams

    @property
    def delivery_streams(self) -> dict[str, DeliveryStream]:
        """Return the delivery streams by name."""
        return self.world.delivery_streams

    @property
    def calls(self) -> list[Seen]:
        """Return every call, in the order in which they were answered."""
        return self.world.calls

    def actions(self) -> list[str]:
        """Return the actions called, in order."""
        return [seen.call.action for seen in self.calls]

    def fault(self, name: str, **arguments: object) -> int:
        """Begin a fault, see ``faults``; return its number. Raises ValueError."""
        return control.begin(self.world, {"fault": name, **arguments})

    def clear(self, number: int | None = None, stream: str | None = None) -> None:
        """End all faults, or one, or those of one stream."""
        self.world.faults.clear(number, stream)

    def variables(self, keys: Keys = ROOT) -> dict[str, str]:
        """Return what a process needs in its environment to talk to this."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": keys.access_key_id,
            "AWS_SECRET_ACCESS_KEY": keys.secret_access_key,
        }

    def make_stream(
        self,
        name: str,
        account: str = CUSTOMER_ACCOUNT,
        shards: int = 2,
        limits: Limits | None = None,
    ) -> Stream:
        """Make a data stream, or make it anew; AWS's limits unless told."""
        return self.world.make_stream(name, account, shards, limits)

    def make_delivery_stream(
        self, name: str, account: str = CUSTOMER_ACCOUNT, limits: Limits | None = None
    ) -> DeliveryStream:
        """Make a delivery stream, or make it anew; AWS's limits unless told."""
        return self.world.make_delivery_stream(name, account, limits)

    def make_role(
        self,
        name: str,
        actions: Sequence[str] = ("kinesis:PutRecord",),
        external_id: str | None = None,
        account: str = CUSTOMER_ACCOUNT,
    ) -> str:
        """Make a role that the home account may assume; return its ARN."""
        trusted = trust(root_arn(HOME_ACCOUNT), external_id)
        return self.world.accounts.make_role(name, account, allow(actions), trusted).arn

    def set_role_policy(
        self, name: str, actions: Sequence[str], account: str = CUSTOMER_ACCOUNT
    ) -> None:
        """Let a role do these actions and nothing else."""
        self._role(name, account).policy = allow(actions)

    def set_trust(
        self, name: str, external_id: str | None, account: str = CUSTOMER_ACCOUNT
    ) -> None:
        """Change the ExternalId that a role asks for."""
        self._role(name, account).trust = trust(root_arn(HOME_ACCOUNT), external_id)

    def set_documents(self, role: str, policy: Document, trusted: Document) -> None:
        """Give a role (by ARN) these documents; it is made if it is not there."""
        _, _, _, _, account, named = role.split(":")
        name = named.removeprefix("role/")
        self.world.accounts.make_role(name, account, policy, trusted)

    def make_user(
        self,
        name: str,
        actions: Sequence[str] = ("kinesis:PutRecord",),
        account: str = CUSTOMER_ACCOUNT,
    ) -> Keys:
        """Make a user with a policy and return its access keys."""
        return self.world.accounts.make_user(name, account, allow(actions))

    def read(self, stream: str) -> list[Stored]:
        """Return every record of a stream, in the order in which they were stored."""
        return self.streams[stream].order

    def objects(self, name: str) -> list[bytes]:
        """Return what a delivery stream wrote, joined as it is in a bucket."""
        return [b"".join(self.delivery_streams[name].records)]

    def shards(self, stream: str) -> dict[str, list[Stored]]:
        """Return every record of a stream by shard."""
        return {shard.name: shard.records for shard in self.streams[stream].shards}

    def _role(self, name: str, account: str) -> Role:
        return self.world.accounts.roles[f"arn:aws:iam::{account}:role/{name}"]

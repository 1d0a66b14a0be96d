"""An idempotent producer without a broker: what it makes of what the client and the admin say."""

import asyncio
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import (
    MessageSizeTooLargeError,
    NotEnoughReplicasError,
    OutOfOrderSequenceNumber,
    TopicAuthorizationFailedError,
)

from forwarder.config.settings import Kafka
from forwarder.errors import JournalError
from forwarder.kafka.idempotent import (
    BATCH_BYTES,
    DEFAULT_MESSAGE_BYTES,
    IdempotentProducer,
    ProduceError,
)

KAFKA = Kafka(("127.0.0.1:1",), ())


class Admin:
    """What the cluster says."""

    def __init__(self) -> None:
        self.counts = {"t": 3}
        self.rights: dict[str, frozenset[str]] | None = None
        self.told: dict[str, Mapping[str, str] | str] = {"t": {"max.message.bytes": "5000"}}
        self.down = False

    async def partition_counts(self) -> dict[str, int]:
        if self.down:
            text = "no answer"
            raise JournalError(text, "start the brokers")
        return self.counts

    async def topic_rights(self, _: Sequence[str]) -> dict[str, frozenset[str]] | None:
        return self.rights

    async def settings(self, _: Sequence[str]) -> dict[str, Mapping[str, str] | str]:
        return self.told


class Batch:
    """A batch under construction."""

    def __init__(self) -> None:
        self.values: list[bytes] = []

    def append(self, *, timestamp: None, key: bytes, value: bytes) -> object | None:
        del timestamp
        if self.values and len(value) > BATCH_BYTES:
            return None
        self.values.append(key + value)
        return self

    def size(self) -> int:
        return sum(map(len, self.values))


class Client:
    """The client's producer: each batch is answered with ``answer``."""

    def __init__(self, answer: BaseException | None) -> None:
        self.answer = answer
        self.client = SimpleNamespace(
            cluster=SimpleNamespace(partitions_for_topic=lambda _: {0, 1, 2, 3})
        )

    def create_batch(self) -> Batch:
        return Batch()

    async def send_batch(self, _: Batch, topic: str, partition: int) -> asyncio.Future[None]:
        del topic, partition
        future = asyncio.get_running_loop().create_future()
        if self.answer is None:
            future.set_result(None)
        else:
            future.set_exception(self.answer)
        return future


def producer(admin: Admin, limits: dict[str, int] | None = None) -> Any:  # noqa: ANN401
    made: Any = IdempotentProducer(KAFKA, "c", admin, ["t"], {} if limits is None else limits)  # type: ignore[arg-type]
    return made


async def failed(answer: BaseException, limits: dict[str, int] | None = None) -> ProduceError:
    made = producer(Admin(), limits)
    made._producer = Client(answer)  # noqa: SLF001  # the client's place
    with pytest.raises(ProduceError) as told:
        await made.send("t", 0, [(b"k", b"v" * 40_000)])
    return told.value


async def test_what_may_pass_is_tried_again_by_another_producer() -> None:
    for answer in (OutOfOrderSequenceNumber(), NotEnoughReplicasError(), OSError("reset")):
        error = await failed(answer)
        assert error.again
        assert not error.too_large


async def test_what_somebody_has_to_mend_is_not_tried_again_and_says_what() -> None:
    error = await failed(TopicAuthorizationFailedError("t"))
    assert not error.again
    assert "grant Write on topic t" in error.remedy


async def test_a_refused_size_lowers_the_limit_that_is_kept_for_the_next_producer() -> None:
    limits: dict[str, int] = {}
    error = await failed(MessageSizeTooLargeError(), limits)
    assert error.too_large
    assert not error.again
    assert 20_000 == limits["t"]
    for _ in range(9):
        await failed(MessageSizeTooLargeError(), limits)
    assert 16 * 1024 == limits["t"]


async def test_a_record_that_finds_no_room_in_its_batch_fails_it() -> None:
    made = producer(Admin())
    made._producer = Client(None)  # noqa: SLF001  # the client's place
    await made.send("t", 0, [(b"k", b"v"), (b"k", b"w")])
    with pytest.raises(ProduceError, match="more than") as told:
        await made.send("t", 0, [(b"k", b"v"), (b"k", b"w" * (BATCH_BYTES + 1))])
    assert not told.value.again


async def test_limits_are_those_of_the_topic_or_kafkas_own_where_nobody_tells() -> None:
    admin = Admin()
    made = producer(admin)
    assert DEFAULT_MESSAGE_BYTES == made.limit("t")
    admin.told = {"t": "TopicAuthorizationFailedError"}
    await made.ask_limits()
    assert DEFAULT_MESSAGE_BYTES == made.limit("t")
    admin.told = {"t": {"max.message.bytes": "5000"}}
    await made.ask_limits()
    assert 5000 == made.limit("t")


async def test_partitions_that_are_added_are_found_with_the_limits() -> None:
    made = producer(Admin())
    made._counts = {"t": 1}  # noqa: SLF001  # as started
    made._producer = Client(None)  # noqa: SLF001  # the client's place
    assert {0} == {made.partition("t", b"%d" % n) for n in range(50)}
    await made.ask_limits()
    assert {0, 1, 2, 3} == {made.partition("t", b"%d" % n) for n in range(50)}


def test_a_key_has_the_partition_that_kafkas_own_clients_give_it() -> None:
    made = producer(Admin())
    made._counts = {"t": 1000}  # noqa: SLF001  # as started
    # murmur2 of the Java client: UtilsTest.testMurmur2.
    known = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536}
    for key, digest in known.items():
        assert (digest & 0x7FFFFFFF) % 1000 == made.partition("t", key)


@pytest.mark.parametrize(
    ("changes", "reason", "remedy"),
    [
        ({"counts": {}}, "there is no topic t", "create topic t"),
        (
            {"rights": {"t": frozenset({"Describe"})}},
            "may be written to t",
            "grant Write on topic t",
        ),
        ({"down": True}, "no answer", "start the brokers"),
    ],
)
async def test_what_keeps_it_from_starting_is_said(
    changes: dict[str, Any], reason: str, remedy: str
) -> None:
    admin = Admin()
    for name, value in changes.items():
        setattr(admin, name, value)
    with pytest.raises(ProduceError) as told:
        await producer(admin).start()
    assert reason in told.value.what
    assert remedy in told.value.remedy


async def test_one_that_was_never_started_is_closed_all_the_same() -> None:
    made = producer(Admin())
    assert not made.ended
    await made.close()

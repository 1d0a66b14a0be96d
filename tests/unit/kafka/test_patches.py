"""Every private name of the Kafka client that is used is there, and has the form it is used in.

A release of aiokafka that changes one of them would leave the client as it comes, without a word.
"""
# ruff: noqa: SLF001  # what this is about

import importlib
import inspect
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition, conn
from aiokafka import client as connecting
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.conn import AIOKafkaConnection
from aiokafka.consumer import fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.producer import producer as producing_in
from aiokafka.producer.message_accumulator import MessageAccumulator, MessageBatch
from aiokafka.producer.sender import InitPIDHandler, Sender, SendProduceReqHandler
from aiokafka.producer.transaction_manager import TransactionManager
from aiokafka.protocol.struct import Struct
from aiokafka.protocol.types import Schema
from aiokafka.record import default_records, legacy_records

from forwarder.kafka import client, patches
from forwarder.kafka.patches import batches

ROOT = Path(__file__).parents[3]
ADVICE = "see forwarder/kafka/patches, and which release of aiokafka has changed it"

CLASS_NAMES: list[tuple[type[Any], str, list[str] | None]] = [
    (AIOKafkaAdminClient, "_send_request", ["self", "request", "node_id"]),
    (AIOKafkaClient, "_get_conn", None),
    (AIOKafkaClient, "_md_synchronizer", ["self"]),
    (AIOKafkaClient, "_metadata_update", None),
    (AIOKafkaClient, "force_metadata_update", ["self"]),
    (AIOKafkaConnection, "_handle_frame", ["self", "resp"]),
    (AIOKafkaConnection, "_read", None),
    (ClusterMetadata, "failed_update", ["self", "exception"]),
    (ClusterMetadata, "update_metadata", None),
    (GroupCoordinator, "request_rejoin", ["self"]),
    (InitPIDHandler, "handle_response", None),
    (MessageAccumulator, "fail_all", ["self", "exception"]),
    (SendProduceReqHandler, "_can_retry", None),
    (SubscriptionState, "subscription", None),
    (conn.OAuthAuthenticator.__mro__[1], "_build_oauth_client_request",
     ["self", "token", "token_extensions"]),
    (conn.OAuthAuthenticator.__mro__[1], "step", ["self", "payload"]),
    (default_records._DefaultRecordBatchPy, "_maybe_uncompress", ["self"]),
    (default_records._DefaultRecordBatchPy, "_read_msg", ["self", "decode_varint"]),
    (fetcher.Fetcher, "_fetch_requests_routine", ["self"]),
    (batches.SkippingPartitionRecords.__mro__[1], "_consume_aborted_up_to",
     ["self", "batch_offset"]),
    (batches.SkippingPartitionRecords.__mro__[1], "_contains_abort_marker", ["self", "next_batch"]),
    (batches.SkippingPartitionRecords.__mro__[1], "_unpack_records", ["self"]),
    (batches.EndAwareFetchResult.__mro__[1], "__init__",
     ["self", "tp", "assignment", "partition_records", "backoff"]),
    (batches.EndAwareFetchResult.__mro__[1], "getall", ["self", "max_records"]),
    (batches.EndAwareFetchResult.__mro__[1], "check_assignment", ["self", "tp"]),
    (batches.EndAwareFetchResult.__mro__[1], "_update_position", ["self"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("owner", "name", "parameters"),
    CLASS_NAMES,
    ids=[f"{owner.__name__}.{name}" for owner, name, _ in CLASS_NAMES],
)
def test_a_class_has_the_name_with_these_parameters(
    owner: type[Any], name: str, parameters: list[str] | None
) -> None:
    assert hasattr(owner, name), f"{owner.__name__} has no {name}: {ADVICE}"
    if parameters is not None:
        found = list(inspect.signature(getattr(owner, name)).parameters)
        assert parameters == found, f"{owner.__name__}.{name} takes {found}: {ADVICE}"


async def consumer() -> AsyncIterator[Any]:
    made = AIOKafkaConsumer(bootstrap_servers="127.0.0.1:1", group_id="g")
    yield made
    await made._client.close()
    made._closed = True


async def fetching() -> AsyncIterator[Any]:
    connections = AIOKafkaClient(bootstrap_servers="127.0.0.1:1")
    made = fetcher.Fetcher(connections, SubscriptionState())
    yield made
    await made.close()
    await connections.close()


async def connected() -> AsyncIterator[Any]:
    yield AIOKafkaConnection("127.0.0.1", 1, request_timeout_ms=1000)


async def unconnected() -> AsyncIterator[Any]:
    made = AIOKafkaClient(bootstrap_servers="127.0.0.1:1")
    yield made
    await made.close()


async def producing() -> AsyncIterator[Any]:
    made = AIOKafkaProducer(bootstrap_servers="127.0.0.1:1", transactional_id="t")
    yield made
    await made.stop()


async def administrating() -> AsyncIterator[Any]:
    made = AIOKafkaAdminClient(bootstrap_servers="127.0.0.1:1")
    yield made
    await made.close()


async def written() -> AsyncIterator[Any]:
    builder = SimpleNamespace(size=lambda: 0)
    yield MessageBatch(TopicPartition("raw", 0), builder, 1.0, 0.0)


async def transacting() -> AsyncIterator[Any]:
    yield TransactionManager("t", 1000)


async def unpacked_in_python() -> AsyncIterator[Any]:
    yield default_records._DefaultRecordBatchPy(bytearray(61))


Made = Callable[[], AsyncIterator[Any]]

INSTANCE_NAMES: list[tuple[Made, list[str]]] = [
    (consumer, ["_client", "_subscription"]),
    (fetching, ["_client", "_closed", "_fetch_task", "_in_flight", "_pending_tasks", "_records"]),
    (
        connected,
        [
            "_client_id",
            "_last_action",
            "_loop",
            "_reader",
            "_requests",
            "_versions",
            "_writer",
            "host",
            "port",
        ],
    ),
    (unconnected, ["_conns", "_md_update_fut", "_request_timeout_ms", "_sync_task", "cluster"]),
    (producing, ["_message_accumulator", "_sender", "_txn_manager", "client"]),
    (administrating, ["_client"]),
    (written, ["_drain_waiter"]),
    (transacting, ["_transaction_waiter"]),
    (unpacked_in_python, ["_buffer", "_next_record_index", "_pos"]),
]


@pytest.mark.parametrize(
    ("make", "name"), [(make, name) for make, names in INSTANCE_NAMES for name in names]
)
async def test_what_the_client_makes_has_the_name(make: Made, name: str) -> None:
    async for made in make():
        assert hasattr(made, name), f"{type(made).__name__} has no {name}: {ADVICE}"


@pytest.mark.parametrize(
    ("owner", "text"),
    [
        (AIOKafkaConsumer, "self._coordinator = GroupCoordinator("),
        (AIOKafkaConsumer, "self._fetcher = Fetcher("),
        (GroupCoordinator, "self.member_id ="),
        (SendProduceReqHandler.__mro__[1], "self._sender = sender"),
        (fetcher.FetchResult.__mro__[1], "self._partition_records ="),
        (fetcher.FetchResult.__mro__[1], "self._topic_partition ="),
        (batches.SkippingPartitionRecords.__mro__[1], "= self._unpack_records()"),
        (batches.SkippingPartitionRecords.__mro__[1], "self._aborted_producers ="),
        (batches.SkippingPartitionRecords.__mro__[1], "self._check_crcs ="),
        (batches.SkippingPartitionRecords.__mro__[1], "self._isolation_level ="),
        (batches.SkippingPartitionRecords.__mro__[1], "self._records ="),
        (batches.SkippingPartitionRecords.__mro__[1], "self._tp ="),
        (AIOKafkaClient, "self._md_update_fut"),
        (AIOKafkaConnection, "self._read("),
        (AIOKafkaConnection, "self._request_timeout"),
        (MessageAccumulator, "self._batches ="),
    ],
    ids=str,
)  # fmt: skip
def test_the_client_sets_it_or_calls_it_so(owner: type[Any], text: str) -> None:
    assert text in inspect.getsource(owner), f"{owner.__name__} has no {text!r}: {ADVICE}"


@pytest.mark.parametrize(
    "line",
    [
        "resp = await reader.readexactly(4)",
        'struct.unpack(">i", resp)',
        "resp = await reader.readexactly(size)",
        "self._handle_frame(resp)",
    ],
)
def test_the_client_still_reads_answers_as_what_replaces_it_does(line: str) -> None:
    assert line in inspect.getsource(AIOKafkaConnection), ADVICE


@pytest.mark.parametrize(
    ("owner", "line"),
    [
        (AIOKafkaConnection, "request_struct = request.prepare(self._versions)"),
        (AIOKafkaConnection, "correlation_id = self._next_correlation_id()"),
        (AIOKafkaConnection, "message = header.encode() + request_struct.encode()"),
        (AIOKafkaConnection, "(correlation_id, request_struct, fut),"),
        (AIOKafkaConnection, "return wait_for(fut, self._request_timeout)"),
        (AIOKafkaClient, "future = self._conns[(node_id, group)].send("),
        (AIOKafkaClient, "result = await future"),
        (Schema, "field.encode(item[i]) for i, field in enumerate(self.fields)"),
        (Schema, "tuple(field.decode(data) for field in self.fields)"),
        (Struct, "self.SCHEMA.encode([self.__dict__[name] for name in self.SCHEMA.names])"),
        (Struct, "cls(*[field.decode(data) for field in cls.SCHEMA.fields])"),
        (Struct, "self.__dict__[name] = args[i]"),
        (Sender, "return create_task(self._do_add_partitions_to_txn(tps))"),
        (Sender, "return create_task(self._do_add_offsets_to_txn(group_id))"),
        (Sender, "return create_task(self._do_txn_offset_commit(offsets, group_id))"),
        (Sender, "return create_task(self._do_txn_commit(commit_result))"),
        (Sender, "task = create_task(self._send_produce_req(node_id, node_batches))"),
        (Sender, "waiters.add(txn_manager.make_task_waiter())"),
        (Sender, "waiters.add(self._message_accumulator.waiter())"),
        (Sender, "self._in_flight.remove(node_id)"),
        (Sender, "self._muted_partitions.remove(tp)"),
        (MessageAccumulator, "self._waiter_future = self._loop.create_future()"),
        (TransactionManager, "self._task_waiter.set_result(None)"),
        (AIOKafkaProducer, "await asyncio.shield(self._txn_manager.wait_for_pid())"),
        (AIOKafkaProducer, "self._txn_manager.begin_transaction()"),
        (AIOKafkaProducer, "self._sender = Sender("),
    ],
    ids=str,
)
def test_the_client_still_asks_and_answers_as_what_replaces_it_does(
    owner: type[Any], line: str
) -> None:
    assert line in inspect.getsource(owner), ADVICE


def test_what_is_patched_is_found_where_the_client_looks_for_it() -> None:
    patches.install()
    assert "RefusalAwareAuthenticator" == conn.OAuthAuthenticator.__name__
    for replaced in (
        connecting.create_conn, AIOKafkaConnection._read, ClusterMetadata.update_metadata,
        AIOKafkaClient._metadata_update, fetcher.Fetcher.__init__, fetcher.MemoryRecords,
        fetcher.PartitionRecords, fetcher.FetchResult, SendProduceReqHandler._can_retry,
        InitPIDHandler.handle_response, Schema.decode, Schema.encode, Struct.decode, Struct.encode,
        producing_in.Sender, AIOKafkaProducer.begin_transaction,
    ):  # fmt: skip
        assert replaced.__module__.startswith(patches.__name__), ADVICE


def test_every_way_of_the_client_to_unpack_is_bounded() -> None:
    patches.install()
    modules = {module.__name__: headers for module, headers in batches.unpackers()}
    assert {
        "aiokafka.record.default_records": True,
        "aiokafka.record.legacy_records": False,
        "aiokafka.record._crecords.default_records": True,
        "aiokafka.record._crecords.legacy_records": False,
    } == modules
    for name, headers in modules.items():
        module = importlib.import_module(name)
        found = {known for known in vars(module) if known.endswith("_decode")}
        wanted = {"gzip", "snappy", "lz4"} | ({"zstd"} if headers else set())
        assert {f"{codec}_decode" for codec in wanted} == found, ADVICE
        assert {batches.__name__} == {getattr(module, known).__module__ for known in found}
    assert hasattr(legacy_records, "_LegacyRecordBatchPy"), ADVICE


def test_no_other_module_of_the_rooms_at_kafka_names_anything_private() -> None:
    rooms = ("kafka", "sources", "journal", "admin")
    files = [file for room in rooms for file in (ROOT / "forwarder" / room).rglob("*.py")]
    private = [file for file in files if "SLF001" in file.read_text()]
    assert {ROOT / "forwarder" / "kafka" / "patches"} == {file.parent for file in private}


def test_the_dependency_ends_below_the_next_minor_release() -> None:
    assert re.search(r'"aiokafka>=0\.14,<0\.15"', (ROOT / "pyproject.toml").read_text())


def test_no_client_is_made_before_it_is_patched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patches, "_installed", False)
    with pytest.raises(RuntimeError, match=r"patches\.install"):
        patches.check_installed()
    assert "check_installed" in inspect.getsource(client.client_arguments)

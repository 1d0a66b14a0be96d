"""An answer that announces more than any broker sends is not read: its connection is closed."""

import asyncio
import inspect
import struct
import tracemalloc

import pytest
from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import KafkaError

from forwarder.kafka import answers

ITS_OWN = (
    "resp = await reader.readexactly(4)",
    'struct.unpack(">i", resp)',
    "resp = await reader.readexactly(size)",
    "self._handle_frame(resp)",
)


@pytest.mark.parametrize("size", [answers.LARGEST + 1, 2**31 - 1, -1])
async def test_the_connection_is_closed_and_nothing_is_kept(size: int) -> None:
    ended = asyncio.Event()

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(struct.pack(">i", size))
            while True:
                writer.write(bytes(1 << 20))
                await writer.drain()
        except OSError:
            writer.transport.abort()
            ended.set()

    answers.install()
    server = await asyncio.start_server(flood, "127.0.0.1", 0)
    tracemalloc.start()
    try:
        with pytest.raises(KafkaError):
            await create_conn("127.0.0.1", server.sockets[0].getsockname()[1])
        async with asyncio.timeout(10):
            await ended.wait()
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
        server.close()
        await server.wait_closed()


def test_what_is_replaced_is_called_by_the_client_and_reads_as_ours_does() -> None:
    answers.install()
    assert AIOKafkaConnection._read is answers._read  # noqa: SLF001
    source = inspect.getsource(AIOKafkaConnection)
    assert "self._read(" in source
    for line in ITS_OWN:
        assert line in source

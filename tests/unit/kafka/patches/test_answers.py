"""An answer that announces more than any broker sends is not read: its connection is closed."""

import asyncio
import struct
import tracemalloc

import pytest
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaError

from forwarder.kafka.patches import connections


@pytest.mark.parametrize("size", [connections.LARGEST_ANSWER + 1, 2**31 - 1, -1])
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

    connections.install()
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

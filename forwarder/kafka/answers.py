"""Brokers' answers are read up to a bound: the client reads whatever length is announced.

Four bytes in front of an answer say how long it is. What stands behind a wrong port, and a broker
whose answer was damaged on its way, may announce 2 GiB and go on sending.
"""

import struct
from collections.abc import Callable
from typing import Any

from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaProtocolError

LARGEST = 256 * 1024 * 1024
"""Bytes of one answer: five times what a fetch asks for at most (50 MiB), and more than the largest
batch that a topic of ours takes beside it."""

_LENGTH = struct.Struct(">i")


def install() -> None:
    """Have every connection of this process read no longer answer; it is closed instead."""
    AIOKafkaConnection._read = staticmethod(_read)  # noqa: SLF001  # a test fails where it is not


async def _read(alive: Callable[[], Any]) -> None:
    """Read answers until the connection ends: aiokafka 0.14's own way, with a bound.

    ``alive`` is a weak reference: a connection that nobody holds any more is not kept by this. What
    is raised here closes it.
    """
    connection = alive()
    if connection is None:
        return
    reader = connection._reader  # noqa: SLF001  # it has no public name
    del connection
    while True:
        (size,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        if not 0 <= size <= LARGEST:
            message = f"an answer of {size} bytes is announced, no broker sends one of {LARGEST}"
            raise KafkaProtocolError(message)
        answer = await reader.readexactly(size)
        connection = alive()
        if connection is None:
            return
        connection._handle_frame(answer)  # noqa: SLF001  # as above
        del connection, answer

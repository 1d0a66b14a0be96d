import asyncio
import socket

from forwarder.clock import SystemClock
from forwarder.ops.acceptor import Acceptor


class Begun:
    """Takes what is accepted, and ends it."""

    def __init__(self) -> None:
        self.count = 0
        self.all = asyncio.Event()

    async def begin(self, accepted: socket.socket) -> None:
        self.count += 1
        accepted.close()
        self.all.set()


def acceptor(begun: Begun) -> Acceptor:
    return Acceptor(lambda: None, begun.begin, SystemClock(), "remedy")


async def test_every_address_of_a_host_has_the_same_port() -> None:
    one = acceptor(Begun())
    port = await one.start("", 0)
    assert {port} == {listener.getsockname()[1] for listener in one.listening}
    await one.stop()


async def test_what_is_accepted_begins_and_nothing_is_after_the_stop() -> None:
    begun = Begun()
    one = acceptor(begun)
    port = await one.start("127.0.0.1", 0)
    socket.create_connection(("127.0.0.1", port)).close()
    await asyncio.wait_for(begun.all.wait(), 5)
    await one.stop()
    assert (1, []) == (begun.count, one.listening)

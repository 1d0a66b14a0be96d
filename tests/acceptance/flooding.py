"""A client of the open port that sends without end.

``python -m tests.acceptance.flooding PORT FIRST``, in a process of its own: what it sends takes a
core, and none of that is the test's.
"""

import selectors
import socket
import sys
from contextlib import suppress

CONNECTIONS = 100
"""Open at a time; whichever is ended is opened anew."""

PIECE = b"\r\n" * 2**17


def opened(port: int, first: bytes) -> socket.socket:
    """Return a connection that has said ``first``."""
    one = socket.create_connection(("127.0.0.1", port))
    one.sendall(first)
    one.setblocking(False)  # noqa: FBT003  # the library's own signature
    return one


def flood(port: int, first: bytes) -> None:
    """Send on every connection as much as it takes, until this process is ended."""
    with selectors.DefaultSelector() as ready:
        held = 0
        while True:
            while held < CONNECTIONS:
                with suppress(OSError):
                    ready.register(opened(port, first), selectors.EVENT_WRITE)
                    held += 1
            for key, _ in ready.select():
                one = key.fileobj
                assert isinstance(one, socket.socket)
                try:
                    one.send(PIECE)
                except BlockingIOError:
                    pass
                except OSError:
                    ready.unregister(one)
                    one.close()
                    held -= 1


if __name__ == "__main__":
    flood(int(sys.argv[1]), sys.argv[2].encode())

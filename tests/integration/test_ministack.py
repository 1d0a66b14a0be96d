import socket

import pytest
from botocore.exceptions import ClientError

from tests.services.ministack import Keys, MiniStack


def test_an_emulator_that_was_stopped_is_gone(ministack: MiniStack) -> None:
    assert ministack.pid is not None
    with MiniStack() as emulator:
        running = emulator.pid
        port = emulator.port
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    assert running is not None
    assert emulator.pid is None
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_a_wrong_signature_is_refused(ministack: MiniStack) -> None:
    # Of a user: the emulator takes its root's word for it.
    keys = ministack.make_user("signer", ["kinesis:ListStreams"])
    kinesis = ministack.client("kinesis", Keys(keys.access_key_id, "not-the-secret"))
    with pytest.raises(ClientError, match="Signature"):
        kinesis.list_streams()


def test_a_policy_allows_what_it_names_and_no_more(ministack: MiniStack) -> None:
    keys = ministack.make_user("reader", ["kinesis:ListStreams"])
    kinesis = ministack.client("kinesis", keys)
    kinesis.list_streams()
    with pytest.raises(ClientError, match="AccessDenied"):
        kinesis.create_stream(StreamName="denied", ShardCount=1)

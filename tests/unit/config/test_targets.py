"""Every target states how large a document may be in one of its records."""

import pytest

from forwarder.config.targets import (
    MAX_PAYLOAD_BYTES,
    FileTarget,
    FirehoseTarget,
    KinesisTarget,
    PartitionKey,
    Target,
)


def stream(key: PartitionKey, size: int = 2048, *, newline: bool = False) -> KinesisTarget:
    return KinesisTarget("s", "eu-west-1", key, size, newline=newline)


@pytest.mark.parametrize(
    ("target", "mpid", "expected"),
    [
        (stream(PartitionKey.DEVICE), "7", 2048 - 32),
        (stream(PartitionKey.DEVICE, newline=True), "7", 2048 - 32 - 1),
        (stream(PartitionKey.BATCH), "7", 2048 - 36),
        (stream(PartitionKey.MPID), "123456", 2048 - 6),
        (stream(PartitionKey.MPID), "", 2048 - 32),
        (stream(PartitionKey.MPID), "\u00e9", 2048 - 2),
        (stream(PartitionKey.MPID, 20), "", -12),
        (stream(PartitionKey.MPID, 11 * 1024 * 1024), "7", MAX_PAYLOAD_BYTES),
        (FirehoseTarget("f", "eu-west-1", 2048), "7", 2047),
        (FileTarget("out"), "7", MAX_PAYLOAD_BYTES),
    ],
)
def test_a_document_fits_with_its_key_and_its_line_end(
    target: Target, mpid: str, expected: int
) -> None:
    assert expected == target.record_limit.payload_bytes(mpid)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (stream(PartitionKey.DEVICE), 2048 - 32),
        (stream(PartitionKey.MPID), 2048 - 1024),  # 256 characters of four bytes
        (FirehoseTarget("f", "eu-west-1", 2048), 2047),
        (FileTarget("out"), MAX_PAYLOAD_BYTES),
    ],
)
def test_the_least_limit_holds_for_the_longest_mpid(target: Target, expected: int) -> None:
    assert expected == target.record_limit.least_payload_bytes()

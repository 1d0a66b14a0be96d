"""Uploads that are large in number, not in bytes: none keeps the worker from its group."""

import time

import pytest

from tests.acceptance.scene import Scene

pytestmark = pytest.mark.service

SESSIONS = 14_000
"""Sessions that one upload of 1 MB ends."""

DELETIONS = 2_000
"""Uploads of one user within a second, each with twenty deletions."""

KEYS = 70_000

ENDS = b",".join(
    b'{"event_type":"session_end","data":{"n":%d,"session_id":%d}}' % (n, n + 1)
    for n in range(SESSIONS)
)
LONE = b'{"event_type":"session_end","data":{"n":%d}}'


def deletions(number: int) -> bytes:
    names = b",".join(b'"attribute %d/%d"' % (number, m) for m in range(20))
    return b'{"mpid":3,"deleted_user_attributes":[%b],"events":[%b]}' % (
        names,
        LONE % (SESSIONS + 1 + number),
    )


async def test_uploads_of_thousands_of_parts_are_delivered_and_the_group_never_misses_the_worker(
    scene: Scene,
) -> None:
    """Looked through again for each part, any of these stops the loop for minutes."""
    grace = {"session_grace": "1s"}
    scene.to_file(settings={"wait_for_complete_batch": True}, batching=grace)
    worker = scene.worker()
    worker.start()
    await worker.until_ready()
    keys = b",".join(b'"k%d":1' % n for n in range(KEYS))
    values = [
        b'{"mpid":1,"events":[%b]}' % ENDS,
        b'{"mpid":2,%b,"\\ud83d":1,"events":[%b]}' % (keys, LONE % SESSIONS),
        *map(deletions, range(DELETIONS)),
    ]
    now = time.time_ns() // 1_000_000
    await scene.kafka.send(scene.topic, [(b"k", value, now) for value in values], 0)
    wanted = list(range(SESSIONS + 1 + DELETIONS))
    await worker.until(lambda: len(scene.numbers()) >= len(wanted), "every event arrives")
    assert wanted == sorted(scene.numbers())
    assert 1 == len(worker.logged("partitions.assigned"))

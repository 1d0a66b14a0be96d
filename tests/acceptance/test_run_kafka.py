"""The worker on a real Kafka: what becomes a dead letter."""

import time

from tests.acceptance.scene import Scene

SINGLY = {"send_as_batch": False}


def now_ms() -> int:
    """Return a record time that the broker's retention spares."""
    return time.time_ns() // 1_000_000


async def test_what_is_no_upload_becomes_a_dead_letter_and_the_rest_goes_on(scene: Scene) -> None:
    scene.to_file(settings=SINGLY)
    broken = {b"{not json": "invalid_json", b"\xff{}": "invalid_utf8", b"[42]": "not_an_upload"}
    worker = scene.worker()
    worker.start()
    await scene.feed([1])
    sent = await scene.kafka.send(scene.topic, [(b"d1", v, now_ms()) for v in (*broken, None)])
    await scene.feed([2])
    await worker.until(lambda: scene.numbers() == [1, 2], "the good ones arrive")
    letters_topic = f"{scene.name}-dead-letters"

    async def complete() -> bool:
        return len(await scene.kafka.read(letters_topic)) >= len(broken)

    await worker.until(complete, "the dead letters are there")

    letters = await scene.kafka.read(letters_topic)
    assert sorted(broken) == sorted(letter.value or b"" for letter in letters)
    at = {one.value: one for one in sent}
    for letter in letters:
        told = {key: value.decode() for key, value in letter.headers.items()}
        error = told.pop("error")
        assert abs(now_ms() - int(told.pop("time"))) < 600_000
        assert {
            "v": "1",
            "reason": broken[letter.value or b""],
            "topic": scene.topic,
            "partition": str(at[letter.value].partition),
            "offset": str(at[letter.value].offset),
            "connection": "",
            "group": scene.name,
        } == told
        assert error
        assert "\n" not in error


async def test_an_event_too_large_for_a_record_becomes_a_dead_letter_of_its_connection(
    scene: Scene,
) -> None:
    sink = {"type": "kinesis", "stream_name": "s", "region": "us-east-1"}
    keys = {"access_key_id": "AKIAEXAMPLE", "secret_access_key": "not-a-secret"}
    small = {**sink, "max_record_bytes": "2KiB", "endpoint_url": "http://127.0.0.1:1"}
    scene.connect({"name": "small", "sink": small, "credentials": keys, "settings": SINGLY})
    scene.to_file("large", settings=SINGLY)
    worker = scene.worker()
    worker.start()
    value = b'{"events":[{"event_type":"custom_event","data":{"n":7,"x":"%s"}}],"mpid":1}'
    await scene.kafka.send(scene.topic, [(b"d1", value % (b"x" * 4096), now_ms())])
    await worker.until(lambda: scene.numbers("large") == [7], "it fits the other connection")

    # Readers see a committed tick once its markers are written, a moment after its owner.
    async def lies_there() -> bool:
        return bool(await scene.kafka.read(f"{scene.name}-dead-letters"))

    await worker.until(lies_there, "its letter is there")
    (letter,) = await scene.kafka.read(f"{scene.name}-dead-letters")
    assert letter.headers["reason"] == b"event_too_large"
    assert letter.headers["connection"] == b"small"
    assert b'"n":7' in (letter.value or b"")

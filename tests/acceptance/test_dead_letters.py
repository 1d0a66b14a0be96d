"""Dead letters on a real Kafka: listed, shown, and sent back once the cause is mended."""

import json
import time

from forwarder.config.settings import InputTopic, Kafka
from forwarder.journal import dead_letters
from forwarder.kafka.producer import OutgoingMessage, TransactionalProducer
from forwarder.model import DeadLetter, Partition, Reason
from tests.acceptance.commands import ran, stopped
from tests.acceptance.scene import Scene, numbers

SINGLY = {"send_as_batch": False}
LARGE = b'{"events":[{"event_type":"custom_event","data":{"n":7,"x":"%s"}}],"mpid":1}' % (
    b"x" * 4096
)
REFUSED = b'{"events":[{"event_type":"custom_event","data":{"n":9}}],"message_id":"m-9","mpid":"4"}'


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def store_refused(scene: Scene) -> None:
    """Store what a worker stores of a batch that the destination of `large` refused."""
    kafka = Kafka((scene.kafka.bootstrap,), (InputTopic(scene.topic),), group_id=scene.name)
    letter = DeadLetter(Reason.REFUSED, 0, "large", "too odd", REFUSED, now_ms(), b"\x01" * 16)
    message = dead_letters.letter_message(letter, Partition(scene.topic, 0), scene.name, 10**6)
    topic = f"{scene.name}-dead-letters"
    writer = TransactionalProducer(kafka, "test", f"{scene.name}/test")
    await writer.start()
    await writer.commit([OutgoingMessage(topic, 0, message.value, headers=message.headers)], {})
    await writer.close()


async def test_dead_letters_go_back_once_to_whom_they_are_for_and_are_marked_if_they_fail_again(
    scene: Scene,
) -> None:
    sink = {"type": "kinesis", "stream_name": "s", "region": "us-east-1"}
    keys = {"access_key_id": "AKIAEXAMPLE", "secret_access_key": "not-a-secret"}
    small = {**sink, "max_record_bytes": "2KiB", "endpoint_url": "http://127.0.0.1:1"}
    scene.connect({"name": "small", "sink": small, "credentials": keys, "settings": SINGLY})
    scene.to_file("large", settings=SINGLY)
    worker = scene.worker()
    worker.start()
    await worker.until_ready()
    await scene.kafka.send(scene.topic, [(b"d1", v, now_ms()) for v in (LARGE, b"{not json")])

    async def there() -> bool:
        return len(await scene.kafka.read(f"{scene.name}-dead-letters")) == 2

    await worker.until(there, "the dead letters are there")
    await store_refused(scene)
    listed = (await ran(scene, "dead-letters", "list", "--json")).document["letters"]
    assert [
        ("event_too_large", "small", "waiting"),
        ("invalid_json", "", "waiting"),
        ("refused_by_sink", "large", "waiting"),
    ] == sorted((one["reason"], one["connection"], one["state"]) for one in listed)
    places = {one["reason"]: one["place"] for one in listed}
    shown = (await ran(scene, "dead-letters", "show", places["invalid_json"])).out
    assert "reason: invalid_json" in shown
    assert "{not json" in shown

    await stopped(scene)
    scene.to_file("small", settings=SINGLY)
    worker = scene.worker()
    worker.start()
    await worker.until(lambda: scene.numbers("large") == [7], "it fitted the other connection")
    told = await ran(scene, "dead-letters", "redrive", "--yes", "--json")
    assert (True, 3) == (told.document["sent"], told.document["letters"])

    await worker.until(lambda: scene.numbers("small") == [7], "its own connection takes it")
    await worker.until(lambda: sorted(scene.numbers("large")) == [7, 9], "the batch arrives")

    async def failed_again() -> bool:
        found = await scene.kafka.read(f"{scene.name}-dead-letters")
        return [b"{not json"] == [one.value for one in found if "redriven" in one.headers]

    await worker.until(failed_again, "what is still no JSON is a dead letter again")
    again = await ran(scene, "dead-letters", "redrive", "--yes", "--json")
    assert (0, {"failed again (--again)": 1, "sent back before": 3}) == (
        again.document["letters"],
        again.document["skipped"],
    )
    await stopped(scene)
    assert [7] == numbers(scene.delivered("small"))
    stored = (scene.folder / "out" / "large.ndjson").read_bytes().split(b"\n")
    assert REFUSED in stored
    assert [7, 9] == sorted(n for line in stored[:-1] for n in numbers([json.loads(line)]))

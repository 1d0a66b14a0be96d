"""Windows of ten minutes for each device with Bytewax, sent with boto3; prints CPU seconds.

Run by the measurement in a virtual environment of its own, so it imports nothing of this project.
"""

import argparse
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import bytewax.operators as op
import bytewax.operators.windowing as win
import orjson
from bytewax.connectors.kafka import KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main

WANTED = frozenset({"custom_event", "screen_view", "commerce_event", "session_start"})
MOST = 500


class Puts(StatelessSinkPartition[tuple[str, bytes]]):  # type: ignore[misc]  # not typed here
    """Sends documents, so many at a time."""

    def __init__(self, url: str) -> None:
        self._client = boto3.client(
            "kinesis",
            region_name="us-east-1",
            endpoint_url=url,
            aws_access_key_id="AKIAEXAMPLE",
            aws_secret_access_key="no-secret",  # nobody's
        )
        self._records: list[dict[str, Any]] = []

    def write_batch(self, items: list[tuple[str, bytes]]) -> None:
        """Take documents; send once there are enough."""
        self._records += [{"PartitionKey": key, "Data": data} for key, data in items]
        while len(self._records) >= MOST:
            self._put()

    def close(self) -> None:
        """Send what is left."""
        while self._records:
            self._put()

    def _put(self) -> None:
        some, self._records = self._records[:MOST], self._records[MOST:]
        self._client.put_records(StreamName="acme-0", Records=some)


class Sink(DynamicSink[tuple[str, bytes]]):  # type: ignore[misc]  # not typed here
    """One for each worker of the flow."""

    def __init__(self, url: str) -> None:
        self._url = url

    def build(self, step_id: str, worker_index: int, worker_count: int) -> Puts:
        """Return it."""
        del step_id, worker_index, worker_count
        return Puts(self._url)


class Counter:
    """Reads uploads, and the clock once the warm-up is over."""

    def __init__(self, warm: int) -> None:
        self._left = warm
        self.begun = 0.0

    def __call__(self, message: KafkaSourceMessage) -> tuple[str, tuple[datetime, dict[str, Any]]]:
        """Return the device, the time and the upload."""
        self._left -= 1
        if self._left == 0:
            self.begun = time.process_time()
        upload = orjson.loads(message.value)
        upload["events"] = [e for e in upload["events"] if e["event_type"] in WANTED]
        at = datetime.fromtimestamp(message.timestamp[1] / 1000, UTC)
        return upload["mp_deviceid"], (at, upload)


def document(closed: tuple[str, tuple[int, list[tuple[datetime, dict[str, Any]]]]]) -> Any:  # noqa: ANN401
    """Return the device and the document of a window."""
    key, (_, uploads) = closed
    content: dict[str, Any] = {}
    events: list[Any] = []
    for _, upload in uploads:
        content |= upload
        events += upload["events"]
    content["events"] = events
    return key, orjson.dumps(content)


def main() -> None:
    """Read the topic to its end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--warm", type=int, required=True)
    parser.add_argument("--uploads", type=int, required=True)
    args = parser.parse_args()
    counter = Counter(args.warm)
    flow = Dataflow("bench")
    source = KafkaSource([args.bootstrap], [args.topic], tail=False, batch_size=1000)
    keyed = op.map("read", op.input("kafka", flow, source), counter)
    clock = win.EventClock(lambda pair: pair[0], wait_for_system_duration=timedelta(seconds=0))
    windower = win.TumblingWindower(
        length=timedelta(minutes=10), align_to=datetime(2020, 1, 1, tzinfo=UTC)
    )
    closed = win.collect_window("windows", keyed, clock, windower)
    op.output("kinesis", op.map("document", closed.down, document), Sink(args.url))
    run_main(flow)
    sys.stdout.write(f"{time.process_time() - counter.begun}\n")


if __name__ == "__main__":
    main()

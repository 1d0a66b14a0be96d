"""Read uploads, put those of a device together, send: without commit, order, retry or guarantee.

Run by the measurement in a virtual environment of its own (``requirements.txt`` beside this), so
it imports nothing of this project. Prints the CPU seconds of each round as a JSON list.
"""

import argparse
import json
import sys
import time
import uuid
from typing import Any

import boto3
import orjson
from botocore.config import Config
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition

WANTED = frozenset({"custom_event", "screen_view", "commerce_event", "session_start"})
WINDOW_MS = 600_000
MOST = 500
"""Records of one PutRecords request."""


class Sender:
    """Sends documents, so many at a time."""

    def __init__(self, url: str) -> None:
        self._client = boto3.client(
            "kinesis",
            region_name="us-east-1",
            endpoint_url=url,
            aws_access_key_id="AKIAEXAMPLE",
            aws_secret_access_key="no-secret",  # nobody's
            config=Config(retries={"total_max_attempts": 1}),
        )
        self._records: list[dict[str, Any]] = []

    def add(self, key: str, document: dict[str, Any]) -> None:
        """Take a document; send once there are enough."""
        document["message_id"] = str(uuid.uuid4())
        self._records.append({"PartitionKey": key, "Data": orjson.dumps(document)})
        if len(self._records) >= MOST:
            self.flush()

    def flush(self) -> None:
        """Send what waits."""
        if self._records:
            self._client.put_records(StreamName="acme-0", Records=self._records)
            self._records = []


class Windows:
    """Events of ten minutes, by device."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._open: dict[str, tuple[int, dict[str, Any], list[Any]]] = {}

    def add(self, message: Message, *, alone: bool) -> int:
        """Take an upload; return how many events it has."""
        upload = orjson.loads(message.value())
        events = [e for e in upload["events"] if e["event_type"] in WANTED]
        for event in events:
            event["data"].pop("location", None)
        device = upload["mp_deviceid"]
        if alone:
            for event in events:
                self._sender.add(device, {**upload, "events": [event]})
            return len(events)
        found = self._open.get(device)
        if found is None:
            self._open[device] = (message.timestamp()[1], upload, events)
        else:
            found[1].update(upload)
            found[2].extend(events)
        return len(events)

    def close_before(self, now_ms: int) -> None:
        """Send windows that opened ten minutes ago; they stand in the order in which they did."""
        due = []
        for device, (opened, _, _) in self._open.items():
            if opened + WINDOW_MS > now_ms:
                break
            due.append(device)
        for device in due:
            _, upload, events = self._open.pop(device)
            upload["events"] = events
            self._sender.add(device, upload)

    def close_all(self) -> None:
        """Send everything."""
        self.close_before(1 << 62)
        self._sender.flush()


def main() -> None:
    """Read as many events as told, round by round."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--partitions", type=int, required=True)
    parser.add_argument("--rounds", required=True, help="uploads of each, with commas")
    parser.add_argument("--url", required=True)
    parser.add_argument("--alone", action="store_true")
    args = parser.parse_args()
    consumer = Consumer(
        {
            "bootstrap.servers": args.bootstrap,
            "group.id": "plain",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
    )
    consumer.assign(
        [TopicPartition(args.topic, n, OFFSET_BEGINNING) for n in range(args.partitions)]
    )
    windows = Windows(Sender(args.url))
    spent = []
    for size in map(int, args.rounds.split(",")):
        begun, read = time.process_time(), 0
        while read < size:
            messages = consumer.consume(min(1000, size - read), 1.0)
            for message in messages:
                if message.error():
                    raise SystemExit(str(message.error()))
                windows.add(message, alone=args.alone)
            if messages:
                windows.close_before(messages[-1].timestamp()[1])
                read += len(messages)
        windows.close_all()
        spent.append(time.process_time() - begun)
    consumer.close()
    sys.stdout.write(json.dumps(spent) + "\n")


if __name__ == "__main__":
    main()

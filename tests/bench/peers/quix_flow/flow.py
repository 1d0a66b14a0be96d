"""Windows of ten minutes for each device with Quix Streams, sent with boto3; prints CPU seconds.

Run by the measurement in a virtual environment of its own, so it imports nothing of this project.
"""

import argparse
import logging
import sys
import tempfile
import time
from datetime import timedelta
from typing import Any

import boto3
import orjson
from quixstreams import Application

WANTED = frozenset({"custom_event", "screen_view", "commerce_event", "session_start"})
MOST = 500


class Puts:
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

    def __call__(self, closed: dict[str, Any]) -> None:
        """Take a window; send once there are enough."""
        content: dict[str, Any] = {}
        events: list[Any] = []
        for upload in closed["value"]:
            content |= upload
            events += upload["events"]
        content["events"] = events
        record = {"PartitionKey": content["mp_deviceid"], "Data": orjson.dumps(content)}
        self._records.append(record)
        if len(self._records) >= MOST:
            self._client.put_records(StreamName="acme-0", Records=self._records)
            self._records = []


class Reader:
    """Reads uploads, and the clock once the warm-up is over."""

    def __init__(self, warm: int) -> None:
        self._left = warm
        self.begun = 0.0

    def __call__(self, value: bytes) -> dict[str, Any]:
        """Return the upload."""
        self._left -= 1
        if self._left == 0:
            self.begun = time.process_time()
        upload: dict[str, Any] = orjson.loads(value)
        upload["events"] = [e for e in upload["events"] if e["event_type"] in WANTED]
        return upload


def main() -> None:
    """Read as many uploads as told."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--warm", type=int, required=True)
    parser.add_argument("--uploads", type=int, required=True)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    reader = Reader(args.warm)
    with tempfile.TemporaryDirectory(prefix="quix-") as folder:
        app = Application(
            broker_address=args.bootstrap,
            consumer_group="quix",
            auto_offset_reset="earliest",
            state_dir=folder,
            loglevel=None,
        )
        frame = app.dataframe(app.topic(args.topic, value_deserializer="bytes"))
        closed = frame.apply(reader).tumbling_window(timedelta(minutes=10)).collect().final()
        closed.update(Puts(args.url))
        app.run(count=args.uploads, timeout=30.0)
        sys.stdout.write(f"{time.process_time() - reader.begun}\n")


if __name__ == "__main__":
    main()

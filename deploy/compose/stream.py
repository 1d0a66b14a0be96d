"""Make the streams of deploy/compose.yaml, or print what arrived in them."""

import sys

from botocore.session import get_session

STREAMS = ("forwarder-demo", "pinpoint-demo")
SHARDS = 2
PAGES = 1000
"""A bound on reading a shard to its end."""


def main(command: str) -> None:
    """Create the streams, or print every record in them, one a line."""
    kinesis = get_session().create_client("kinesis")
    if command == "create":
        for stream in STREAMS:
            if stream not in kinesis.list_streams()["StreamNames"]:
                kinesis.create_stream(StreamName=stream, ShardCount=SHARDS)
            kinesis.get_waiter("stream_exists").wait(StreamName=stream)
        return
    for stream in STREAMS:
        for shard in kinesis.list_shards(StreamName=stream)["Shards"]:
            where = {"StreamName": stream, "ShardId": shard["ShardId"]}
            found = kinesis.get_shard_iterator(**where, ShardIteratorType="TRIM_HORIZON")
            iterator = found["ShardIterator"]
            for _ in range(PAGES):
                page = kinesis.get_records(ShardIterator=iterator)
                for record in page["Records"]:
                    sys.stdout.write(record["Data"].decode() + "\n")
                iterator = page.get("NextShardIterator")
                if not page["Records"] or not iterator:
                    break


if __name__ == "__main__":
    main(sys.argv[1])

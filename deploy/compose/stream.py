"""Make the stream of deploy/compose.yaml, or print what arrived in it."""

import sys

from botocore.session import get_session

STREAM = "forwarder-demo"
SHARDS = 2
PAGES = 1000
"""A bound on reading a shard to its end."""


def main(command: str) -> None:
    """Create the stream, or print every batch in it, one a line."""
    kinesis = get_session().create_client("kinesis")
    if command == "create":
        if STREAM not in kinesis.list_streams()["StreamNames"]:
            kinesis.create_stream(StreamName=STREAM, ShardCount=SHARDS)
        kinesis.get_waiter("stream_exists").wait(StreamName=STREAM)
        return
    for shard in kinesis.list_shards(StreamName=STREAM)["Shards"]:
        where = {"StreamName": STREAM, "ShardId": shard["ShardId"]}
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

"""The lanes of a run: one connection, one stream and at most one role for each."""

from collections.abc import Callable, Sequence

from tests.faults.rows import HEALTHY, Content, Row

ACCOUNT = "111122223333"
"""Whose roles are assumed; the worker's own account has the other streams."""

SHARDS = 4
REGION = "us-east-1"
EXTERNAL_ID = "orgid:1"


def lanes(rows: Sequence[Row], stream: Callable[[str], str]) -> dict[str, Content]:
    """Return the content of every connection: of the rows, and of the healthy ones beside them."""
    return {name: _content(name, stream(name), own) for name, own in _all(rows).items()}


def needed(rows: Sequence[Row], stream: Callable[[str], str]) -> tuple[Content, Content]:
    """Return the streams and the roles that have to be there, by name."""
    streams: Content = {}
    roles: Content = {}
    for name, own in _all(rows).items():
        streams[stream(name)] = {"shards": SHARDS}
        if "role" in own:
            streams[stream(name)]["account"] = ACCOUNT
            roles[stream(name)] = {
                "account": ACCOUNT,
                "actions": own["role"],
                "external_id": EXTERNAL_ID,
            }
    return streams, roles


def role_arn(stream: str) -> str:
    """Return the ARN of the role that may put into a stream; it is named like the stream."""
    return f"arn:aws:iam::{ACCOUNT}:role/{stream}"


def _all(rows: Sequence[Row]) -> dict[str, Content]:
    found = {row.named(end): content for row in rows for end, content in row.lanes.items()}
    beside = max(row.beside for row in rows)
    return found | {f"{HEALTHY}-{number + 1}": {} for number in range(beside)}


def _content(name: str, stream: str, content: Content) -> Content:
    sink = {"type": "kinesis", "stream_name": stream, "region": REGION}
    own = {key: value for key, value in content.items() if key != "role"}
    if "role" in content:
        own["credentials"] = {"role_arn": role_arn(stream), "external_id": EXTERNAL_ID}
    return {
        "name": name,
        # Every event at once, so that delays are those of delivering and not of windows.
        "settings": {"send_as_batch": False},
        **own,
        "sink": {**sink, **content.get("sink", {})},
    }

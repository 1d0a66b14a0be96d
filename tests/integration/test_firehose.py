"""A run of the whole program into a delivery stream, read back from its bucket."""

import json
from pathlib import Path
from uuid import uuid4

import orjson
import pytest

from forwarder import app
from forwarder.config.connection import Connection
from forwarder.config.credentials import AssumedRole
from forwarder.config.targets import FirehoseTarget
from tests.builders import START, event, upload
from tests.services.ministack import REGION, MiniStack

# The HTTP client would rather be given a file than one piece of 4 MiB, which is copied in 1 ms.
pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")

DEVICES, EVENTS = 120, 240
LARGE = 12
"""Events of 100,000 bytes of one device more, which do not fit into one record together."""


def written(folder: Path) -> Path:
    """Write uploads of many devices, one of them with more than a record holds."""
    rows = [
        upload(event(n=n), mp_deviceid=f"device-{n % DEVICES}", mpid=n % DEVICES)
        for n in range(EVENTS)
    ]
    rows += [
        upload(event(n=EVENTS + n, pad="x" * 100_000), mp_deviceid="large", mpid=999)
        for n in range(LARGE)
    ]
    path = folder / "events.ndjson"
    lines = [orjson.dumps({"timestamp_ms": START, "upload": row}) for row in rows]
    path.write_bytes(b"\n".join([*lines, b""]))
    return path


async def test_every_event_is_on_a_line_of_the_bucket_once(
    ministack: MiniStack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in ministack.variables().items():
        monkeypatch.setenv(name, value)
    stream = f"archive-{uuid4()}"
    ministack.make_delivery_stream(stream)
    arn = ministack.make_role(f"role-{uuid4()}", ["firehose:PutRecordBatch"], "orgid:1111")
    target = FirehoseTarget(stream, REGION)
    connection = Connection("acme", target, credentials=AssumedRole(arn, "orgid:1111"))

    await app.run_file([connection], str(written(tmp_path)), None)

    lines = b"".join(ministack.objects(stream)).splitlines(keepends=True)
    assert all(line.endswith(b"\n") and len(line) <= 1_024_000 for line in lines)
    documents = [json.loads(line) for line in lines]
    assert DEVICES + 2 == len(documents), "one a device, and two of the large one"
    found = sorted(one["data"]["n"] for each in documents for one in each["events"])
    assert [*range(EVENTS + LARGE)] == found

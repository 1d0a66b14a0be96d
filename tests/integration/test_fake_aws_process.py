"""The fake AWS as a process, with books and a control API."""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.conservation import Landed, digest
from tests.fake_aws import CUSTOMER_ACCOUNT, FakeAws, books, clients, faults
from tests.fake_aws.books import Put

WORLD = {
    "streams": {"s": {"account": CUSTOMER_ACCOUNT, "shards": 1}},
    "delivery_streams": {"d": {}},
    "roles": {
        "r": {"account": CUSTOMER_ACCOUNT, "actions": ["kinesis:PutRecords"], "external_id": "e1"}
    },
    "users": {"u": {"access_key_id": "pod-0", "secret_access_key": "x", "actions": ["*"]}},
}
ROLE = f"arn:aws:iam::{CUSTOMER_ACCOUNT}:role/r"


class Process:
    def __init__(self, port: int, told: Path, session: aiohttp.ClientSession) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.books = told
        self._session = session

    async def post(self, path: str, **content: object) -> tuple[int, Any]:
        async with self._session.post(f"{self.url}/_control{path}", json=content) as answer:
            return answer.status, await answer.json(content_type=None)

    async def state(self) -> Any:  # noqa: ANN401  # as JSON is
        async with self._session.get(f"{self.url}/_control/state") as answer:
            return await answer.json(content_type=None)


@pytest.fixture
async def process(tmp_path: Path) -> AsyncIterator[Process]:
    told, world = tmp_path / "books", tmp_path / "world.json"
    world.write_text(json.dumps(WORLD))
    command = [sys.executable, "-m", "tests.fake_aws", "--books", str(told), "--world", str(world)]
    started = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert started.stdout is not None
    port = int(await started.stdout.readline())
    async with aiohttp.ClientSession() as session:
        yield Process(port, told, session)
    started.terminate()
    await started.wait()


async def test_a_process_is_told_what_goes_wrong_and_keeps_books(process: Process) -> None:
    async with clients.connect(process.url, "sts", "pod-0", "x") as sts:
        told = await sts.assume_role(RoleArn=ROLE, RoleSessionName="acme", ExternalId="e1")
    given = told["Credentials"]
    keys = given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"]
    values = [b'{"message_id":"id-%d"}' % n for n in range(3)]
    records = [{"PartitionKey": "a", "Data": value} for value in values]
    async with clients.connect(process.url, "kinesis", *keys) as kinesis:
        begun = await process.post("", fault="error", stream="s", code="KMSDisabledException")
        assert begun == (200, {"number": 1})
        with pytest.raises(kinesis.exceptions.KMSDisabledException):
            await kinesis.put_records(StreamName="s", Records=records)
        assert await process.post("/clear", number=1) == (200, {})
        await kinesis.put_records(StreamName="s", Records=records)
    (put,) = books.puts(process.books)
    landed = [Landed(f"id-{n}", digest(value)) for n, value in enumerate(values)]
    assert Put(put.at, "pod-0", "s", "answered", landed) == put
    state = await process.state()
    assert {"records": 3, "bytes": 3 * len(values[0]), "throttled": 0} == state["streams"]["s"]
    assert {one["code"]: one["count"] for one in state["calls"] if one["service"] == "kinesis"} == {
        "KMSDisabledException": 1,
        "": 1,
    }
    assert state["sessions"] == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"fault": "no-such"}, "fault: one of error, lost, reset"),
        ({"fault": "slow"}, "missing required field `delay`"),
        ({"fault": "lost", "delay": 1}, "unknown field `delay`"),
        ({"fault": "error", "code": "NoSuch"}, "unknown code 'NoSuch'"),
        ({"fault": "deleted"}, "name the stream"),
    ],
)
async def test_what_cannot_be_understood_is_refused_in_words(
    content: dict[str, object], words: str
) -> None:
    async with FakeAws() as aws, aiohttp.ClientSession() as session:
        async with session.post(f"{aws.url}/_control", json=content) as answer:
            assert answer.status == 400
            assert words in (await answer.json(content_type=None))["error"]
        async with session.get(f"{aws.url}/_control/nowhere") as answer:
            assert answer.status == 404
        assert aws.world.faults.present() == []


def test_every_fault_is_documented() -> None:
    page = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    kinds = {kind.__struct_config__.tag: kind for kind in faults.KINDS}
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\|(.*)\|$", page, re.MULTILINE))
    assert kinds.keys() == rows.keys()
    common = set(faults.Fault.__struct_fields__)
    for name, arguments in rows.items():
        own = set(kinds[name].__struct_fields__) - common
        assert own == set(re.findall(r"`(\w+)`", arguments)) - {"never", "late", "idle", "instead"}


def test_the_documented_call_of_the_control_api_is_understood() -> None:
    page = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (content,) = re.findall(r"/_control -d '(.*)'$", page, re.MULTILINE)
    assert faults.fault_of(json.loads(content)).stream == "s"

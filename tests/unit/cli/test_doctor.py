"""What the doctor says where nothing answers, and what it would put."""

import asyncio
import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import yaml

from forwarder import cli
from forwarder.aws import identity
from forwarder.aws.session import AwsSession
from forwarder.aws.time_limits import TimeLimits
from forwarder.cli import doctor
from forwarder.clock import SystemClock
from forwarder.config.connection import Connection
from forwarder.config.credentials import AccessKeys
from forwarder.config.settings import (
    Configuration,
    InputTopic,
    Kafka,
    Security,
    SecurityProtocol,
)
from forwarder.config.targets import FileTarget, FirehoseTarget, KinesisTarget, PutMode
from forwarder.kafka import admin, client
from forwarder.model import Outcome, OutcomeKind
from forwarder.ops import logs
from forwarder.ops.diagnosis import FindingGrade

SECRET = "the-key-that-no-output-shows"
NOWHERE = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_EC2_METADATA_DISABLED": "true"}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a configuration of which nothing can be reached but a folder."""
    monkeypatch.setattr(logs, "configure", lambda *_: None)
    monkeypatch.setattr(client, "quiet_client_log", lambda **_: None)
    monkeypatch.setattr(admin, "ANSWER_SECONDS", 0.0)
    for name, value in NOWHERE.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "connections").mkdir()
    sink = {"type": "kinesis", "stream_name": "events", "region": "us-east-1"}
    keys = {"access_key_id": "AKIAEXAMPLE", "secret_access_key": SECRET}
    file = {"type": "file", "path": str(tmp_path / "out" / "below")}
    for name, content in (("keys", {"sink": sink, "credentials": keys}), ("file", {"sink": file})):
        text = yaml.safe_dump({"name": name, **content})
        (tmp_path / "connections" / f"{name}.yaml").write_text(text)
    kafka = {"bootstrap_servers": ["127.0.0.1:1"], "topics": ["raw-events"]}
    path = tmp_path / "forwarder.yaml"
    path.write_text(yaml.safe_dump({"kafka": kafka}))
    return path


def test_what_does_not_answer_is_a_finding_with_a_remedy_and_ends_with_1(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 1 == cli.main(["doctor", "--json", "--put", "--config", str(config)])
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert document["ok"] is False
    found = {one["where"]: one for one in document["findings"]}
    assert "127.0.0.1:1 lets nobody in" in found["kafka"]["what"]
    assert "bootstrap_servers" in found["kafka"]["remedy"]
    assert "GetCallerIdentity on STS in us-east-1" in found["connection keys"]["what"]
    assert "STS can be reached" in found["connection keys"]["remedy"]
    assert "ok" == found["connection file"]["grade"]
    assert SECRET not in said.out + said.err


def test_only_the_connections_named_are_looked_at(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 1 == cli.main(["doctor", "--config", str(config), "--connection", "file"])
    printed = capsys.readouterr().out
    assert "connection file\n  ok    " in printed
    assert "connection keys" not in printed
    assert printed.endswith("1 to mend\n")
    assert 2 == cli.main(["doctor", "--config", str(config), "--connection", "gone"])
    assert "gone is not configured; give one of file, keys" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_to_be_mended(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    found = doctor.folder_finding(tmp_path / "taken" / "out")
    assert FindingGrade.FAIL is found.grade
    assert str(tmp_path / "taken") in found.remedy


def test_a_test_record_says_that_it_is_one() -> None:
    connection = Connection("acme", FileTarget("/out"))
    record = doctor.test_record(connection)
    payload = msgspec.json.decode(record.payload)
    assert ("forwarder_test", "acme", []) == (
        payload["message_type"],
        payload["connection"],
        payload["events"],
    )
    assert record.id == payload["message_id"]


def test_a_folder_behind_one_that_nobody_may_look_into_is_to_be_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shut = tmp_path / "shut"

    def stat(path: str | Path, **options: bool) -> os.stat_result:
        if shut in Path(path).parents:
            raise PermissionError(path)
        return plain(path, **options)

    plain = os.stat
    shut.mkdir()
    monkeypatch.setattr(os, "stat", stat)
    monkeypatch.setattr(os, "access", lambda *_: False)
    found = doctor.folder_finding(shut / "below" / "out")
    assert (FindingGrade.FAIL, True) == (found.grade, str(shut) in found.remedy)


async def test_certificates_that_cannot_be_used_are_a_finding(tmp_path: Path) -> None:
    missing = Security(SecurityProtocol.SSL, ca_file=str(tmp_path / "none.pem"))
    kafka = Kafka(("127.0.0.1:1",), (InputTopic("raw"),), "g", security=missing)
    [found] = await doctor.kafka_findings(AwsSession(SystemClock()), Configuration(kafka, ()), "me")
    assert "certificates for Kafka cannot be used" in found.what
    assert "kafka.security" in found.remedy


async def test_an_sts_that_drips_its_answer_ends_in_a_finding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answering: list[asyncio.Task[object] | None] = []

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering.append(asyncio.current_task())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        with contextlib.suppress(OSError):
            while not writer.is_closing():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    aws = AwsSession(SystemClock(), limits=TimeLimits(identity=0.5))
    keys = AccessKeys("AKIAEXAMPLE", SECRET)
    async with asyncio.timeout(20):
        found = await identity.identity_finding(aws, keys, "us-east-1", "acme")
    await aws.close()
    server.close()
    await asyncio.gather(*(task for task in answering if task))
    assert (FindingGrade.FAIL, True) == (found.grade, "Unanswered" in found.what)


DENIED = Outcome(OutcomeKind.CONFIGURATION, "AccessDenied", "denied; allow it", remedy="allow it")
STORED = Outcome(OutcomeKind.DELIVERED)
AUTO, RECORD = KinesisTarget("s", "us-east-1"), KinesisTarget("s", "us-east-1", put=PutMode.RECORD)


def allows(*modes: PutMode) -> Callable[[Connection], Outcome]:
    def answer(connection: Connection) -> Outcome:
        sink = connection.sink
        mode = sink.put if isinstance(sink, KinesisTarget) else PutMode.AUTO
        return STORED if mode in modes else DENIED

    return answer


async def test_where_no_action_works_each_says_why() -> None:
    """A policy may have PutRecord alone: then its answer is the one that matters."""
    locked = Outcome(
        OutcomeKind.CONFIGURATION, "KMSAccessDenied", "locked; allow the key", remedy="key"
    )

    async def put(connection: Connection) -> Outcome:
        return locked if connection.sink == RECORD else DENIED

    found = await doctor.put_findings(Connection("acme", AUTO), put)
    assert [(FindingGrade.FAIL, "allow it"), (FindingGrade.FAIL, "key")] == [
        (o.grade, o.remedy) for o in found
    ]


@pytest.mark.parametrize(
    ("sink", "answer", "expected"),
    [
        (AUTO, allows(PutMode.RECORD, PutMode.RECORDS), ["ok", "ok"]),
        (AUTO, allows(PutMode.RECORD), ["note", "ok"]),
        (AUTO, allows(PutMode.RECORDS), ["ok", "note"]),
        (AUTO, allows(), ["FAIL"]),
        (RECORD, allows(PutMode.RECORD), ["ok"]),
        (RECORD, allows(PutMode.RECORDS), ["FAIL"]),
        (FirehoseTarget("s", "us-east-1"), allows(PutMode.AUTO), ["ok"]),
    ],
)
async def test_one_action_that_works_is_enough_for_auto_and_the_one_set_for_the_others(
    sink: KinesisTarget | FirehoseTarget,
    answer: Callable[[Connection], Outcome],
    expected: list[str],
) -> None:
    async def put(connection: Connection) -> Outcome:
        return answer(connection)

    found = await doctor.put_findings(Connection("acme", sink), put)
    assert expected == [str(one.grade) for one in found]
    assert all(one.remedy == "allow it" for one in found if one.grade is FindingGrade.FAIL)

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from forwarder.cli import main
from forwarder.config.schema import schema_text, worker_schema
from forwarder.config.worker_fields import WORKER as SECTION
from tests.configurations import ROOT, SMALL_WORKER, WORKER, Folder, replaced
from tests.schemas import complaints_of
from tests.unit.config.test_configuration_page import WORKERS

STORED = ROOT / "config" / "worker.schema.json"
SHIPPED = [
    ROOT / "config" / "forwarder.yaml",
    ROOT / "config" / "examples" / "gateway.yaml",
    *sorted(ROOT.glob("deploy/**/forwarder.yaml")),
]


def complaints(text: str) -> list[str]:
    return complaints_of(worker_schema(), text)


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(worker_schema())


def test_the_stored_schema_is_current() -> None:
    assert STORED.read_text() == schema_text(worker_schema())


def test_the_command_prints_the_stored_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == main(["schema", "--worker"])
    assert STORED.read_text() == capsys.readouterr().out


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.parent.name)
def test_every_worker_file_that_is_shipped_is_valid(path: Path) -> None:
    assert [] == complaints(path.read_text())


@pytest.mark.parametrize("text", WORKERS)
def test_every_example_of_the_page_is_valid(text: str) -> None:
    assert [] == complaints(text)


def test_the_shipped_file_points_editors_to_the_schema() -> None:
    start, target = WORKER.splitlines()[0].split("=")
    assert "# yaml-language-server: $schema" == start
    assert STORED == (ROOT / "config" / target).resolve()


def test_every_key_is_described() -> None:
    described = json.dumps(worker_schema(), ensure_ascii=False)
    for path, _, field in SECTION.paths():
        assert json.dumps(field.about, ensure_ascii=False) in described, path


SECURE = "  security: {protocol: SASL_SSL, mechanism: "
VALID = [
    "kafka: {bootstrap_servers: ['[::1]:2', \"${BROKER}\"], topics: [t, {name: u}]}\n",
    'kafka: {bootstrap_servers: [a:1], topics: ["${TOPIC}"], session_timeout: "${QUIET}"}\n',
    f"{SMALL_WORKER}journal:\nserver:\nlimits: {{}}\nlog:\n",
    f"{SMALL_WORKER}journal: {{replication_factor: -1, retired: [old], create_topics: false}}\n",
    f"{SMALL_WORKER}limits: {{window_memory: 1GiB, rejected_percent: 0}}\ndrain_timeout: 1m\n",
]
SECURITY = [
    "null",
    "{}",
    "{protocol: PLAINTEXT, username: null, ca_file: null}",
    "{protocol: SSL, ca_file: ca.pem, cert_file: c.pem, key_file: k.pem}",
    "{protocol: SASL_SSL, mechanism: PLAIN, username: u, password: p}",
    '{protocol: SASL_SSL, mechanism: "${HOW}", username: u, password: p}',
    '{protocol: "${PROTOCOL}", mechanism: PLAIN, username: u, password: "${P}"}',
    "{protocol: SASL_SSL, mechanism: AWS_MSK_IAM, region: us-east-1}",
    "{protocol: SASL_PLAINTEXT, mechanism: SCRAM-SHA-512, username: u, password: p}",
]


def secured(security: str) -> str:
    return SMALL_WORKER.replace("]}", f"], security: {security}}}")


@pytest.mark.parametrize("text", [*VALID, *map(secured, SECURITY)])
def test_what_the_program_reads_is_valid(folder: Folder, text: str) -> None:
    assert [] == complaints(text)
    folder.write(text)
    environ = {
        "BROKER": "a:1", "TOPIC": "t", "QUIET": "6s", "HOW": "PLAIN", "P": "p",
        "PROTOCOL": "SASL_SSL",
    }  # fmt: skip
    folder.load(environ, offline=True)


INVALID = [
    ("bootstrap_servers:", "bootstrap_servers: localhost:9092"),
    ("bootstrap_servers:", "bootstrap_servers: []"),
    ("bootstrap_servers:", "bootstrap_servers: [a b:1]"),
    ("bootstrap_servers:", "boostrap_servers: [a:1]"),
    ("group_id:", "group_id: 7"),
    ("group_id:", "group_id: a b"),
    ("topics:", "topics: []"),
    ("topics:", "topics: [t, t]"),
    ("topics:", "topics: [{name: t, format: csv}]"),
    ("topics:", "topics: [{nme: t}]"),
    ("topics:", "topics: [a/b]"),
    ("start:", "start: now"),
    ("security:", "security: {protocol: TLS}"),
    ("tick:", "tick: 1"),
    ("tick:", "tick: 1 minute"),
    ("retired:", "retired: old"),
    ("create_topics:", "create_topics: 1"),
    ("replication_factor:", "replication_factor: 0"),
    ("replication_factor:", "replication_factor: -2"),
    ("server:", "server: {port: 65536}"),
    ("limits:", "limits: {window_memory: 512MB}"),
    ("limits:", "limits: {rejected_percent: 101}"),
    ("drain_timeout:", "drain_timeout: 25"),
    ("log:", "log: {level: trace}"),
    ("connections:", "connection: connections"),
]


@pytest.mark.parametrize(("old", "new"), INVALID)
def test_what_the_program_refuses_is_invalid(folder: Folder, old: str, new: str) -> None:
    text = replaced(WORKER, old, new)[0]
    assert [] != complaints(text)
    folder.write(text)
    assert [] != folder.faults()


INSECURE = [
    "{username: u}",
    "{protocol: PLAINTEXT, mechanism: PLAIN}",
    "{protocol: SSL, region: us-east-1}",
    "{ca_file: ca.pem}",
    "{protocol: SASL_PLAINTEXT, mechanism: PLAIN, username: u, password: p, ca_file: ca.pem}",
    "{protocol: SSL, cert_file: c.pem}",
    "{protocol: SSL, key_file: k.pem}",
    "{protocol: SASL_SSL}",
    "{protocol: SASL_SSL, mechanism: PLAIN, username: u}",
    "{protocol: SASL_SSL, mechanism: PLAIN, password: p}",
    "{protocol: SASL_SSL, mechanism: PLAIN, username: u, password: p, region: us-east-1}",
    "{protocol: SASL_SSL, mechanism: AWS_MSK_IAM}",
    "{protocol: SASL_PLAINTEXT, mechanism: AWS_MSK_IAM, region: us-east-1}",
    "{protocol: SASL_SSL, mechanism: AWS_MSK_IAM, region: us-east-1, password: p}",
]


@pytest.mark.parametrize("security", INSECURE)
def test_what_does_not_belong_to_a_protocol_is_invalid(folder: Folder, security: str) -> None:
    assert [True] == [
        path.startswith("$.kafka.security") for path in complaints(secured(security))
    ][:1]
    folder.write(secured(security))
    assert [] != folder.faults()

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from forwarder.cli import main
from forwarder.config.connection_fields import CONNECTION
from forwarder.config.schema import connection_schema, schema_text
from tests.configurations import EXAMPLE, ROOT, SMALL, replaced
from tests.schemas import complaints_of

STORED = ROOT / "config" / "connection.schema.json"
EXAMPLES = [
    ROOT / "config" / "connections" / "example.yaml",
    *(
        file
        for file in sorted((ROOT / "config" / "examples").glob("*.yaml"))
        if file.stem != "gateway"
    ),
]


def complaints(text: str) -> list[str]:
    return complaints_of(connection_schema(), text)


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(connection_schema())


def test_the_stored_schema_is_current() -> None:
    assert STORED.read_text() == schema_text(connection_schema())


def test_the_command_prints_the_stored_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == main(["schema"])
    assert STORED.read_text() == capsys.readouterr().out


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_valid(path: Path) -> None:
    assert [] == complaints(path.read_text())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_points_editors_to_the_schema(path: Path) -> None:
    start, target = path.read_text().splitlines()[0].split("=")
    assert "# yaml-language-server: $schema" == start
    assert STORED == (path.parent / target).resolve()


def test_every_key_is_described() -> None:
    described = json.dumps(connection_schema(), ensure_ascii=False)
    for path, _, field in CONNECTION.paths():
        assert json.dumps(field.about, ensure_ascii=False) in described, path


VALID = [
    ("deliver_from:", "deliver_from: 2026-01-31T12:00:00Z"),
    ("environment:", 'environment: ["${ENVIRONMENT}"]'),
    ("status:", 'status: "${STATUS}"'),
    ("max_events:", 'max_events: "${EVENTS}"'),
    ("send_as_batch:", 'send_as_batch: "${BATCH}"'),
    ("max_age:", 'max_age: "${AGE}"'),
    ("region:", 'region: "${REGION}"'),
    ("org_id:", 'external_id: "${file:/run/id}"'),
]


@pytest.mark.parametrize(("old", "new"), VALID)
def test_what_the_program_reads_is_valid(old: str, new: str) -> None:
    assert [] == complaints(replaced(EXAMPLE, old, new)[0])


INVALID = [
    ("name:", "nme: acme"),
    ("name:", "name: 7"),
    ("name:", 'name: ""'),
    ("status:", "status: asleep"),
    ("deliver_from:", "deliver_from: yesterday"),
    ("environment:", "environment: production"),
    ("environment:", "environment: []"),
    ("environment:", "environment: [staging]"),
    ("platform:", "platform: [ios, ios]"),
    ("platform:", "platfrom: [ios]"),
    ("aws_account_id:", "aws_account_id: 111122223333"),
    ("aws_account_id:", 'aws_account_id: "1111"'),
    ("aws_account_id:", "access_key_id: A\nsecret_access_key: s"),
    (
        "aws_account_id:",
        'aws_account_id: "111122223333"\nrole_arn: arn:aws:iam::111122223333:role/x',
    ),
    ("aws_account_id:", "role_arn: arn:aws:s3:::x"),
    ("type:", "type: kinesi"),
    ("type:", "type: file"),
    ("stream_name:", "name: acme"),
    ("partition_key:", "partition_key: user"),
    ("max_record_bytes:", "max_record_bytes: 1048576"),
    ("max_record_bytes:", "max_record_bytes: 1MB"),
    ("put:", "put: all"),
    ("send_as_batch:", 'send_as_batch: "true"'),
    ("send_as_batch:", "send_as_batch: 1"),
    ("metadata_field_exclusion:", "metadata_field_exclusion: ip"),
    ("max_age:", "max_age: 10"),
    ("max_events:", "max_events: 0"),
    ("max_events:", "max_events: 1.5"),
]


@pytest.mark.parametrize(("old", "new"), INVALID)
def test_what_the_program_refuses_is_invalid(old: str, new: str) -> None:
    assert [] != complaints(replaced(EXAMPLE, old, new)[0])


def test_half_a_pair_of_keys_is_invalid() -> None:
    assert ["$.credentials"] == complaints(SMALL + "credentials: {access_key_id: A}\n")


def test_a_file_sink_needs_its_path() -> None:
    assert [] == complaints("name: acme\nsink: {type: file, path: out}\n")
    assert ["$.sink"] == complaints("name: acme\nsink: {type: file}\n")


def test_an_empty_section_is_valid() -> None:
    assert [] == complaints(SMALL + "settings:\nbatching:\nmatch:\ncredentials:\n")

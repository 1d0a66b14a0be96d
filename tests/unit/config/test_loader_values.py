from dataclasses import asdict, fields
from pathlib import Path

import pytest

from forwarder.config.connection import Batching, BatchMode, Connection, Match, Settings, Status
from forwarder.config.connection_fields import CONNECTION
from forwarder.config.credentials import AccessKeys, AssumedRole, DefaultCredentials
from forwarder.config.loader import load_configuration, load_connection
from forwarder.config.settings import Configuration, InputTopic, Kafka, Mechanism, SecurityProtocol
from forwarder.config.targets import FileTarget, KinesisTarget, PartitionKey, PutMode
from forwarder.config.worker_fields import WORKER as WORKER_SECTION
from forwarder.config.yaml.sections import Section
from tests.configurations import ROOT, SMALL, SMALL_WORKER, Folder

SMALL_CONNECTION = Connection("acme", KinesisTarget("acme", "us-east-1"))


def only(folder: Folder, text: str) -> Connection:
    folder.connect(text)
    (connection,) = folder.load().configuration.connections
    return connection


def test_the_shipped_configuration_is_the_documented_one() -> None:
    configuration = load_configuration(ROOT / "config" / "forwarder.yaml", environ={}).configuration
    connection = Connection(
        "acme-production",
        KinesisTarget("acme-events", "us-east-1"),
        match=Match(
            frozenset({"production"}),
            frozenset({"com.acme.shop"}),
            frozenset({"ios", "android"}),
            frozenset({"us1-abc"}),
        ),
        credentials=AssumedRole(
            "arn:aws:iam::111122223333:role/mparticle-kinesis-role", "orgid:1111"
        ),
    )
    kafka = Kafka(("localhost:9092",), (InputTopic("raw-events"),))
    assert Configuration(kafka, (connection,)) == configuration


def test_the_shipped_configuration_gives_no_note() -> None:
    assert () == load_configuration(ROOT / "config" / "forwarder.yaml", environ={}).notes


def test_what_is_left_out_has_its_default(folder: Folder) -> None:
    kafka = Kafka(("localhost:9092",), (InputTopic("raw-events"),))
    assert Configuration(kafka, (SMALL_CONNECTION,)) == folder.load().configuration


def test_empty_sections_are_left_out_sections(folder: Folder) -> None:
    folder.write(SMALL_WORKER + "journal:\nserver:\nlimits: {}\nlog:\n")
    assert SMALL_CONNECTION == only(
        folder, SMALL + "match:\ncredentials:\nsettings: {}\nbatching:\n"
    )


@pytest.mark.parametrize("section", [WORKER_SECTION, CONNECTION])
def test_every_attribute_of_the_typed_configuration_can_be_written(section: Section) -> None:
    for path, own, _ in section.paths():
        written = {field.attribute for field in own.fields if field.stored}
        assert {field.name for field in fields(own.target_type)} == written, path


def test_every_key_of_the_worker_file_reaches_its_attribute(folder: Folder) -> None:
    folder.write(
        "kafka:\n"
        "  bootstrap_servers: ['a:1', '[::1]:2']\n"
        "  group_id: g\n"
        '  group_instance_id: "${POD}"\n'
        "  session_timeout: 6s\n"
        "  topics: [t, {name: u}, {name: v, format: mparticle}]\n"
        "  start: latest\n"
        "  dead_letter_topic: d\n"
        "  security: {protocol: SASL_SSL, mechanism: SCRAM-SHA-512, username: u, password: p}\n"
        "journal:\n"
        "  {tick: 100ms, base_interval: 1s, outbox_retention: 1m, lane_ttl: 2m, retired: [old],\n"
        "   retired_topics: [x], create_topics: false, replication_factor: 3}\n"
        "server: {host: 127.0.0.1, port: 0}\n"
        "limits: {window_memory: 1GiB, in_flight: 32MiB}\n"
        "drain_timeout: 1m\n"
        "log: {level: debug, format: console}\n"
    )
    found = folder.load({"POD": "worker-0"}).configuration
    kafka = found.kafka
    assert (("a:1", "[::1]:2"), "g", "worker-0", 6_000, "latest", "d") == (
        kafka.bootstrap_servers,
        kafka.group_id,
        kafka.group_instance_id,
        kafka.session_timeout_ms,
        kafka.start,
        kafka.dead_letter_topic,
    )
    assert ["t", "u", "v"] == [topic.name for topic in kafka.topics]
    security = kafka.security
    assert (SecurityProtocol.SASL_SSL, Mechanism.SCRAM_SHA_512, "u", "p") == (
        security.protocol,
        security.mechanism,
        security.username,
        security.password,
    )
    journal = found.journal
    assert (100, 1_000, 60_000, 120_000, ("old",), ("x",), False, 3) == (
        journal.tick_ms,
        journal.base_interval_ms,
        journal.outbox_retention_ms,
        journal.lane_ttl_ms,
        journal.retired,
        journal.retired_topics,
        journal.create_topics,
        journal.replication_factor,
    )
    assert ("127.0.0.1", 0) == (found.server.host, found.server.port)
    assert (1 << 30, 32 << 20) == (found.limits.window_memory, found.limits.in_flight)
    assert (60_000, "debug", "console") == (
        found.drain_timeout_ms,
        found.log.level,
        found.log.format,
    )


def test_every_key_of_a_connection_reaches_its_attribute(folder: Folder) -> None:
    text = (
        "name: acme\nstatus: inactive\ndeliver_from: 2026-01-31T12:00:00.250+02:00\n"
        "match: {environment: [development], platform: [iOS, Android]}\n"
        "sink: {type: kinesis, stream_name: s, region: eu-west-1, partition_key: mpid,\n"
        "       max_record_bytes: 64KiB, put: records, endpoint_url: 'https://vpce.example:8443'}\n"
        "settings: {unique_id: id, metadata_field_exclusion: [ip, device_info.imei]}\n"
        "batching: {max_age: 500ms, max_events: 5, session_timeout: 1s, session_grace: 0s,\n"
        "           session_max: 7d}\n"
    )
    assert Connection(
        "acme",
        KinesisTarget(
            "s",
            "eu-west-1",
            PartitionKey.MPID,
            65_536,
            PutMode.RECORDS,
            "https://vpce.example:8443",
        ),
        Status.INACTIVE,
        1_769_853_600_250,
        Match(environment=frozenset({"development"}), platform=frozenset({"ios", "android"})),
        DefaultCredentials(),
        Settings(unique_id="id", metadata_field_exclusion=("ip", "device_info.imei")),
        Batching(500, 5, 1_000, 0, 604_800_000),
    ) == only(folder, text)


FLAGS = [f.name for f in fields(Settings) if isinstance(f.default, bool)]


@pytest.mark.parametrize("name", FLAGS)
def test_every_flag_can_be_turned_round(folder: Folder, name: str) -> None:
    turned = not getattr(Settings(), name)
    connection = only(folder, f"{SMALL}settings: {{{name}: {str(turned).lower()}}}\n")
    assert {**asdict(Settings()), name: turned} == asdict(connection.settings)


ACCOUNT = 'aws_account_id: "111122223333"'
DEFAULT = "iam::111122223333:role/mparticle-kinesis-role"
OTHER = "iam::111122223333:role/a+b"
ROLES = [
    (f'{ACCOUNT}, org_id: "1"', "us-east-1", f"arn:aws:{DEFAULT}", "orgid:1"),
    (f'{ACCOUNT}, org_id: "1"', "cn-north-1", f"arn:aws-cn:{DEFAULT}", "orgid:1"),
    (f'{ACCOUNT}, org_id: "1"', "us-gov-east-1", f"arn:aws-us-gov:{DEFAULT}", "orgid:1"),
    (f'{ACCOUNT}, org_id: "1", external_id: "x:y"', "eu-west-1", f"arn:aws:{DEFAULT}", "x:y"),
    (f'{ACCOUNT}, external_id: "xy", role_name: a+b', "eu-west-1", f"arn:aws:{OTHER}", "xy"),
]


@pytest.mark.parametrize(("keys", "region", "arn", "external"), ROLES)
def test_account_and_organisation_make_the_role(
    folder: Folder, keys: str, region: str, arn: str, external: str
) -> None:
    text = SMALL.replace("us-east-1", region) + f"credentials: {{{keys}}}\n"
    assert AssumedRole(arn, external) == only(folder, text).credentials


def test_a_whole_role_arn_is_taken_as_it_is(folder: Folder) -> None:
    arn = "arn:aws:iam::111122223333:role/team/writer"
    found = only(folder, f"{SMALL}credentials: {{role_arn: '{arn}'}}\n")
    assert AssumedRole(arn, None) == found.credentials


def test_keys_are_access_keys(folder: Folder) -> None:
    text = f"{SMALL}credentials: {{access_key_id: test, secret_access_key: test}}\n"
    assert AccessKeys("test", "test") == only(folder, text).credentials


@pytest.mark.parametrize("name", ["file", "firehose", "pinpoint", "sessions"])
def test_the_other_examples_load_without_a_note(name: str) -> None:
    assert () == load_connection(ROOT / "config" / "examples" / f"{name}.yaml", environ={}).notes


def test_the_example_of_keys_loads_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "acme").write_text("wJalr\n")
    file = tmp_path / "keys.yaml"
    shipped = (ROOT / "config" / "examples" / "keys.yaml").read_text()
    file.write_text(shipped.replace("/run/secrets/", f"{tmp_path}/"))
    loaded = load_connection(file, environ={"ACME_KEY_ID": "AKIA"})
    assert AccessKeys("AKIA", "wJalr") == loaded.connection.credentials
    assert () == loaded.notes


def test_a_file_target_is_absolute(folder: Folder) -> None:
    found = only(folder, "name: acme\nsink: {type: file, path: out}\n")
    assert FileTarget(str(folder.path / "connections" / "out")) == found.sink


MODES = [
    ("send_as_batch: true", BatchMode.BATCH),
    ("send_as_batch: false", BatchMode.SINGLE),
    ("wait_for_complete_batch: true", BatchMode.SESSION),
]


@pytest.mark.parametrize(("setting", "mode"), MODES)
def test_two_settings_make_the_mode(folder: Folder, setting: str, mode: BatchMode) -> None:
    assert mode is only(folder, f"{SMALL}settings: {{{setting}}}\n").settings.mode


ROLE = "role_arn: arn:aws:iam::111122223333:role/x"
SESSIONS = "settings: {wait_for_complete_batch: true}\n"
NOTES = [
    (
        "settings: {send_as_batch: false, wait_for_complete_batch: true}\n",
        "settings.send_as_batch: is ignored: wait_for_complete_batch is on",
    ),
    (
        "settings: {include_event_batch_location: true, include_location_information: false}\n",
        "settings.include_event_batch_location: has no effect",
    ),
    (f"credentials: {{{ROLE}}}\n", "credentials.role_arn: no ExternalId will be sent"),
    ("batching: {session_timeout: 1m}\n", "batching.session_timeout: has no effect"),
    (SESSIONS + "batching: {max_age: 1m}\n", "batching.max_age: has no effect"),
    (SESSIONS + "batching: {session_max: 5m}\n", "batching.session_max: is shorter than"),
    (
        "settings: {send_as_batch: false}\nbatching: {max_events: 5}\n",
        "batching.max_events: has no effect: every event is sent at once",
    ),
    ("  region: us-west-9\n", "sink.region: is not known to this release"),
    ("  endpoint_url: http://vpce.example\n", "sink.endpoint_url: is not encrypted"),
]


@pytest.mark.parametrize(("text", "words"), NOTES)
def test_what_may_not_be_meant_is_noted_and_no_fault(folder: Folder, text: str, words: str) -> None:
    small = SMALL.replace("  region: us-east-1\n", "") if "region:" in text else SMALL
    folder.connect(small + text)
    (note,) = folder.load().notes
    assert note.startswith("connections/acme.yaml:")
    assert words in note


WORKER_NOTES = [
    ("journal: {outbox_retention: 23h}\n", "journal.outbox_retention: is less than a day"),
    ("", "kafka.security.protocol: sends the password in clear"),
]


@pytest.mark.parametrize(("text", "words"), WORKER_NOTES)
def test_what_may_not_be_meant_by_the_worker_file_is_noted(
    folder: Folder, text: str, words: str
) -> None:
    secure = "security: {protocol: SASL_PLAINTEXT, mechanism: PLAIN, username: u, password: '${P}'}"
    folder.write(SMALL_WORKER + text if text else SMALL_WORKER[:-2] + f", {secure}}}\n")
    (note,) = folder.load({"P": "p"}).notes
    assert note.startswith(f"forwarder.yaml:{2 if text else 1}: {words}")


def test_credentials_beside_a_file_sink_are_noted(folder: Folder) -> None:
    folder.connect(f"name: acme\nsink: {{type: file, path: out}}\ncredentials: {{{ROLE}}}\n")
    text = "credentials: is not used: the sink is a file"
    assert f"connections/acme.yaml:3: {text}" in folder.load().notes


def test_a_local_endpoint_in_clear_is_not_noted(folder: Folder) -> None:
    folder.connect(SMALL + "  endpoint_url: http://127.0.0.1:4566\n")
    assert () == folder.load().notes

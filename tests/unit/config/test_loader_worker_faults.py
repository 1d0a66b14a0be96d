from pathlib import Path

import pytest

from tests.configurations import SMALL, SMALL_WORKER, WORKER, Folder, replaced

LONG = "a" * 240

ROLE = "role_arn: 'arn:aws:iam::111122223333:role/r'"
VALUES = [
    ("bootstrap_servers:", "bootstrap_servers: []", "kafka.bootstrap_servers", "an empty list"),
    ("bootstrap_servers:", "bootstrap_servers: a:1", "kafka.bootstrap_servers", "write [a:1]"),
    ("bootstrap_servers:", "bootstrap_servers: [a]", "kafka.bootstrap_servers[0]", "has no port"),
    (
        "bootstrap_servers:",
        'bootstrap_servers: ["a:1,b:2"]',
        "kafka.bootstrap_servers[0]",
        "one list element for each broker",
    ),
    ("bootstrap_servers:", 'bootstrap_servers: ["a:99999"]', "kafka.bootstrap_servers[0]", "65535"),
    ("group_id:", "group_id: a/b", "kafka.group_id", "Kafka takes no other"),
    ("group_id:", "group_id: ..", "kafka.group_id", "choose another name"),
    ("group_id:", f"group_id: {LONG}", "kafka.topics[0]", "longer than 249 characters (258)"),
    ("group_instance_id:", "group_instance_id: a b", "kafka.group_instance_id", "1 to 249"),
    ("session_timeout:", "session_timeout: 5s", "kafka.session_timeout", "from 6s to 30m"),
    ("topics:", "topics: []", "kafka.topics", "is an empty list"),
    ("topics:", "topics: [a b]", "kafka.topics[0]", "1 to 249 of the characters"),
    ("topics:", f"topics: [{'a' * 250}]", "kafka.topics[0]", "1 to 249 of the characters"),
    ("topics:", "topics: [a, a]", "kafka.topics[1]", "a is a topic that is read already"),
    ("topics:", "topics: [a.b, a_b]", "kafka.topics[1]", "a_b differs from a.b in . and _ alone"),
    ("topics:", "topics: [{name: a}, {nam: b}]", "kafka.topics[1].name", "is missing"),
    ("topics:", "topics: [{name: a b}]", "kafka.topics[0].name", "1 to 249 of the characters"),
    ("topics:", "topics: [{name: a, format: avro}]", "kafka.topics[0].format", "be mparticle"),
    ("topics:", "topics: [7]", "kafka.topics[0]", 'quote "7"'),
    ("topics:", "topics: [a, forwarder_outbox.a]", "kafka.topics[0]", "stands in the way"),
    ("start:", "start: newest", "kafka.start", "earliest or latest"),
    ("dead_letter_topic:", "dead_letter_topic: raw-events", "kafka.dead_letter_topic", "already"),
    (
        "dead_letter_topic:",
        "dead_letter_topic: forwarder.state.raw-events",
        "kafka.topics[0]",
        "needs the topic forwarder.state.raw-events for the journal",
    ),
    ("security:", "security: {protocol: TLS}", "kafka.security.protocol", "PLAINTEXT, SSL"),
    ("security:", "security: {protocol: SASL_SSL}", "kafka.security.mechanism", "is missing"),
    ("security:", "security: {protocol: SASL_SSL}", "kafka.security.username", "is missing"),
    ("security:", "security: {protocol: SASL_SSL}", "kafka.security.password", "is missing"),
    (
        "security:",
        "security: {protocol: SASL_SSL, mechanism: PLAN}",
        "kafka.security.mechanism",
        "mean PLAIN?",
    ),
    ("security:", "security: {password: x}", "kafka.security.password", "is not used"),
    ("security:", "security: {region: us-east-1}", "kafka.security.region", "is not used"),
    (
        "security:",
        "security: {protocol: SASL_SSL, mechanism: AWS_MSK_IAM}",
        "kafka.security.region",
        "is missing; AWS_MSK_IAM needs",
    ),
    (
        "security:",
        "security: {protocol: SASL_PLAINTEXT, mechanism: AWS_MSK_IAM, region: us-east-1}",
        "kafka.security.protocol",
        "would send tokens in clear",
    ),
    (
        "security:",
        "security: {protocol: SASL_SSL, mechanism: AWS_MSK_IAM, region: us-east-1, username: x}",
        "kafka.security.username",
        "AWS_MSK_IAM signs with AWS credentials",
    ),
    (
        "security:",
        f"security: {{protocol: SASL_SSL, mechanism: PLAIN, username: x, password: y, {ROLE}}}",
        "kafka.security.role_arn",
        "belongs to mechanism AWS_MSK_IAM",
    ),
    (
        "security:",
        f"security: {{protocol: SASL_SSL, mechanism: AWS_MSK_IAM, region: cn-north-1, {ROLE}}}",
        "kafka.security.role_arn",
        "is of another partition than cn-north-1",
    ),
    (
        "security:",
        "security: {protocol: SSL, ca_file: a.pem}",
        "kafka.security.ca_file",
        "cannot be used",
    ),
    (
        "security:",
        "security: {protocol: SSL, ca_file: .}",
        "kafka.security.ca_file",
        "name the file itself",
    ),
    ("security:", "security: {ca_file: forwarder.yaml}", "kafka.security.ca_file", "not used"),
    (
        "security:",
        "security: {protocol: SSL, cert_file: forwarder.yaml}",
        "kafka.security.key_file",
        "is missing; it belongs to cert_file",
    ),
    (
        "security:",
        "security: {protocol: SSL, key_file: forwarder.yaml}",
        "kafka.security.cert_file",
        "is missing; it belongs to key_file",
    ),
    ("connections:", "connections: nowhere", "connections", "nowhere cannot be read"),
    ("connections:", "connections: [a]", "connections", "must be a folder, is a list"),
    ("tick:", "tick: 10s", "journal.tick", "from 100ms to 5s"),
    ("tick:", "tick: 99ms", "journal.tick", "from 100ms to 5s"),
    ("base_interval:", "base_interval: 999ms", "journal.base_interval", "from 1s to 1d"),
    ("outbox_retention:", "outbox_retention: 1w", "journal.outbox_retention", "ms s m h d"),
    ("retired:", "retired: [acme]", "journal.retired[0]", "configured, in connections/acme.yaml"),
    ("retired:", "retired: acme", "journal.retired", "must be a list"),
    (
        "retired_topics:",
        "retired_topics: [old, raw-events]",
        "journal.retired_topics[1]",
        "raw-events is in kafka.topics, too",
    ),
    ("retired_topics:", "retired_topics: x", "journal.retired_topics", "must be a list"),
    ("create_topics:", "create_topics: maybe", "journal.create_topics", "true or false"),
    ("replication_factor:", "replication_factor: 0", "journal.replication_factor", "-1"),
    ("server:", "server: {port: 65536}", "server.port", "from 0 to 65535"),
    ("server:", "sever: {}", "sever", "did you mean server?"),
    ("limits:", "limits: {in_flight: 64MB}", "limits.in_flight", "write 64MiB"),
    ("limits:", "limits: {window_memory: 512}", "limits.window_memory", "such as 512MiB"),
    ("drain_timeout:", "drain_timeout: 25", "drain_timeout", "add a unit, such as 25s"),
    ("log:", "log: {level: warn}", "log.level", "did you mean warning?"),
    ("log:", "log: json", "log", "must be a mapping of keys"),
]


@pytest.mark.parametrize(("old", "new", "key", "words"), VALUES)
def test_a_wrong_value_is_the_one_fault_of_its_key(
    folder: Folder, old: str, new: str, key: str, words: str
) -> None:
    text, line = replaced(WORKER, old, new)
    folder.write(text)
    names = [fault for fault in folder.faults() if f": {key}: " in fault]
    where = line if key != "kafka.topics[0]" else replaced(text, "topics:", "")[1]
    assert [(True, True)] == [
        (fault.startswith(f"forwarder.yaml:{where}: {key}: "), words in fault) for fault in names
    ]


def test_a_wrong_topic_does_not_keep_the_others_from_being_judged(folder: Folder) -> None:
    text, line = replaced(
        WORKER, "topics:", "topics: [a b, {name: c, format: avro}, c, 7, c_d, c.d]"
    )
    folder.write(text)
    assert [
        (f"forwarder.yaml:{line}", f"kafka.topics[{index}]{key}")
        for index, key in ((0, ""), (1, ".format"), (3, ""), (2, ""), (5, ""))
    ] == [tuple(fault.split(": ")[:2]) for fault in folder.faults() if "topics[" in fault]


def test_what_kafka_needs_is_named_when_it_is_missing(folder: Folder) -> None:
    folder.write("kafka: {group_id: forwarder}\n")
    start, forms = "forwarder.yaml:1: kafka", "names, or mappings of name and format"
    assert [
        f"{start}.bootstrap_servers: is missing; add it: Brokers to begin with, each HOST:PORT.",
        f"{start}.topics: is missing; add it: The input topics: {forms}.",
    ] == folder.faults()


def test_a_worker_file_without_kafka_is_one_fault(folder: Folder) -> None:
    folder.write("log: {level: info}\n")
    text = "kafka: is missing; add it: Broker, group and topics."
    assert [f"forwarder.yaml:1: {text}"] == folder.faults()


def test_a_base_interval_below_the_tick_is_a_fault(folder: Folder) -> None:
    folder.write(SMALL_WORKER + "journal: {tick: 5s, base_interval: 2s}\n")
    text = "journal.base_interval: is shorter than journal.tick; give it at least one tick"
    assert [f"forwarder.yaml:2: {text}"] == folder.faults()


def test_less_memory_than_one_record_is_a_fault(folder: Folder) -> None:
    folder.write(SMALL_WORKER + "limits:\n  in_flight: 1MiB\n")
    folder.connect(SMALL + "  max_record_bytes: 2MiB\n")
    text = "limits.in_flight: is less than one record of connections/acme.yaml (2MiB)"
    assert [f"forwarder.yaml:3: {text}; give it several times as much"] == folder.faults()


def test_the_same_name_in_two_files_names_both_places(folder: Folder) -> None:
    folder.connect("# second\n" + SMALL, "beta")
    text = "name: acme is the name of the connection in connections/acme.yaml:1 too"
    assert [f"connections/beta.yaml:2: {text}; rename one of them"] == folder.faults()


def test_every_fault_of_every_file_is_in_one_list(folder: Folder) -> None:
    folder.write(SMALL_WORKER + "log: {level: loud}\nserver: {port: -1}\n")
    folder.connect(SMALL + "status: asleep\n")
    folder.connect("name: beta\nsink: {type: kinesis}\n", "beta")
    folder.connect("name: [\n", "gamma")
    assert [
        ("forwarder.yaml", "2", "log.level"),
        ("forwarder.yaml", "3", "server.port"),
        ("connections/acme.yaml", "6", "status"),
        ("connections/beta.yaml", "2", "sink.stream_name"),
        ("connections/beta.yaml", "2", "sink.region"),
        ("connections/gamma.yaml", "2", "(syntax)"),
    ] == [tuple(fault.replace(": ", ":").split(":")[:3]) for fault in folder.faults()]


def test_connections_are_judged_although_the_worker_file_cannot_be_read(folder: Folder) -> None:
    folder.write("kafka: [\n")
    folder.connect(SMALL + "status: asleep\n")
    first, second = folder.faults()
    assert first.startswith("forwarder.yaml:2: (syntax): ")
    assert second.startswith("connections/acme.yaml:6: status: ")


def test_an_empty_folder_of_connections_is_a_fault(folder: Folder) -> None:
    Path("connections/acme.yaml").unlink()
    text = "connections: connections holds no *.yaml; add a connection"
    assert [f"forwarder.yaml:1: {text}"] == folder.faults()


@pytest.mark.parametrize(("length", "faults"), [(249, 0), (250, 1)])
def test_the_outbox_topic_may_have_249_characters(folder: Folder, length: int, faults: int) -> None:
    topic = "t" * (length - len("forwarder.outbox."))
    folder.write(SMALL_WORKER.replace("raw-events", topic))
    assert faults == len(folder.faults())


def test_a_base_interval_of_one_tick_is_enough(folder: Folder) -> None:
    folder.write(SMALL_WORKER + "journal: {tick: 5s, base_interval: 5s}\n")
    assert [] == folder.faults()


def test_memory_for_exactly_one_record_is_enough(folder: Folder) -> None:
    folder.write(SMALL_WORKER + "limits: {in_flight: 2MiB}\n")
    folder.connect(SMALL + "  max_record_bytes: 2MiB\n")
    assert [] == folder.faults()

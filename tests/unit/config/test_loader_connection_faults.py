import pytest

from tests.configurations import EXAMPLE, SMALL, Folder, replaced

CONNECTION = "connections/acme.yaml"

# (line of the example that is replaced, by what, the key named, a part of the text)
VALUES = [
    ("name:", "nme: acme", "nme", "did you mean name?"),
    ("name:", "name: acme prod", "name", "1 to 100 of the characters"),
    ("name:", f"name: {'a' * 101}", "name", "1 to 100 of the characters"),
    ("name:", "name: dead-letters", "name", "dead-letters.ndjson"),
    ("name:", "name: 7", "name", 'quote "7"'),
    ("name:", "name:", "name", "is empty; give a name"),
    ("name:", 'name: ""', "name", "is empty"),
    ("name:", "name: [acme]", "name", "must be a name, is a list"),
    ("name:", "name: {acme: 1}", "name", "must be a name, is a mapping of keys"),
    ("name:", "name: !secret acme", "name", "is something with a tag"),
    ("status:", "status: Active", "status", "did you mean active?"),
    ("status:", "status: on", "status", "must be active or inactive, is on"),
    ("deliver_from:", "deliver_from: 2026-01-31", "deliver_from", "has no zone"),
    ("deliver_from:", "deliver_from: yesterday", "deliver_from", "a time with its zone"),
    ("deliver_from:", "deliver_from: 1767225600000", "deliver_from", "a time with its zone"),
    ("deliver_from:", "deliver_from: 1969-12-31T00:00:00Z", "deliver_from", "before 1970"),
    ("deliver_from:", "deliver_from: 9999-12-31T23:59:59-12:00", "deliver_from", "after the year"),
    ("deliver_from:", "deliver_from: 9999-12-31T23:59:59.9999999Z", "deliver_from", "after the"),
    ("environment:", "environment: production", "match.environment", "write [production]"),
    ("platform:", "platform: ios, android", "match.platform", "write [ios, android]"),
    ("environment:", "environment: [prod]", "match.environment[0]", "did you mean production?"),
    ("environment:", "environment: []", "match.environment", "is an empty list"),
    ("environment:", "enviroment: []", "match.enviroment", "did you mean environment?"),
    ("platform:", "platform: [ios, 7]", "match.platform[1]", 'quote "7"'),
    ("platform:", "platform: [ios, ios]", "match.platform[1]", "in the list twice"),
    ("api_key:", "apikey: [k]", "match.apikey", "did you mean api_key?"),
    ("aws_account_id:", "aws_account_id: 111122223333", "credentials.aws_account_id", "quote"),
    ("aws_account_id:", "aws_account_id: 011122223333", "credentials.aws_account_id", "quote"),
    ("aws_account_id:", 'aws_account_id: "1111"', "credentials.aws_account_id", "twelve digits"),
    ("org_id:", 'org_id: "11 11"', "credentials.org_id", "organisation id"),
    ("org_id:", 'external_id: "x"', "credentials.external_id", "2 to 1224"),
    ("org_id:", 'role_name: a/b\norg_id: "1"', "credentials.role_name", "1 to 64"),
    ("aws_account_id:", "role_arn: arn:aws:s3:::x", "credentials.role_arn", "a role's ARN"),
    (
        "aws_account_id:",
        "role_arn: arn:aws-cn:iam::111122223333:role/x",
        "credentials.role_arn",
        "is of partition aws-cn, region us-east-1 is in aws",
    ),
    ("type:", "type: kinesi", "sink.type", "did you mean kinesis?"),
    ("type:", "typ: kinesis", "sink.typ", "did you mean type?"),
    ("type:", "format: mparticel\ntype: kinesis", "sink.format", "must be mparticle"),
    ("stream_name:", "stream_name: acme events", "sink.stream_name", "1 to 128"),
    ("stream_name:", f"stream_name: {'a' * 129}", "sink.stream_name", "1 to 128"),
    (
        "stream_name:",
        "stream_name: arn:aws:kinesis:us-east-1:111122223333:stream/acme/consumer/x:1",
        "sink.stream_name",
        "is no ARN of a stream: arn:aws:kinesis:REGION:ACCOUNT:stream/NAME",
    ),
    (
        "stream_name:",
        "stream_name: arn:aws-cn:kinesis:us-east-1:111122223333:stream/acme",
        "sink.stream_name",
        "is of partition aws-cn, its region us-east-1 is in aws",
    ),
    ("newline:", 'newline: "yes"', "sink.newline", "must be true or false"),
    ("region:", "region: us-east-1a", "sink.region", "give its region, without the letter"),
    ("region:", "region: us-esat-1", "sink.region", "did you mean us-east-1?"),
    ("region:", "region: cn-west", "sink.region", "must be an AWS region"),
    ("partition_key:", "partition_key: user", "sink.partition_key", "device, mpid or batch"),
    ("max_record_bytes:", "max_record_bytes: 11MiB", "sink.max_record_bytes", "1KiB to 10MiB"),
    ("max_record_bytes:", "max_record_bytes: 1MB", "sink.max_record_bytes", "write 1MiB"),
    ("max_record_bytes:", "max_record_bytes: 512", "sink.max_record_bytes", "add a unit"),
    ("max_record_bytes:", "max_record_bytes: 512B", "sink.max_record_bytes", "1KiB to 10MiB"),
    ("put:", "put: recrod", "sink.put", "did you mean record?"),
    ("endpoint_url:", "endpoint_url: ftp://a", "sink.endpoint_url", "https:// or http://"),
    ("endpoint_url:", "endpoint_url: a.example", "sink.endpoint_url", "https:// or http://"),
    ("endpoint_url:", "endpoint_url: https://[a", "sink.endpoint_url", "is no URL"),
    ("endpoint_url:", "endpoint_url: https://a?b=c", "sink.endpoint_url", "must end after"),
    ("put:", "path: out", "sink.path", "its place is below another type"),
    ("unique_id:", "unique_id: 1.0", "settings.unique_id", 'quote "1.0"'),
    ("send_as_batch:", 'send_as_batch: "true"', "settings.send_as_batch", "without quotes"),
    ("send_as_batch:", "send_as_batch: 1", "settings.send_as_batch", "must be true or false, is 1"),
    ("send_as_batch:", "send_as_batch:", "settings.send_as_batch", "is empty; give true or false"),
    ("int64_as_string:", "region: x", "settings.region", "its place is sink.region"),
    ("max_age:", "max_age: 10", "batching.max_age", "add a unit, such as 10s"),
    ("max_age:", "max_age: 1.5h", "batching.max_age", "write a whole number and one of ms s m h d"),
    ("max_age:", "max_age: 10M", "batching.max_age", "write 10m"),
    ("max_age:", "max_age: 99ms", "batching.max_age", "from 100ms to 1d"),
    ("max_age:", "max_age: 2d", "batching.max_age", "from 100ms to 1d"),
    ("max_events:", "max_events: 0", "batching.max_events", "from 1 to 1000000"),
    ("max_events:", 'max_events: "5"', "batching.max_events", "from 1 to 1000000"),
    ("max_events:", "max_events: 5.0", "batching.max_events", "from 1 to 1000000"),
    ("max_events:", "max_events: 0x10", "batching.max_events", "from 1 to 1000000"),
    ("max_events:", "max_events: 010", "batching.max_events", "from 1 to 1000000"),
    ("max_events:", f"max_events: {'9' * 5000}", "batching.max_events", "from 1 to 1000000"),
    ("session_grace:", "session_grace: 2h", "batching.session_grace", "from 0s to 1h"),
]


@pytest.mark.parametrize(("old", "new", "key", "words"), VALUES)
def test_a_wrong_value_is_the_one_fault_of_its_line(
    folder: Folder, old: str, new: str, key: str, words: str
) -> None:
    text, line = replaced(EXAMPLE, old, new)
    folder.connect(text)
    place = f"{CONNECTION}:{line}: {key}: "
    named = [fault for fault in folder.faults() if fault.startswith(place)]
    assert [True] == [words in fault for fault in named]


ROLE = "arn:aws:iam::111122223333:role/x"
CREDENTIALS = [
    ("access_key_id: AKIA", "secret_access_key", "is missing; it belongs to access_key_id"),
    ("secret_access_key: s", "access_key_id", "is missing; it belongs to secret_access_key"),
    ('access_key_id: A\n  secret_access_key: s\n  org_id: "1"', "", "both a role and access keys"),
    ('aws_account_id: "111122223333"', "org_id", "is missing"),
    ('org_id: "1111"', "aws_account_id", "is missing"),
    ('external_id: "abc"', "aws_account_id", "is missing"),
    (f'role_arn: {ROLE}\n  aws_account_id: "111122223333"', "aws_account_id", "role_arn already"),
    (f'role_arn: {ROLE}\n  role_name: "x"', "role_name", "role_arn already"),
]


@pytest.mark.parametrize(("keys", "name", "words"), CREDENTIALS)
def test_half_a_credential_or_two_of_them_is_a_fault(
    folder: Folder, keys: str, name: str, words: str
) -> None:
    folder.connect(f"{SMALL}credentials:\n  {keys}\n")
    (fault,) = folder.faults()
    _, line, key, text = fault.split(":", 3)
    assert " credentials" + (f".{name}" if name else "") == key
    assert 6 <= int(line) <= 8
    assert words in text


def test_a_missing_key_is_named_at_its_parents_line(folder: Folder) -> None:
    name = "The name of the stream, or its whole ARN: requests then name it by that."
    about = "Unique; the label in logs and metrics. Renaming makes a new connection."
    folder.connect("status: active\nsink:\n  type: kinesis\n  region: us-east-1\n")
    assert [
        f"{CONNECTION}:1: name: is missing; add it: {about}",
        f"{CONNECTION}:2: sink.stream_name: is missing; add it: {name}",
    ] == folder.faults()


def test_a_sink_without_its_type_is_still_read_on(folder: Folder) -> None:
    folder.connect("name: acme\nsink:\n  stream_name: a b\n  region: us-east-1\n")
    missing, wrong = folder.faults()
    assert missing.startswith(f"{CONNECTION}:2: sink.type: is missing; add it: kinesis")
    assert wrong.startswith(f"{CONNECTION}:3: sink.stream_name: must be")


def test_a_missing_section_is_one_fault(folder: Folder) -> None:
    folder.connect("name: acme\n")
    assert [f"{CONNECTION}:1: sink: is missing; add it: Where batches go."] == folder.faults()


def test_a_key_given_twice_names_both_lines(folder: Folder) -> None:
    folder.connect(f"{SMALL}status: active\nname: other\n")
    text = "is given twice (first in line 1); keep one of them"
    assert [f"{CONNECTION}:7: name: {text}"] == folder.faults()


def test_a_key_given_twice_in_a_sink_is_reported_once(folder: Folder) -> None:
    folder.connect(f"{SMALL}  region: eu-west-1\n")
    text = "is given twice (first in line 5); keep one of them"
    assert [f"{CONNECTION}:6: sink.region: {text}"] == folder.faults()


def test_the_partition_of_a_region_decides_which_roles_fit(folder: Folder) -> None:
    text = SMALL.replace("us-east-1", "us-gov-west-1")
    folder.connect(f"{text}credentials: {{role_arn: {ROLE}}}\n")
    (fault,) = folder.faults()
    assert f"{CONNECTION}:6: credentials.role_arn: is of partition aws, " in fault
    assert "region us-gov-west-1 is in aws-us-gov; give a role of arn:aws-us-gov:…" in fault


def test_a_file_sink_cannot_write_into_a_file(folder: Folder) -> None:
    folder.connect("name: acme\nsink: {type: file, path: acme.yaml}\n")
    text = 'sink.path: "acme.yaml" is a file; name a folder'
    assert [f"{CONNECTION}:2: {text}"] == folder.faults()


def test_credentials_in_an_endpoint_are_a_fault_that_hides_them(folder: Folder) -> None:
    folder.connect(SMALL + "  endpoint_url: https://me:hunter2@vpce.example\n")
    text = "holds a user name or password; put them under credentials"
    assert [f"{CONNECTION}:6: sink.endpoint_url: {text}"] == folder.faults()


def test_a_secret_written_in_the_wrong_place_is_not_repeated(folder: Folder) -> None:
    folder.connect(
        f"{SMALL}credentials:\n  access_key_id: [hunter2]\n  secret_access_key: hunter2 hunter2\n"
        "match: {api_key: [1.5], hunter:hunter2}\n"
    )
    faults = folder.faults()
    assert 4 == len(faults)
    assert "hunter2" not in "\n".join(faults)
    assert "1.5" not in "\n".join(faults)


MISPLACED = ["credentials: hunter2", "match: {api_key: hunter2}", "match: {api_key: {hunter2: 1}}"]


@pytest.mark.parametrize("text", MISPLACED)
def test_a_secret_one_level_too_high_is_not_repeated(folder: Folder, text: str) -> None:
    folder.connect(f"{SMALL}{text}\n")
    (fault,) = folder.faults()
    assert "hunter2" not in fault


def test_a_stream_s_arn_is_of_the_sink_s_region(folder: Folder) -> None:
    arn = "arn:aws:kinesis:eu-west-1:111122223333:stream/acme"
    folder.connect(f"name: acme\nsink: {{type: kinesis, stream_name: {arn}, region: us-east-1}}\n")
    text = "is us-east-1, stream_name is of eu-west-1; correct one of them"
    assert [f"{CONNECTION}:2: sink.region: {text}"] == folder.faults()


def test_a_value_longer_than_any_path_is_a_fault_unless_it_is_a_secret(folder: Folder) -> None:
    fits, longer = "a/" * 2_048, "a/" * 2_048 + "a"
    folder.connect(f"{SMALL}settings: {{unique_id: {fits}}}\nmatch: {{api_key: [{longer}]}}\n")
    assert [] == folder.faults()
    folder.connect(f"{SMALL}settings: {{unique_id: {longer}}}\n")
    [fault] = folder.faults()
    assert "settings.unique_id: is longer than 4096 characters; give " in fault

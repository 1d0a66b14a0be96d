import os
import subprocess
import sys
from pathlib import Path

import pytest

from forwarder.config.credentials import AccessKeys
from forwarder.config.loader import load_connection
from forwarder.errors import ConfigurationError
from tests.configurations import SMALL, SMALL_WORKER, Folder

KEYS = "credentials: {access_key_id: '%s', secret_access_key: '%s'}\n"
LINE = "connections/acme.yaml:6: credentials.secret_access_key: "


def keys_of(folder: Folder, first: str, second: str, **environ: str) -> tuple[str, str]:
    folder.connect(SMALL + KEYS % (first, second))
    credentials = folder.load(environ).configuration.connections[0].credentials
    assert isinstance(credentials, AccessKeys)
    return credentials.access_key_id, credentials.secret_access_key


def test_variables_are_replaced_anywhere_in_a_value(folder: Folder) -> None:
    assert ("AKIA", "a1b2c") == keys_of(folder, "${ID}", "a${X}b${Y}c", ID="AKIA", X="1", Y="2")


def test_a_file_loses_its_line_end_only(folder: Folder) -> None:
    (folder.path / "secret").write_text("s3cr$t/+=\r\n")
    assert ("A", "s3cr$t/+=") == keys_of(folder, "A", f"${{file:{folder.path}/secret}}")


def test_blanks_at_the_end_of_a_file_belong_to_the_value(folder: Folder) -> None:
    (folder.path / "id").write_text("shop 1 \n")
    folder.connect(f"{SMALL}settings: {{unique_id: '${{file:../id}}'}}\n")
    assert "shop 1 " == folder.load().configuration.connections[0].settings.unique_id


def test_a_relative_file_starts_from_the_connection(folder: Folder) -> None:
    (folder.path / "connections" / "secret").write_text("here\n")
    assert ("A", "here") == keys_of(folder, "A", "${file:secret}")


def test_a_doubled_dollar_is_a_plain_one(folder: Folder) -> None:
    assert ("A", "a${ID}b$c") == keys_of(folder, "A", "a$${ID}b$c", ID="no")


def test_what_a_variable_holds_is_not_expanded_again(folder: Folder) -> None:
    assert ("A", "${OTHER}") == keys_of(folder, "A", "${X}", X="${OTHER}")


def test_a_default_as_in_the_shell_is_not_repeated(folder: Folder) -> None:
    keys = KEYS % ("${ID:-hidden}", "${KEY-hidden}")
    folder.connect(f"{SMALL}{keys}match: {{api_key: '${{A:-hidden}}'}}\n")
    faults = folder.faults()
    assert 3 == len(faults)
    assert not [fault for fault in faults if "hidden" in fault]


WRONG = [
    ("${NOPE}", "the environment variable NOPE is not set; set it for the process"),
    ("${file:/nope}", "${file:/nope} cannot be read (No such file or directory)"),
    ("${file:/}", "${file:/} cannot be read (Is a directory)"),
    ("${}", "${} is no variable; write ${NAME}"),
    ("${A-B}", "${A…} is no variable; write ${NAME}"),
    ("${A:-b}", "${A…} is no variable; write ${NAME}"),
    ("${ A }", "${ A } is no variable; write ${NAME}"),
    ("${:b}", "${…} is no variable; write ${NAME}"),
    ("${OPEN", "has a ${ without its }"),
    ("${EMPTY}", "is empty; give a secret access key"),
    ("${BLANK}", "holds white space"),
    ("${BYTES}", "the environment variable BYTES is not UTF-8 text; store the value as text"),
]


@pytest.mark.parametrize(("value", "words"), WRONG)
def test_what_cannot_be_expanded_is_a_fault(folder: Folder, value: str, words: str) -> None:
    folder.connect(SMALL + KEYS % ("A", value))
    (fault,) = folder.faults({"EMPTY": "", "BLANK": "hunter 2", "BYTES": "hunter\udcff2"})
    assert fault.startswith(LINE + words)
    assert "hunter" not in fault


def test_every_unset_variable_of_a_value_is_a_fault(folder: Folder) -> None:
    folder.connect(SMALL + KEYS % ("A", "${X}${Y}"))
    assert ["X", "Y"] == [fault.split()[5] for fault in folder.faults()]


def test_a_file_too_large_to_be_a_secret_is_a_fault(folder: Folder) -> None:
    (folder.path / "large").write_bytes(b"x" * 65_537)
    folder.connect(SMALL + KEYS % ("A", "${file:../large}"))
    (fault,) = folder.faults()
    assert "is larger than 64 KiB" in fault


def test_a_pipe_is_a_fault(folder: Folder) -> None:
    # In a process of its own: whoever opens a pipe without a writer waits for one.
    folder.connect(SMALL + KEYS % ("A", "${file:../pipe}"))
    os.mkfifo(folder.path / "pipe")
    command = [
        sys.executable,
        "-m",
        "forwarder",
        "check",
        str(folder.path / "connections/acme.yaml"),
    ]
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert "${file:../pipe} is a pipe, a device or a socket; point to a file of text" in (
        told.stderr + told.stdout
    )


def test_a_variable_that_is_no_text_is_a_fault_where_it_would_only_be_noted_missing(
    folder: Folder,
) -> None:
    file = folder.connect(SMALL + KEYS % ("A", "${BYTES}"))
    with pytest.raises(ConfigurationError, match="BYTES is not UTF-8 text"):
        load_connection(file, environ={"BYTES": os.fsdecode(b"\xff")}, elsewhere=True)


def test_a_file_that_is_no_text_is_a_fault(folder: Folder) -> None:
    (folder.path / "binary").write_bytes(b"\xff\xfe")
    folder.connect(SMALL + KEYS % ("A", "${file:../binary}"))
    (fault,) = folder.faults()
    assert "is not UTF-8 text" in fault


def test_a_wrong_value_out_of_a_variable_is_named_by_the_variable(folder: Folder) -> None:
    folder.connect(SMALL.replace("us-east-1", '"${REGION}"'))
    (fault,) = folder.faults({"REGION": "hunter2"})
    assert "must be an AWS region such as us-east-1, is what ${REGION} stands for" in fault
    assert "hunter2" not in fault


def test_numbers_flags_and_durations_may_be_variables(folder: Folder) -> None:
    folder.write(
        SMALL_WORKER
        + 'server: {port: "${PORT}"}\njournal: {tick: "${TICK}", create_topics: "${CREATE}"}\n'
    )
    environ = {"PORT": "8080", "TICK": "2s", "CREATE": "false"}
    configuration = folder.load(environ).configuration
    found = (configuration.server.port, configuration.journal.tick_ms)
    assert (8080, 2_000) == found
    assert not configuration.journal.create_topics


def test_a_number_out_of_a_variable_is_text_where_text_is_wanted(folder: Folder) -> None:
    folder.connect(f'{SMALL}settings: {{unique_id: "${{BUILD}}"}}\n')
    assert "7" == folder.load({"BUILD": "7"}).configuration.connections[0].settings.unique_id


def test_offline_secrets_are_not_looked_up(folder: Folder) -> None:
    (folder.path / "connections").joinpath("acme.yaml").write_text(
        SMALL + KEYS % ("${NOPE}", "${file:/nope}")
    )
    folder.write(
        "kafka: {bootstrap_servers: [localhost:9092], topics: [raw-events], security: {protocol: "
        "SASL_SSL, mechanism: PLAIN, username: u, password: '${NOPE}', ca_file: ca.pem}}\n"
    )
    assert 4 == len(folder.faults())
    configuration = folder.load(offline=True).configuration
    assert "****" == configuration.kafka.security.password


def test_offline_half_a_pair_is_still_a_fault(folder: Folder) -> None:
    file = folder.connect(f"{SMALL}credentials: {{access_key_id: '${{NOPE}}'}}\n")
    with pytest.raises(ConfigurationError, match="secret_access_key: is missing"):
        load_connection(file, environ={}, offline=True)


def test_the_environment_of_the_process_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAM_OF_THIS_TEST", "acme-events")
    file = tmp_path / "acme.yaml"
    file.write_text(SMALL.replace("stream_name: acme", 'stream_name: "${STREAM_OF_THIS_TEST}"'))
    assert "acme-events" == getattr(load_connection(file).connection.sink, "stream_name", None)


def test_secrets_are_listed_for_the_log(folder: Folder) -> None:
    folder.connect(SMALL + KEYS % ("A", "S") + "match: {api_key: [k1, k2]}\n")
    assert frozenset({"A", "S", "k1", "k2"}) == folder.load().secrets


def test_no_secret_is_in_the_representation(folder: Folder) -> None:
    folder.connect(SMALL + KEYS % ("AKIA", "hunter2"))
    loaded = folder.load()
    assert "hunter2" not in repr(loaded)
    assert "AKIA" not in repr(loaded)

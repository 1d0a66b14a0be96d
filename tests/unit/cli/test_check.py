import io
import json
import re
import subprocess
import sys

import pytest
import yaml

from forwarder import cli, native
from forwarder.cli import main
from forwarder.config.connection_fields import CONNECTION
from forwarder.config.worker_fields import WORKER as WORKER_SECTION
from forwarder.errors import ConfigurationError, StartupError
from tests.configurations import EXAMPLE, ROOT, SMALL, WORKER, Folder

Capture = pytest.CaptureFixture[str]


def printed(capsys: Capture, *argv: str) -> str:
    assert 0 == main(["check", *argv])
    captured = capsys.readouterr()
    assert not captured.err
    return captured.out


def of_connection(folder: Folder, capsys: Capture, text: str) -> str:
    return printed(capsys, "--connection", str(folder.connect(text)))


def value(text: str, key: str) -> str:
    """Return what is printed for a key, without its remark."""
    found, *_ = re.findall(rf"^ *{key}: (.*?)(?: +# .*)?$", text, re.MULTILINE)
    return str(found)


@pytest.mark.usefixtures("folder")
def test_every_key_of_both_files_is_printed(capsys: Capture) -> None:
    text = printed(capsys, "--config", "forwarder.yaml")
    names = {
        field.name
        for section in (WORKER_SECTION, CONNECTION)
        for path, _, field in section.paths()
        if not path.startswith("gateway.")
    }
    shown = set(re.findall(r"^ *([a-z0-9_]+):", text, re.MULTILINE))
    assert names - {"path", "delivery_stream_name", "name", "format", "duplicates"} <= shown


def test_what_is_printed_reads_as_the_same_yaml(capsys: Capture) -> None:
    text = printed(capsys, "--config", str(ROOT / "config" / "forwarder.yaml"))
    worker, connection, _ = text.split("\n\n")
    shown = yaml.safe_load(worker.partition("\n")[2])
    written = yaml.safe_load(WORKER)
    for section in ("kafka", "server", "limits", "log"):
        for key in written[section].keys() - {"security"}:
            assert written[section][key] == shown[section][key]
    expected = yaml.safe_load(EXAMPLE)
    found = yaml.safe_load(connection.partition("\n")[2].replace("[****]", "[us1-abc]"))
    assert expected["settings"] == found["settings"]
    assert expected["sink"].items() <= found["sink"].items()
    assert sorted(expected["match"]["platform"]) == found["match"]["platform"]


def test_defaults_are_marked_and_nothing_else_is(folder: Folder, capsys: Capture) -> None:
    text = of_connection(
        folder, capsys, SMALL + "settings: {send_as_batch: false}\nbatching: {max_events: 7}\n"
    )
    lines = [line for line in text.splitlines() if re.match(r" +[a-z0-9_]+: .", line)]
    changed = {line.split(":")[0].strip() for line in lines if not line.endswith(" # default")}
    assert {
        *("name", "type", "stream_name", "region"),
        *("send_as_batch", "max_events"),
    } == changed


def test_role_and_external_id_are_shown(folder: Folder, capsys: Capture) -> None:
    keys = 'credentials: {aws_account_id: "111122223333", org_id: "1111"}\n'
    text = of_connection(folder, capsys, SMALL + keys)
    arn = "arn:aws:iam::111122223333:role/mparticle-kinesis-role"
    assert f"# signed as {arn}, with ExternalId orgid:1111\n" in text
    assert arn == value(text, "role_arn")
    assert "orgid:1111" == value(text, "external_id")
    assert '"111122223333"' == value(text, "aws_account_id")


def test_secrets_are_masked(
    folder: Folder, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THIS_TEST", "hunter2")
    text = of_connection(
        folder,
        capsys,
        f'{SMALL}match: {{api_key: [us1-key, "${{SECRET_OF_THIS_TEST}}"]}}\n'
        'credentials: {access_key_id: AKIAX, secret_access_key: "${SECRET_OF_THIS_TEST}"}\n',
    )
    assert not re.search("hunter2|AKIAX|us1-key", text)
    assert "[****, ****]" == value(text, "api_key")
    assert ("****", "****") == (value(text, "access_key_id"), value(text, "secret_access_key"))
    assert "# signed with the access keys given\n" in text


def test_the_password_of_kafka_is_masked(folder: Folder, capsys: Capture) -> None:
    secure = "{protocol: SASL_SSL, mechanism: PLAIN, username: u, password: hunter2}"
    folder.write(f"kafka: {{bootstrap_servers: [a:1], topics: [raw-events], security: {secure}}}\n")
    text = printed(capsys, "--config", "forwarder.yaml")
    assert "****" == value(text, "password")
    assert "hunter2" not in text


MODES = [
    ("", "events are sent in batches per device, closed 10m after the first event or at 10000"),
    ("settings: {send_as_batch: false}\n", "every event is sent at once, as its own document"),
    ("settings: {wait_for_complete_batch: true}\n", "one document is sent per user session, 1m"),
    ("status: inactive\n", "inactive: accepts no new event and sends nothing, but keeps its place"),
    ("", "they go to the Kinesis stream acme in us-east-1"),
    ("", "signed with the default AWS chain"),
    ("credentials: {role_arn: 'arn:aws:iam::111122223333:role/x'}\n", "with no ExternalId"),
]


@pytest.mark.parametrize(("text", "words"), MODES)
def test_what_a_connection_does_is_said_in_words(
    folder: Folder, capsys: Capture, text: str, words: str
) -> None:
    assert words in of_connection(folder, capsys, SMALL + text)


def test_a_file_sink_says_where_it_writes(folder: Folder, capsys: Capture) -> None:
    text = of_connection(folder, capsys, "name: acme\nsink: {type: file, path: out}\n")
    path = folder.path / "connections" / "out"
    assert f"# they go to {path}/acme.ndjson\n" in text
    assert "# written without credentials\n" in text


@pytest.mark.usefixtures("folder")
def test_the_topics_of_the_journal_are_named(capsys: Capture) -> None:
    text = printed(capsys, "--config", "forwarder.yaml")
    assert "# keeps forwarder.outbox.raw-events and forwarder.state.raw-events\n" in text


def test_notes_come_after_the_settings(folder: Folder, capsys: Capture) -> None:
    folder.connect(f"{SMALL}settings: {{send_as_batch: false, wait_for_complete_batch: true}}\n")
    *_, note, last = printed(capsys, "--config", "forwarder.yaml").splitlines()
    assert note.startswith("note: connections/acme.yaml:6: settings.send_as_batch: is ignored")
    assert "ok: 1 connection, no faults" == last


def test_faults_go_to_stderr_and_make_the_exit_code_two(folder: Folder, capsys: Capture) -> None:
    folder.write("kafka: {}\n")
    folder.connect(SMALL + "status: asleep\n")
    assert 2 == main(["check", "--config", "forwarder.yaml"])
    captured = capsys.readouterr()
    assert not captured.out
    places = [":".join(line.split(":")[:3]) for line in captured.err.splitlines()]
    assert [
        "forwarder.yaml:1: kafka.bootstrap_servers",
        "forwarder.yaml:1: kafka.topics",
        "connections/acme.yaml:6: status",
    ] == places


@pytest.mark.parametrize("argv", [["check"], ["sing"], ["check", "--config"]])
def test_wrong_arguments_count_as_configuration(argv: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as raised:
        main(argv)
    assert 2 == raised.value.code
    assert "usage: forwarder" in capsys.readouterr().err


def test_without_arguments_the_help_is_what_was_asked_for(capsys: Capture) -> None:
    assert 0 == main([])
    captured = capsys.readouterr()
    assert captured.out.startswith("usage: forwarder")
    assert not captured.err


@pytest.mark.parametrize(
    ("argv", "meant"),
    [
        (["statsu"], "did you mean status?"),
        (["Check"], "did you mean check?"),
        (["deadletters"], "did you mean dead-letters?"),
        (["outbox", "shwo"], "did you mean show?"),
        (["dead-letters", "redrvie"], "did you mean redrive?"),
    ],
)
def test_a_mistyped_command_gets_a_suggestion(argv: list[str], meant: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as raised:
        main(argv)
    assert 2 == raised.value.code
    assert meant in capsys.readouterr().err


def test_what_resembles_no_command_gets_none(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main(["xyzzy"])
    assert "did you mean" not in capsys.readouterr().err


def test_help_names_every_command(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["--help"])
    assert 0 == raised.value.code
    text = capsys.readouterr().out
    for name, (_, about) in cli.COMMANDS.items():
        assert re.search(rf"^ +{name}\s+{about.split()[0]}", text, re.MULTILINE)


def test_the_version_is_printed(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["--version"])
    assert 0 == raised.value.code
    assert re.fullmatch(rf"forwarder \S.* \(core: {native.name()}\)\n", capsys.readouterr().out)


ERRORS = [
    (ConfigurationError(["a:1: b: c"]), 2, "a:1: b: c\n"),
    (StartupError("x"), 1, "forwarder: x\n"),
]


@pytest.mark.parametrize(("error", "code", "text"), ERRORS)
def test_an_error_becomes_an_exit_code_and_a_line(
    error: Exception, code: int, text: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def refuse(_: object) -> int:
        raise error

    monkeypatch.setattr("forwarder.cli.schema.run", refuse)
    assert code == main(["schema"])
    assert text == capsys.readouterr().err


def test_check_imports_no_client() -> None:
    code = (
        "import sys, forwarder.cli, forwarder.cli.check\n"
        "print(*{'aiokafka', 'aiobotocore', 'botocore', 'asyncio', 'aiohttp'} & sys.modules.keys())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "\n" == run.stdout


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59.999Z", "1970-01-01T00:00:00+00:00"])
def test_the_first_and_the_last_time_are_shown_as_they_are(
    folder: Folder, capsys: Capture, time: str
) -> None:
    text = of_connection(folder, capsys, f"{SMALL}deliver_from: {time}\n")
    assert time.replace("+00:00", "Z") == value(text, "deliver_from").strip('"')


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-16", "utf-8"])
def test_a_document_is_json_whatever_stdout_takes(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    folder.connect(SMALL + "status: zürich😀\n")
    stdout = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stdout)
    assert 2 == main(["check", "--json", "forwarder.yaml"])
    [fault] = json.loads(stdout.buffer.getvalue().decode(encoding))["faults"]
    assert 'is "zürich😀"' in fault["message"]

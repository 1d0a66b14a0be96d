"""``forwarder check``: one file, elsewhere, quietly, as JSON; and what is passed over is noted."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from forwarder.cli import main
from tests.configurations import ROOT, SMALL, Folder

Capture = pytest.CaptureFixture[str]
DEPLOY = ROOT / "deploy"


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REGION", "NOWHERE", "ACME_KEY_ID", "POD_NAME", "HOSTNAME"):
        monkeypatch.delenv(name, raising=False)


def checked(capsys: Capture, *arguments: str) -> tuple[int, list[str], list[str]]:
    code = main(["check", *arguments])
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), captured.err.splitlines()


def document(capsys: Capture, *arguments: str) -> tuple[int, dict[str, Any]]:
    code, out, err = checked(capsys, *arguments, "--json")
    assert [] == err
    found: dict[str, Any] = json.loads("\n".join(out))
    return code, found


# ---------------------------------------------------------------------- which file


def test_a_file_is_judged_by_its_keys(folder: Folder, capsys: Capture) -> None:
    file = folder.connect(SMALL)
    _, of_connection, _ = checked(capsys, str(file))
    _, of_worker, _ = checked(capsys, "forwarder.yaml")
    assert f"acme ({file})" == of_connection[0]
    assert "forwarder.yaml" == of_worker[0]
    assert of_worker[-1] == of_connection[-1] == "ok: 1 connection, no faults"


@pytest.mark.parametrize("content", ["", "- a\n", "x: [\n", "a: 1\n"])
def test_a_file_of_neither_kind_is_judged_as_a_connection(
    folder: Folder, capsys: Capture, content: str
) -> None:
    code, found = document(capsys, str(folder.connect(content)))
    assert (2, []) == (code, found["connections"])
    assert found["faults"]


@pytest.mark.usefixtures("folder")
def test_one_file_is_enough(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["check", "forwarder.yaml", "--config", "forwarder.yaml"])
    assert 2 == raised.value.code
    assert "not allowed with" in capsys.readouterr().err


# ---------------------------------------------------------------------- elsewhere

ELSEWHERE = f"""\
{SMALL.replace("us-east-1", '"${REGION}"')}
credentials: {{access_key_id: "${{NOWHERE}}", secret_access_key: "${{file:/nowhere/key}}"}}
match: {{application: [com.acme, "${{NOWHERE}}"], platform: [iOS, "${{Platform}}"]}}
settings: {{send_as_batch: "${{NOWHERE}}"}}
batching: {{max_age: "${{NOWHERE}}", max_events: 7}}
"""


def test_what_is_not_here_is_a_fault_and_with_no_secrets_a_note(
    folder: Folder, capsys: Capture
) -> None:
    file = str(folder.connect(ELSEWHERE))
    _, faulty = document(capsys, file)
    code, found = document(capsys, file, "--no-secrets")
    assert (0, []) == (code, found["faults"])
    assert (
        [one["key"] for one in faulty["faults"]]
        == [one["key"] for one in found["notes"]]
        == [
            "sink.region",
            "credentials.access_key_id",
            "credentials.secret_access_key",
            "match.application[1]",
            "match.platform[1]",
            "settings.send_as_batch",
            "batching.max_age",
        ]
    )
    assert [one["name"] for one in found["connections"]] == ["acme"]


def test_what_is_not_known_here_is_shown_as_it_was_written(folder: Folder, capsys: Capture) -> None:
    code, lines, _ = checked(capsys, str(folder.connect(ELSEWHERE)), "--no-secrets")
    shown = {line.partition(":")[0].strip(): line for line in lines}
    assert 0 == code
    assert shown["region"].split() == ["region:", "${REGION}", "#", "not", "known", "here"]
    assert "[${NOWHERE}, com.acme]" in shown["application"]
    assert "[${Platform}, ios]" in shown["platform"]
    assert "****" in shown["secret_access_key"]
    assert "10m" in shown["max_age"]
    assert shown["max_age"].endswith("# not known here")


def test_the_workers_own_file_may_be_about_elsewhere_too(folder: Folder, capsys: Capture) -> None:
    shutil.rmtree(folder.path / "connections")
    folder.write(
        'kafka:\n  bootstrap_servers: ["${NOWHERE}"]\n  topics: ["${NOWHERE}", raw]\n'
        '  group_id: "${NOWHERE}"\n  security: {protocol: SSL, ca_file: /nowhere/ca.pem}\n'
        "connections: not-here\n"
    )
    code, found = document(capsys, "forwarder.yaml", "--no-secrets")
    assert (0, [], []) == (code, found["faults"], found["connections"])
    assert [
        "kafka.bootstrap_servers[0]",
        "kafka.topics[0]",
        "kafka.group_id",
        "kafka.security.ca_file",
        "connections",
    ] == [one["key"] for one in found["notes"]]
    code, lines, _ = checked(capsys, "forwarder.yaml", "--no-secrets")
    assert "  # group ${NOWHERE} reads ${NOWHERE}, raw" in lines
    [topics] = [line.split() for line in lines if line.lstrip().startswith("topics:")]
    assert ["topics:", "[${NOWHERE},", "raw]", "#", "not", "known", "here"] == topics


def test_a_topic_is_shown_with_its_settings_though_they_are_not_known_here(
    folder: Folder, capsys: Capture
) -> None:
    shutil.rmtree(folder.path / "connections")
    folder.write(
        "kafka:\n  bootstrap_servers: [b:1]\n"
        '  topics: [{name: raw, format: "${NOWHERE}"}]\nconnections: not-here\n'
    )
    code, lines, _ = checked(capsys, "forwarder.yaml", "--no-secrets")
    [topics] = [line.strip() for line in lines if line.lstrip().startswith("topics:")]
    assert 0 == code
    assert topics.startswith("topics: [{name: raw, format: ${NOWHERE}}]")


def test_a_fault_stays_one_wherever_the_worker_runs(folder: Folder, capsys: Capture) -> None:
    given = SMALL.replace("us-east-1", '"${REGION"') + "status: sleeping\n"
    code, found = document(capsys, str(folder.connect(given)), "--no-secrets")
    assert (2, ["sink.region", "status"]) == (code, [one["key"] for one in found["faults"]])


# ---------------------------------------------------------------------- how it is said


def test_quietly_only_notes_are_printed(folder: Folder, capsys: Capture) -> None:
    assert (0, [], []) == checked(capsys, "forwarder.yaml", "--quiet")
    folder.connect(f"{SMALL}  endpoint_url: http://example\n")
    code, lines, _ = checked(capsys, "forwarder.yaml", "--quiet")
    (line,) = lines
    assert (0, True) == (code, line.startswith("note: connections/acme.yaml:6: sink.endpoint_url:"))
    folder.connect("name: acme\n")
    assert 2 == main(["check", "forwarder.yaml", "--quiet"])
    assert "sink: is missing" in capsys.readouterr().err


def test_json_has_places_of_faults_and_notes_apart(folder: Folder, capsys: Capture) -> None:
    folder.connect(f"{SMALL}  endpoint_url: http://example\nstatus: off\n")
    (folder.path / "connections" / "b.yml").write_text("")
    code, found = document(capsys, "forwarder.yaml")
    assert 2 == code
    assert {"faults", "notes", "connections"} == set(found)
    assert [
        {
            "file": "connections/acme.yaml",
            "line": 7,
            "key": "status",
            "message": "must be active or inactive, is off",
        }
    ] == found["faults"]
    assert [("connections/acme.yaml", 6), ("connections/b.yml", 1)] == sorted(
        (one["file"], one["line"]) for one in found["notes"]
    )


def test_json_says_what_each_connection_does(folder: Folder, capsys: Capture) -> None:
    folder.connect(SMALL)
    code, found = document(capsys, "forwarder.yaml")
    (connection,) = found["connections"]
    about = connection.pop("about")
    assert 0 == code
    assert "they go to the Kinesis stream acme in us-east-1" in about
    assert {
        "name": "acme",
        "file": "connections/acme.yaml",
        "status": "active",
        "sink": "kinesis",
        "mode": "batch",
    } == connection


# ---------------------------------------------------------------------- what is passed over


@pytest.mark.parametrize("name", ["b.YAML", "b.yml", "b.Yml", "B.YML"])
def test_a_file_that_may_be_meant_as_a_connection_is_noted(
    folder: Folder, capsys: Capture, name: str
) -> None:
    (folder.path / "connections" / name).write_text(SMALL)
    code, lines, _ = checked(capsys, "forwarder.yaml", "--quiet")
    text = "(file): is not read; rename it to .yaml if it is a connection"
    assert (0, [f"note: connections/{name}:1: {text}"]) == (code, lines)


def test_a_folder_in_the_folder_is_noted_and_hidden_ones_are_not(
    folder: Folder, capsys: Capture
) -> None:
    for name in ("eu", ".git", "..data"):
        (folder.path / "connections" / name).mkdir()
    (folder.path / "connections" / "README.md").write_text("")
    code, lines, _ = checked(capsys, "forwarder.yaml", "--quiet")
    text = "(file): is a folder, which is not read; move connections in it one folder up"
    assert (0, [f"note: connections/eu:1: {text}"]) == (code, lines)


# ---------------------------------------------------------------------- what is shipped

SHIPPED = [
    *sorted(ROOT.glob("config/**/*.yaml")),
    *sorted(DEPLOY.glob("compose/**/*.yaml")),
    *sorted(DEPLOY.glob("kubernetes*/worker/*.yaml")),
    *sorted(DEPLOY.glob("kubernetes*/gateway/*.yaml")),
    *sorted(DEPLOY.glob("kubernetes*/connections/*.yaml")),
]


@pytest.mark.parametrize("file", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_shipped_configuration_passes_where_no_secret_is(file: Path, capsys: Capture) -> None:
    code, found = document(capsys, str(file), "--no-secrets")
    assert (0, []) == (code, found["faults"])


def test_every_shipped_configuration_is_among_them() -> None:
    manifests = {"apiVersion", "services"}
    everything = {
        path
        for path in [*ROOT.glob("config/**/*.y*ml"), *DEPLOY.glob("**/*.y*ml")]
        if not manifests & set(yaml.safe_load(path.read_text()))
    }
    assert everything == set(SHIPPED)


def test_what_the_manifests_mount_passes_as_it_is_mounted(tmp_path: Path, capsys: Capture) -> None:
    for number, name in enumerate(("kubernetes", "kubernetes-stable-names")):
        mounted = tmp_path / str(number)
        shutil.copytree(DEPLOY / name / "worker", mounted / "worker")
        shutil.copytree(DEPLOY / "kubernetes" / "connections", mounted / "connections")
        code, found = document(capsys, str(mounted / "worker/forwarder.yaml"), "--no-secrets")
        assert (0, []) == (code, found["faults"])
        assert ["acme-production"] == [one["name"] for one in found["connections"]]

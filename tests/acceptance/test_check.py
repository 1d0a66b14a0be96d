"""The command as people run it: a process, its output and its exit code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.configurations import EXAMPLE, ROOT, SMALL, SMALL_WORKER


def forwarder(*argv: str, cwd: Path, **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "forwarder", *argv],
        cwd=cwd,
        env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_shipped_configuration_passes() -> None:
    run = forwarder("check", "--config", "config/forwarder.yaml", cwd=ROOT)
    assert (0, "") == (run.returncode, run.stderr)
    assert run.stdout.endswith("ok: 1 connection, no faults\n")
    assert "arn:aws:iam::111122223333:role/mparticle-kinesis-role" in run.stdout
    assert "us1-abc" not in run.stdout


def test_every_fault_of_every_file_is_on_stderr(tmp_path: Path) -> None:
    (tmp_path / "connections").mkdir()
    (tmp_path / "forwarder.yaml").write_text(SMALL_WORKER + "log: {level: loud}\n")
    (tmp_path / "connections" / "a.yaml").write_text(EXAMPLE.replace("us-east-1", "us-esat-1"))
    (tmp_path / "connections" / "b.yaml").write_text(
        f"{SMALL}credentials: {{access_key_id: A, secret_access_key: '${{NOPE}}'}}\nsetings: {{}}\n"
    )
    run = forwarder("check", "--config", "forwarder.yaml", cwd=tmp_path)
    assert (2, "") == (run.returncode, run.stdout)
    unset, unknown = "the environment variable NOPE is not set", "is no key that is known here"
    region = "must be an AWS region such as us-east-1"
    assert [
        'forwarder.yaml:2: log.level: must be debug, info, warning or error, is "loud"',
        f'connections/a.yaml:16: sink.region: {region}, is "us-esat-1" (did you mean us-east-1?)',
        f"connections/b.yaml:6: credentials.secret_access_key: {unset}; set it for the process",
        f"connections/b.yaml:7: setings: {unknown} (did you mean settings?); correct or delete it",
    ] == run.stderr.splitlines()


def test_the_environment_reaches_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "acme.yaml"
    file.write_text(SMALL.replace("us-east-1", '"${REGION}"'))
    run = forwarder("check", "--connection", "acme.yaml", cwd=tmp_path, REGION="eu-west-1")
    assert 0 == run.returncode
    assert "Kinesis stream acme in eu-west-1" in run.stdout


@pytest.mark.parametrize(("options", "name"), [((), "connection"), (("--worker",), "worker")])
def test_the_schemas_are_what_the_repository_ships(options: tuple[str, ...], name: str) -> None:
    run = forwarder("schema", *options, cwd=ROOT)
    assert (ROOT / "config" / f"{name}.schema.json").read_text() == run.stdout


@pytest.mark.parametrize("argv", [("check", "--config", "nowhere.yaml"), ("check",)])
def test_what_cannot_be_checked_exits_with_two_and_no_traceback(
    tmp_path: Path, argv: tuple[str, ...]
) -> None:
    run = forwarder(*argv, cwd=tmp_path)
    assert 2 == run.returncode
    assert "Traceback" not in run.stderr


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = [sys.executable, "-m", "forwarder", "schema"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert (b"", 0) == (running.stderr.read(), running.wait(60))

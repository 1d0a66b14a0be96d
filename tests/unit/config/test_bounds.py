"""Whatever is read has a bound before it is read: the program under a memory limit against each."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

MIB = 1024 * 1024
LIMIT = 384 * MIB
"""Bytes the program may write to; each of these inputs would take gigabytes."""
CONNECTION = "name: acme\nsink: {type: file, path: out}\n"
WORKER = "kafka: {bootstrap_servers: [localhost:9092], topics: [raw-events]}\n"


def limited(folder: Path, *argv: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the program under the limit."""
    return subprocess.run(
        [sys.executable, "-m", "forwarder", *argv],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), **more},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT)),
    )


def sparse(path: Path, size: int = 8 << 30) -> None:
    with path.open("wb") as written:
        written.truncate(size)


def aliases(path: Path) -> None:
    """Write what is ten to the twentieth values, if aliases are followed."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 20)]
    path.write_text(CONNECTION + "match:\n  application: *a19\n" + "\n".join(lines))
    path.write_text("\n".join(lines) + "\n" + CONNECTION + "match: {application: *a19}\n")


def merges(path: Path) -> None:
    lines = ["m0: &m0 {name: acme}"]
    lines += [f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 10)}]}}" for n in range(1, 18)]
    path.write_text("\n".join(lines) + "\n<<: *m17\nsink: {type: file, path: out}\n")


def many_values(path: Path) -> None:
    path.write_text(CONNECTION + "match: {application: [" + "a," * (7 * MIB) + "]}\n")


def deep(path: Path) -> None:
    path.write_text(CONNECTION + "match: " + "[" * (7 * MIB))


FILES: dict[str, Callable[[Path], None]] = {
    "sparse": sparse,
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "aliases": aliases,
    "merges": merges,
    "values": many_values,
    "deep": deep,
}


@pytest.mark.parametrize("kind", FILES)
def test_a_configuration_file(tmp_path: Path, kind: str) -> None:
    FILES[kind](tmp_path / "acme.yaml")
    done = limited(tmp_path, "check", "--connection", "acme.yaml")
    assert 2 == done.returncode, done.stderr[-2000:]
    assert "acme.yaml:" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("element", ["{<<: *keys}", "*keys"])
def test_keys_that_a_small_file_repeats(tmp_path: Path, element: str) -> None:
    keys = ", ".join(f"k{number}: 0" for number in range(2_000))
    topics = ", ".join([element] * 2_000)
    (tmp_path / "forwarder.yaml").write_text(
        f"x: &keys {{{keys}}}\nkafka: {{topics: [{topics}]}}\n"
    )
    done = limited(tmp_path, "check", "forwarder.yaml")
    assert 2 == done.returncode, done.stderr[-2000:]
    assert "forwarder.yaml:1: (file): repeats more than 200000 keys" in done.stderr
    assert 1_010 > done.stderr.count("\n")


@pytest.mark.parametrize("kind", ["sparse", "endless"])
def test_a_file_that_a_value_is_taken_from(tmp_path: Path, kind: str) -> None:
    FILES[kind](tmp_path / "secret")
    keys = "credentials: {access_key_id: AKIAX, secret_access_key: '${file:secret}'}\n"
    sink = "sink: {type: kinesis, stream_name: s, region: eu-west-1}\n"
    (tmp_path / "acme.yaml").write_text(f"name: acme\n{sink}{keys}")
    done = limited(tmp_path, "check", "--connection", "acme.yaml")
    assert 2 == done.returncode, done.stderr[-2000:]
    refused = {"sparse": "is larger than 64 KiB", "endless": "is a pipe, a device or a socket"}
    assert f"${{file:secret}} {refused[kind]}" in done.stderr + done.stdout


def test_a_folder_of_connections(tmp_path: Path) -> None:
    (tmp_path / "forwarder.yaml").write_text(WORKER)
    folder = tmp_path / "connections"
    folder.mkdir()
    for number in range(10_001):
        (folder / f"{number}.yaml").touch()
    done = limited(tmp_path, "check", "--config", "forwarder.yaml")
    assert 2 == done.returncode
    assert "holds more than 10000 files" in done.stderr + done.stdout


@pytest.mark.parametrize("kind", ["sparse", "endless"])
def test_authorities_for_kafka(tmp_path: Path, kind: str) -> None:
    FILES[kind](tmp_path / "ca.pem")
    (tmp_path / "connections").mkdir()
    (tmp_path / "connections" / "acme.yaml").write_text(CONNECTION)
    security = "security: {protocol: SSL, ca_file: ca.pem}"
    (tmp_path / "forwarder.yaml").write_text(WORKER.replace("}", f", {security}}}"))
    done = limited(tmp_path, "check", "--config", "forwarder.yaml")
    assert 2 == done.returncode, done.stderr[-2000:]
    assert "ca_file" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_a_line_of_a_source_without_an_end(tmp_path: Path) -> None:
    (tmp_path / "acme.yaml").write_text(CONNECTION)
    upload = (
        '{"mpid": 1, "events": [{"event_type": "custom_event", "data": {"event_name": "x"}}]}\n'
    )
    source = tmp_path / "source.ndjson"
    with source.open("w") as written:
        written.write(upload)
        for _ in range(600):
            written.write("x" * MIB)
        written.write("\n" + upload)
    argv = ("--connection", "acme.yaml", "--source", str(source), "--sink", "out")
    done = limited(tmp_path, "run", *argv)
    assert "is longer than 32 MiB" in done.stderr + done.stdout, done.stderr[-2000:]
    assert 2 == len((tmp_path / "out" / "acme.ndjson").read_text().split('"event_name"')) - 1

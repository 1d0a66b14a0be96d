from pathlib import Path

import pytest

from forwarder.config.loader import load_configuration, load_connection
from forwarder.errors import ConfigurationError
from tests.configurations import SMALL, SMALL_WORKER, Folder

DATA = Path(__file__).parents[2] / "data"

BROKEN = [
    (b"", ":1: (file): is empty"),
    (b"# nothing but a comment\n", ":1: (file): is empty"),
    (b"---\n", ":1: (file): is empty"),
    (b"- a\n", ":1: (file): must hold keys"),
    (b"acme\n", ":1: (file): must hold keys"),
    (b"name: acme\nunit: \xff\n", ":2: (file): is not UTF-8"),
    ("name: acme\n".encode("utf-16"), ":1: (file): is not UTF-8"),
    (b"name: a\x01b\n", ":1: (file): holds the control character U+0001"),
    (b"name: acme\nsink:\n\ttype: file\n", ":3: (syntax): "),
    (b"name: [acme\nstatus: active\n", ":2: (syntax): "),
    (b"name: 'acme\n", ":2: (syntax): "),
    (b"name: *acme\n", ":1: (syntax): found undefined alias; put values that begin with *"),
    (b"name: @acme\n", ":1: (syntax): "),
    (b"match: {api_key: [${KEY}]}\n", ":1: (syntax): "),
    (b"name: a\n---\nname: b\n", ":2: (syntax): but found another document; keep one document"),
    (b"[" * 100_000, ":1: (syntax): "),
    (b"? [a]\n: b\n", ":1: (file): has a key that is no plain name"),
    (b"<<: acme\n", ":1: (file): << takes a mapping"),
    (b"name: &a [*a]\n", ":1: name: must be a name, is a list"),
]


@pytest.mark.parametrize(("content", "beginning"), BROKEN)
def test_what_cannot_be_read_is_a_fault_with_its_line(
    folder: Folder, content: bytes, beginning: str
) -> None:
    folder.connect(SMALL).write_bytes(content)
    assert folder.faults()[0].startswith(f"connections/acme.yaml{beginning}")


def test_a_variable_that_breaks_a_list_is_advised_to_be_quoted(folder: Folder) -> None:
    folder.connect("match: {api_key: [${KEY}]}\n")
    (fault,) = folder.faults()
    assert fault.endswith('put values with ${…} into quotes: "${NAME}"')


def test_a_file_that_is_not_there_is_a_fault() -> None:
    with pytest.raises(ConfigurationError) as raised:
        load_configuration("nowhere.yaml", environ={})
    text = "cannot be read (No such file or directory); check the path"
    assert [f"nowhere.yaml:1: (file): {text}"] == raised.value.faults


def test_a_folder_named_like_a_connection_is_a_fault(folder: Folder) -> None:
    (folder.path / "connections" / "beta.yaml").mkdir()
    (fault,) = folder.faults()
    assert fault.startswith("connections/beta.yaml:1: (file): cannot be read")


def test_only_visible_yaml_files_are_connections(folder: Folder) -> None:
    for name in (".acme.yaml", "acme.yaml~", "#acme.yaml#", "README.md", "acme.yaml.swp"):
        (folder.path / "connections" / name).write_text("no: connection\n")
    assert ["acme"] == [c.name for c in folder.load().configuration.connections]


def test_a_yml_file_is_noted_since_nobody_reads_it(folder: Folder) -> None:
    (folder.path / "connections" / "beta.yml").write_text(SMALL)
    text = "(file): is not read; rename it to .yaml if it is a connection"
    assert (f"connections/beta.yml:1: {text}",) == folder.load().notes


def test_connections_come_in_the_order_of_their_files(folder: Folder) -> None:
    folder.connect(SMALL.replace("acme", "first"), "zulu")
    folder.connect(SMALL.replace("acme", "last"), "alpha")
    loaded = folder.load()
    assert ["acme", "last", "first"] == [c.name for c in loaded.configuration.connections]


def test_paths_start_from_the_file_that_names_them(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder.path / "ca.pem").write_bytes((DATA / "tls" / "cert.pem").read_bytes())
    folder.write(
        "kafka:\n  bootstrap_servers: [localhost:9092]\n  topics: [raw-events]\n"
        "  security: {protocol: SSL, ca_file: ca.pem}\n"
    )
    folder.connect("name: acme\nsink: {type: file, path: ../out}\n")
    elsewhere = folder.path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    configuration = load_configuration(Path("..") / "forwarder.yaml", environ={}).configuration
    assert (elsewhere / ".." / "ca.pem").resolve() == Path(
        configuration.kafka.security.ca_file or ""
    ).resolve()
    assert str(folder.path / "out") == getattr(configuration.connections[0].sink, "path", None)


def test_a_byte_order_mark_is_no_fault(folder: Folder) -> None:
    folder.connect("\ufeff" + SMALL)
    assert [] == folder.faults()


def test_anchors_and_merges_are_followed(folder: Folder) -> None:
    folder.connect(
        f"{SMALL}settings: &quiet {{send_screen_views: false, send_crash_events: false}}\n"
        "batching:\n  max_age: 1m\n"
    )
    folder.connect(
        "name: beta\nsink:\n  <<: &base {type: kinesis, stream_name: b, region: eu-west-1}\n"
        "  region: us-east-1\n",
        "beta",
    )
    sinks = [c.sink for c in folder.load().configuration.connections]
    assert ["us-east-1", "us-east-1"] == [getattr(sink, "region", None) for sink in sinks]
    assert "b" == getattr(sinks[1], "stream_name", None)


def test_a_fault_in_a_merged_key_is_named_where_it_is_written(folder: Folder) -> None:
    folder.connect(
        "name: acme\nsink:\n  <<:\n    - {type: kinesis, stream_name: b}\n    - {region: moon}\n"
    )
    (fault,) = folder.faults()
    assert fault.startswith("connections/acme.yaml:5: sink.region: must be an AWS region")


def test_merges_that_multiply_are_walked_once(folder: Folder) -> None:
    rows = ["a0: &a0 {x: 1}"]
    rows += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 30)]
    folder.connect("\n".join([*rows, "sink: {<<: *a29}", ""]))
    assert (
        "connections/acme.yaml:1: sink.x: is no key that is known here; correct or delete it"
        in (folder.faults())
    )


def test_a_merge_of_itself_ends(folder: Folder) -> None:
    folder.connect(f"{SMALL}settings: &s\n  <<: *s\n  send_as_batch: true\n")
    assert [] == folder.faults()


def test_a_single_connection_loads_without_a_worker_file(folder: Folder) -> None:
    loaded = load_connection(folder.connect(SMALL), environ={})
    assert "acme" == loaded.connection.name


def test_a_single_connection_reports_its_faults(folder: Folder) -> None:
    file = folder.connect(SMALL + "status: asleep\n")
    with pytest.raises(ConfigurationError, match=r"acme\.yaml:6: status: must be active"):
        load_connection(file, environ={})


def test_an_absent_connections_key_means_the_folder_beside(folder: Folder) -> None:
    folder.write(SMALL_WORKER)
    assert 1 == len(folder.load().configuration.connections)


def test_a_folder_that_is_no_path_is_a_fault_of_one_line(folder: Folder) -> None:
    folder.write(SMALL_WORKER + 'connections: "a\\0b\\nc"\n')
    (fault,) = folder.faults()
    assert fault.startswith(r"forwarder.yaml:2: connections: a\x00b\nc cannot be read (not a path)")


def test_a_path_out_of_a_variable_is_not_shown(folder: Folder) -> None:
    folder.connect('name: acme\nsink: {type: file, path: "${DIR}"}\n')
    text = "sink.path: what ${DIR} stands for is a file; name a folder"
    assert [f"connections/acme.yaml:2: {text}"] == folder.faults({"DIR": "acme.yaml"})


def test_a_file_without_end_is_refused_before_it_is_read() -> None:
    with pytest.raises(ConfigurationError) as raised:
        load_configuration("/dev/zero", environ={})
    assert ["/dev/zero:1: (file): is larger than 16 MiB; name the file itself"] == (
        raised.value.faults
    )

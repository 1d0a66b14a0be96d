"""Keys that << and aliases repeat: followed however far they lead, and counted."""

import pytest
import yaml

from forwarder.config.connection_fields import CONNECTION
from forwarder.config.worker_fields import WORKER as WORKER_SECTION
from forwarder.config.yaml.faults import MAX_FAULTS, ConfigFile
from forwarder.config.yaml.nodes import Node, parse_file
from forwarder.config.yaml.sections import Section
from tests.configurations import EXAMPLE, SMALL, WORKER, Folder


def top_of(folder: Folder, text: str) -> Node:
    path = folder.connect(text)
    top = parse_file(path, ConfigFile(str(path), path.parent, {}))
    assert top is not None
    return top


def test_a_chain_of_merges_is_followed_to_its_end(folder: Folder) -> None:
    rows = ["a0: &a0 {x: 0, y: 0}"]
    rows += [f"a{n}: &a{n} {{<<: *a{n - 1}, y: {n}}}" for n in range(1, 5_000)]
    last = top_of(folder, "\n".join(rows)).entries()["a4999"].entries()
    assert {"x": "0", "y": "4999"} == {name: str(node.raw.value) for name, node in last.items()}


def test_of_what_is_merged_the_nearest_and_first_counts(folder: Folder) -> None:
    text = (
        "a: &a {one: a, two: a, three: a, four: a}\n"
        "b: &b {<<: *a, two: b}\nc: &c {three: c, two: c}\n"
        "d: {<<: [*b, *c], one: d}\n"
    )
    found = top_of(folder, text).entries()["d"].entries()
    expected = {"one": "d", "two": "b", "three": "a", "four": "a"}
    assert expected == {name: str(node.raw.value) for name, node in found.items()}


def test_a_mapping_that_is_named_again_and_again_counts_each_time(folder: Folder) -> None:
    top = top_of(folder, f"a: &a {{x: 1}}\nb: {{<<: [{', '.join(['*a'] * 1_000)}]}}\n")
    assert {"x"} == set(top.entries()["b"].entries())
    assert 1_000 < top.file.keys_read


@pytest.mark.parametrize(("text", "section"), [(WORKER, WORKER_SECTION), (EXAMPLE, CONNECTION)])
def test_a_file_that_repeats_nothing_never_counts_more_than_it_holds(
    folder: Folder, text: str, section: Section
) -> None:
    held = sum(isinstance(event, yaml.NodeEvent) for event in yaml.parse(text))
    path = folder.connect(text)
    file = ConfigFile(str(path), path.parent, {}, max_values=held)
    top = parse_file(path, file)
    assert top is not None
    section.read(top)
    assert ([], 0) == (file.faults, file.more_faults)


def test_of_more_faults_than_anybody_reads_the_number_is_told(folder: Folder) -> None:
    folder.connect(SMALL + "".join(f"key_{number}: x\n" for number in range(MAX_FAULTS + 7)))
    *shown, last = folder.faults()
    assert MAX_FAULTS == len(shown)
    assert last.endswith(": (file): has 7 more faults than are shown")


def test_of_more_notes_too(folder: Folder) -> None:
    aws = [f"AKIAIOSFODNN7{number:07}" for number in range(MAX_FAULTS + 3)]
    folder.connect(f"{SMALL}match: {{application: [{', '.join(aws)}]}}\n")
    *shown, last = folder.load().notes
    assert MAX_FAULTS == len(shown)
    assert last.endswith(": (file): has 3 more notes than are shown")


def test_other_files_keep_their_faults(folder: Folder) -> None:
    folder.connect(SMALL + "".join(f"key_{number}: x\n" for number in range(MAX_FAULTS + 7)))
    assert folder.connect(f"{SMALL}status: asleep\n", "zulu").name in folder.faults()[-1]

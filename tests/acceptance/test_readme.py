"""Everything the README tells people to type or to write down works."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from forwarder.config import loader

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HERE_DOCUMENT = re.compile(r"<<'(\w+)'")


class Typed(NamedTuple):
    """A command, with the lines of its here-document, and the output that is shown for it."""

    command: str
    output: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.command.splitlines()[0], comments=True)


def blocks(language: str) -> list[str]:
    return [text for name, text in BLOCK.findall(README) if name == language]


def typed(block: str) -> list[Typed]:
    """Take a block apart into its commands."""
    found: list[Typed] = []
    lines = iter(block.splitlines())
    for line in lines:
        if not line.startswith("$ "):
            found[-1] = found[-1]._replace(output=f"{found[-1].output}{line}\n")
            continue
        command = line[2:]
        if ends := HERE_DOCUMENT.search(command):
            for more in lines:
                command += f"\n{more}"
                if more == ends[1]:
                    break
        found.append(Typed(command, ""))
    return found


COMMANDS = [command for block in blocks("console") for command in typed(block)]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what the commands read, to be written into."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "config", folder / "config")
    return folder


def run(command: str, folder: Path) -> str:
    """Run a command as a shell does; return what it writes to both outputs."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    answer = subprocess.run(
        ["bash", "-c", command],  # noqa: S607  # whichever bash people have
        cwd=folder,
        env=os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )
    assert answer.returncode == 0, f"{command}: {answer.stdout}"
    return answer.stdout


def runs_as_shown(it: Typed, clone: Path) -> None:
    output = run(it.command, clone)
    if it.output:
        assert it.output == output


def is_a_target(it: Typed, _: Path) -> None:
    targets = re.findall(r"^([a-z-]+):.* ## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert it.words[1] in targets


def works_with_arguments(it: Typed, clone: Path) -> None:
    """See that the demo knows the arguments; it is run by a test of its own."""
    is_a_target(it, clone)
    (arguments,) = [word.partition("=")[2] for word in it.words if word.startswith("ARGS=")]
    run(f"cd {shlex.quote(str(ROOT))} && python -m tests.demo {arguments} --help", clone)


def is_a_good_configuration(it: Typed, clone: Path) -> None:
    """Check what a worker would run with: it would not end by itself."""
    run(it.command.replace("forwarder run", "forwarder check"), clone)


def is_in_the_compose_file(it: Typed, _: Path) -> None:
    file = it.words[it.words.index("--file") + 1]
    services = yaml.safe_load((ROOT / file).read_text())["services"]
    assert it.words[4] in {"up", "run", "down"}
    if it.words[4] == "run":
        assert it.words[-1] in services


def is_installed_so(it: Typed, clone: Path) -> None:
    """See that the files named are here; ``make package`` installs what they make."""
    match it.words:
        case ["/opt/forwarder/bin/forwarder", *rest]:
            run(shlex.join(["forwarder", *rest]), clone)
        case ["/opt/forwarder/bin/pip", "install", *_, last]:
            assert (ROOT / last / "pyproject.toml" if last == "." else ROOT / last).is_file()
        case words:
            assert words in (
                ["python", "-m", "venv", "/opt/forwarder"],
                [".", ".venv/bin/activate"],
            )


def how_to_prove(it: Typed) -> Callable[[Typed, Path], None]:
    """Return the proof of a command; a kind that is not known fails."""
    match it.words:
        case ["make", "demo", _]:
            return works_with_arguments
        case ["make", *_]:
            return is_a_target
        case ["docker", "compose", *_]:
            return is_in_the_compose_file
        case ["forwarder", "run", *rest] if "--source" not in rest:
            return is_a_good_configuration
        case ["python" | "." | "/opt/forwarder/bin/pip" | "/opt/forwarder/bin/forwarder", *_]:
            return is_installed_so
        case ["forwarder" | "cat" | "ls", *_]:
            return runs_as_shown
    raise AssertionError(it.command)


# One test for all: a command may use what the ones before it have written.
def test_every_command_works_and_shows_what_the_readme_shows(clone: Path) -> None:
    assert COMMANDS
    for it in COMMANDS:
        how_to_prove(it)(it, clone)


def test_every_command_in_the_text_is_a_known_one() -> None:
    prose = BLOCK.sub("", README)
    mentioned = re.findall(r"`((?:make|forwarder) [^`]*)`", prose)
    assert mentioned
    for command in mentioned:
        words = shlex.split(command)
        known = (ROOT / "Makefile").read_text() if words[0] == "make" else run("forwarder -h", ROOT)
        assert re.search(rf"(?<![\w-]){words[1]}\b", known), command


def test_the_configuration_it_shows_has_no_faults(tmp_path: Path) -> None:
    worker, connection = blocks("yaml")
    (tmp_path / "connections").mkdir()
    (tmp_path / "forwarder.yaml").write_text(worker)
    (tmp_path / "connections" / "acme.yaml").write_text(connection)
    loaded = loader.load_configuration(tmp_path / "forwarder.yaml")
    assert ["acme-production"] == [it.name for it in loaded.configuration.connections]
    assert () == loaded.notes


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", README)
    assert links
    assert [] == [link for link in links if not (ROOT / link).exists()]


def test_the_guarantee_is_the_one_of_the_architecture() -> None:
    architecture = (ROOT / "docs" / "architecture.md").read_text()
    guarantee = re.search(
        r"^1\. An event accepted.*?^4\. [^\n]*$", README, re.MULTILINE | re.DOTALL
    )
    assert guarantee is not None
    assert guarantee[0] in architecture


def test_every_key_and_metric_it_names_exists() -> None:
    reference = (ROOT / "docs" / "configuration.md").read_text()
    metrics = (ROOT / "docs" / "metrics.md").read_text()
    keys = re.findall(r"`((?:journal|kafka)\.\w+|\w+_\w+)(?:: \w+)?`", README)
    assert keys
    for key in set(keys) - {"message_id"}:
        assert key in reference or f"`{key}`" in metrics, key

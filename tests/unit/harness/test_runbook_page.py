"""Whatever the runbook and the guarantee name is there: metrics, log events, keys, commands."""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from forwarder import cli
from forwarder.cli import (
    accept_loss,
    dead_letters,
    doctor,
    gateway,
    iam,
    outbox,
    replay,
    reset,
    run,
    status,
)
from forwarder.kafka import error_codes
from forwarder.model import Reason
from forwarder.ops import catalogue, gateway_catalogue
from forwarder.ops.stall import StallReason

ROOT = Path(__file__).parents[3]
NAMES = ("runbook.md", "guarantee.md", "dead-letters.md")
PAGES = {name: (ROOT / "docs" / name).read_text() for name in NAMES}
RUNBOOK = PAGES["runbook.md"]
SOURCE = "\n".join(path.read_text() for path in sorted((ROOT / "forwarder").rglob("*.py")))
REFERENCE = (ROOT / "docs" / "configuration.md").read_text()
KEYS = set(re.findall(r"^\| `([a-z_.]+)` \|", REFERENCE, re.MULTILINE))
EVENTS = set(re.findall(r"(?:\b(?:log|note)\.?\w*|_warn)\(\s*\"([a-z_]+\.[a-z_]+)\"", SOURCE))
EVENTS |= set(re.findall(r"\"event\": \"([a-z_]+\.[a-z_]+)\"", SOURCE))
MODULES = {
    "run": run,
    "status": status,
    "outbox": outbox,
    "dead-letters": dead_letters,
    "doctor": doctor,
    "gateway": gateway,
    "iam": iam,
    "replay": replay,
    "reset": reset,
    "accept-loss": accept_loss,
}
KAFKAS_OWN = re.compile(
    r"(cleanup|retention|min\.insync|max\.message|transaction\.(state|max)|unclean|replication"
    r"|message\.timestamp|group\.m(in|ax))[a-z.]*"
)
TEXT = " ".join(re.sub(r'"\s*f?"', "", SOURCE).split())
"""The source with every text that goes over several lines in one piece."""


def test_the_runbook_names_every_reason_for_which_an_input_stands_still() -> None:
    rows = set(re.findall(r"^\| ([a-z_]+) \|", RUNBOOK, re.MULTILINE))
    assert set(StallReason) <= rows


def named() -> Iterator[str]:
    """Yield everything the pages write as code within a line."""
    for page in PAGES.values():
        prose = re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)
        yield from (" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose))


NAMED = sorted(set(named()))


def of(pattern: str) -> list[str]:
    found = [code for code in NAMED if re.fullmatch(pattern, code)]
    assert found
    return found


def test_every_metric_is_one_of_the_program_with_these_labels() -> None:
    known = {it.name: it for it in (*catalogue.DEFINITIONS, *gateway_catalogue.DEFINITIONS)}
    for code in of(r"forwarder_[a-z_]+(\{.*\})?"):
        name, _, labels = code.partition("{")
        assert name in known
        for label, value in re.findall(r'(\w+)="(\w+)"', labels):
            assert label in known[name].labels
            assert re.search(rf"\b{value}\b", SOURCE)


def test_the_examples_of_alerts_name_metrics_labels_and_values_that_are_there() -> None:
    [block] = re.findall(r"^```yaml\n(groups:.*?)^```$", RUNBOOK, re.MULTILINE | re.DOTALL)
    known = {it.name: it for it in (*catalogue.DEFINITIONS, *gateway_catalogue.DEFINITIONS)}
    [group] = yaml.safe_load(block)["groups"]
    for rule in group["rules"]:
        assert rule["alert"].startswith("Forwarder")
        found = re.findall(r"(forwarder_\w+)(\{[^}]*\})?", rule["expr"])
        assert found
        for name, labels in found:
            told = re.findall(r'(\w+)(?:=|!=|=~)"([^"]+)"', labels)
            assert {label for label, _ in told} <= set(known[name].labels)
            for value in [one for _, values in told for one in values.split("|")]:
                assert re.search(rf"\b{value}\b", SOURCE)
        assert set(re.findall(r"by \(([^)]+)\)", rule["expr"])) <= {
            ", ".join(known[name].labels[:2]) for name, _ in found
        } | {label for name, _ in found for label in known[name].labels}


def test_every_dotted_name_is_a_log_event_or_a_key_of_the_configuration() -> None:
    for code in of(r"[a-z_]+(\.[a-z_]+)+"):
        assert code in EVENTS | KEYS or KAFKAS_OWN.fullmatch(code), code


def test_every_error_of_kafka_is_in_the_table_of_errors() -> None:
    section = RUNBOOK.split("\n## Kafka says no\n")[1].split("\n## ")[0]
    names = re.findall(r"^\| (.+?) \|", section, re.MULTILINE)[2:]
    codes = {code for name in names for code in re.findall(r"`(\w+)`", name)}
    known = {kind.__name__ for kind in error_codes.TABLE} | {"ConnectionResetError"}
    assert codes
    assert codes <= known


def test_every_single_word_that_looks_like_a_key_is_one() -> None:
    known = {key.rpartition(".")[2] for key in KEYS}
    events = {"backing_off", "read_committed", "message_id", "__transaction_state"}
    events |= {"__consumer_offsets", "first_offset", "source_request_id", *Reason}
    for code in of(r"[a-z_]+_[a-z_]+"):
        assert code in known | events or code.startswith("forwarder_"), code


@pytest.mark.parametrize("code", of(r"forwarder( .+)?"))
def test_every_command_takes_the_options_it_is_shown_with(code: str) -> None:
    _, *words = code.split()
    name = words[0]
    assert name in cli.COMMANDS
    parser = argparse.ArgumentParser()
    MODULES[name].add_arguments(parser)
    help_text = parser.format_help()
    if name == "outbox":
        assert words[1] == "show"
        help_text = (ROOT / "forwarder" / "cli" / "outbox.py").read_text()
    for option in (word for word in words if word.startswith("--")):
        assert re.search(rf"{option}\b", help_text), code


def test_every_option_that_stands_alone_belongs_to_a_command() -> None:
    every = "".join(path.read_text() for path in (ROOT / "forwarder" / "cli").glob("*.py"))
    for code in of(r"--[a-z-]+( .*)?"):
        assert f'"{code.split()[0]}"' in every


def reasons() -> list[str]:
    """Return what the first column of the table of reasons says."""
    section = RUNBOOK.split("\n## A partition is refused\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \|", section, re.MULTILINE)[1:]
    return [reason.strip() for row in rows for reason in row.split(";") if set(row) != set("-|")]


@pytest.mark.parametrize("reason", reasons())
def test_every_reason_is_said_in_these_words(reason: str) -> None:
    pieces = re.split(r"…|\([^)]*\)|,", reason)
    pieces = [words for piece in pieces if len(words := piece.strip()) > 1]
    assert pieces
    for words in pieces:
        assert words in TEXT, words


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_page_and_a_heading_that_are_there(page: str) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", PAGES[page]):
        path, _, anchor = link.partition("#")
        target = ROOT / "docs" / path if path else ROOT / "docs" / page
        assert target.exists()
        headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
        anchors = {re.sub(r"[^a-z0-9 -]", "", it.lower()).replace(" ", "-") for it in headings}
        assert not anchor or anchor in anchors


def test_every_section_that_is_pointed_to_is_there() -> None:
    sections = re.findall(r"^## (.+)$", RUNBOOK, re.MULTILINE)
    points = re.findall(r"^\* \*\*(.+?)\*\*", RUNBOOK, re.MULTILINE)
    pointed = re.findall(r'see "([^"]+)"', " ".join(RUNBOOK.split()))
    assert pointed
    for name in pointed:
        assert name in sections + points

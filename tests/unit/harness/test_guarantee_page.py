"""What docs/guarantee.md promises is what README and architecture promise, and its code works."""

import json
import re
import sqlite3
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "guarantee.md").read_text()
PROMISE = re.compile(r"^1\. An event accepted.*?^4\. [^\n]*$", re.MULTILINE | re.DOTALL)


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def test_the_guarantee_reads_the_same_everywhere() -> None:
    promise = PROMISE.search(PAGE)
    assert promise is not None
    for other in ("README.md", "docs/architecture.md"):
        assert promise[0] in (ROOT / other).read_text()


def test_the_consumer_it_shows_passes_every_document_once() -> None:
    names: dict[str, Any] = {}
    exec(block("python"), names)  # noqa: S102  # the page's own example
    consumer = names["Deduplicated"](remembered=2)
    documents = [json.dumps({"message_id": name}).encode() for name in "abacb"]
    assert [True, True, False, True, False] == [consumer.first_time(it) for it in documents]


def test_the_consumer_it_shows_forgets_the_oldest_ids() -> None:
    names: dict[str, Any] = {}
    exec(block("python"), names)  # noqa: S102  # the page's own example
    consumer = names["Deduplicated"](remembered=2)
    documents = [json.dumps({"message_id": name}).encode() for name in "abca"]
    assert [True] * 4 == [consumer.first_time(it) for it in documents]


def test_the_query_it_shows_keeps_the_first_of_each_id() -> None:
    with sqlite3.connect(":memory:") as base:
        base.execute("CREATE TABLE documents (message_id TEXT, arrived INTEGER)")
        base.executemany("INSERT INTO documents VALUES (?, ?)", [("a", 1), ("b", 2), ("a", 3)])
        rows = base.execute(block("sql")).fetchall()
    assert [("a", 1), ("b", 2)] == sorted(row[:2] for row in rows)


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", PAGE)
    assert links
    assert [] == [link for link in links if not (ROOT / "docs" / link).exists()]

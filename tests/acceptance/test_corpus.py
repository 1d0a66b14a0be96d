"""Every input of the corpus comes out as expected; CONTRIBUTING.md says how to add one."""

from pathlib import Path

import pytest

from tests.corpus import entries, outcome
from tests.corpus.reading import exact


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.name)
async def test_an_input_of_the_corpus_comes_out_as_expected(entry: Path, tmp_path: Path) -> None:
    expected = exact((entry / "expected.json").read_text())
    about = expected.pop("about")

    assert expected == await outcome(entry, tmp_path), about


def test_every_entry_says_what_it_is_about() -> None:
    assert [] == [
        entry.name
        for entry in entries()
        if not exact((entry / "expected.json").read_text()).get("about")
    ]

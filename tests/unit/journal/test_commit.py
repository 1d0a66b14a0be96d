"""The metadata of a commit: one codec, read whoever wrote it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.errors import RefusedError
from forwarder.journal.commit import (
    CommitMetadata,
    decode_metadata,
    encode_metadata,
    metadata_hint,
)
from forwarder.model import Commit

NUMBERS = st.integers(0, 2**62)
PAUSED = st.just(("", 0)) | st.tuples(st.sampled_from(["memory_short", "journal_behind"]), NUMBERS)
SAID = st.builds(
    lambda n, ptr, outbox, stopped, paused: CommitMetadata(n, ptr, outbox, stopped, *paused),
    NUMBERS, NUMBERS, NUMBERS, NUMBERS, PAUSED,
) | st.just(CommitMetadata(start="latest"))  # fmt: skip
ODD: st.SearchStrategy[object] = (
    st.none() | st.booleans() | st.integers(max_value=-1) | st.floats() | st.text() | st.just([])
)


def commit(text: str) -> Commit:
    return Commit(60, text)


@given(SAID)
def test_what_is_written_reads_back(said: CommitMetadata) -> None:
    text = encode_metadata(said)
    assert said == decode_metadata(commit(text)) == metadata_hint(commit(text))
    assert 300 > len(text)


@given(SAID, st.dictionaries(st.text(), st.integers() | st.text()))
def test_fields_of_a_later_release_are_passed_over(
    said: CommitMetadata, more: dict[str, int | str]
) -> None:
    content = json.loads(encode_metadata(said))
    known = {*CommitMetadata.__struct_fields__, "v"}
    later = {name: value for name, value in more.items() if name not in known}
    assert said == decode_metadata(commit(json.dumps({**later, **content})))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"v":1,"n":8,"ptr":31}', CommitMetadata(8, 31)),
        ('{"v":1,"n":8,"ptr":31,"outbox":18}', CommitMetadata(8, 31, 18)),
        ('{"v":1,"n":8,"ptr":31,"stopped":7,"outbox":18}', CommitMetadata(8, 31, 18, 7)),
        ('{"v":1,"start":"latest"}', CommitMetadata(start="latest")),
    ],
)
def test_what_earlier_releases_wrote_is_read_and_written_alike(
    text: str, said: CommitMetadata
) -> None:
    assert said == decode_metadata(commit(text))
    assert text == encode_metadata(said)


@given(st.sampled_from(["n", "ptr", "outbox", "stopped", "paused_since"]), ODD)
def test_a_field_that_is_no_number_says_nothing(name: str, value: object) -> None:
    text = json.dumps({"v": 1, "n": 0, name: value})
    assert CommitMetadata() == decode_metadata(commit(text))


@pytest.mark.parametrize("text", ["", "no json", "[]", "{}", '"v"', '{"n":3,"ptr":4}'])
def test_what_has_no_version_was_set_by_an_operator(text: str) -> None:
    assert decode_metadata(commit(text)) is None
    assert decode_metadata(None) is None


def test_a_later_version_is_refused_and_still_says_where_to_begin_to_read() -> None:
    text = '{"v":99,"n":3,"ptr":4}'
    with pytest.raises(RefusedError, match="version 99"):
        decode_metadata(commit(text))
    assert CommitMetadata(3, 4) == metadata_hint(commit(text))
    assert CommitMetadata() == metadata_hint(None)

"""Deletions of attributes: plain names are united at once, others one by one, and alike."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from forwarder.formats import rawjson
from forwarder.formats.mparticle import document

_NAMES = st.one_of(st.text(max_size=4), st.sampled_from(["a", "b", "\x7f", "é", '"', "\ud83d"]))
_ODD = st.one_of(_NAMES, st.sampled_from([1, "1", None, True, ["a"]]))
_LISTS = st.one_of(
    st.lists(_NAMES, max_size=6), st.lists(_ODD, max_size=4), st.sampled_from([5, {}])
)
_MAPS = st.one_of(st.none(), st.dictionaries(_NAMES, st.just(1), max_size=4), st.just("odd"))


def fields(**given: object) -> dict[str, Raw]:
    """Return these keys as an upload has them, with white space where JSON allows it."""
    found = {}
    for key, value in given.items():
        if value is not None:
            text = json.dumps(value, ensure_ascii=False, separators=(" ,", ": "))
            found[key] = Raw(text.encode(errors="backslashreplace"))
    return found


@given(_LISTS, st.one_of(st.none(), _LISTS), _MAPS)
def test_a_union_is_the_same_whichever_way_it_is_made(
    old: object, new: object, attributes: object
) -> None:
    before = fields(deleted_user_attributes=old)
    after = fields(deleted_user_attributes=new, user_attributes=attributes)
    plain = document.merge_fields(before, after)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(document, "_plain_union", lambda *_: None)
        singly = document.merge_fields(before, after)
    assert plain == singly


def test_a_key_given_twice_is_found_among_any_number() -> None:
    """Each is looked at once: with a look at all before each, these would take minutes."""
    members = {f"k{n}": Raw(b"1") for n in range(200_000)}
    value = rawjson.encode_object(members)[:-1]
    assert rawjson.repeated_key(value + b',"k199999":2}') == "k199999"
    assert rawjson.repeated_key(value + b',"\\ud83d":2}') is None

"""JSON taken apart: what its own callers' tests do not show."""

import json

from hypothesis import given
from hypothesis import strategies as st

from forwarder.formats import rawjson

texts = st.text(st.characters(), max_size=8) | st.text(st.sampled_from("\ud83d\ude00\\u"))


@given(texts, st.sampled_from([b"\\ud", b"\\uD"]))
def test_halves_of_surrogate_pairs_are_replaced_and_nothing_else(text: str, hint: bytes) -> None:
    raw = json.dumps(text).encode().replace(b"\\ud", hint)
    whole = json.loads(raw).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert whole == json.loads(rawjson.replace_halves(raw))


def test_halves_are_replaced_in_time_however_many_there_are() -> None:
    many = b'"%b"' % (b"\\ud83d" * 200_000)
    assert "\ufffd" * 200_000 == json.loads(rawjson.replace_halves(many))
    escaped = b'"%b\\ud83d"' % (b"\\\\" * 200_000)
    assert rawjson.replace_halves(escaped).endswith(b'\\ufffd"')

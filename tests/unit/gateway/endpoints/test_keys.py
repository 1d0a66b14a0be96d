from hypothesis import given
from hypothesis import strategies as st

from forwarder.gateway.endpoints.keys import LONGEST, index_key

ids = st.text(max_size=20) | st.builds(str.__mul__, st.text(min_size=1, max_size=3), st.just(600))


@given(ids, ids)
def test_every_id_has_a_key_of_its_own(one: str, other: str) -> None:
    assert (one == other) == (index_key(one) == index_key(other))
    assert len(index_key(one)) <= LONGEST


def test_a_digest_is_never_taken_for_an_id() -> None:
    assert b"\xff" == index_key("x" * 513)[:1]
    assert 33 == len(index_key("x" * 513))
    assert b"x" * 512 == index_key("x" * 512)

from forwarder.gateway.endpoints.cache import OVERHEAD, EndpointCache

ONE, OTHER = ("a", "1"), ("a", "2")


def test_what_was_used_last_is_kept() -> None:
    cache = EndpointCache(2 * (OVERHEAD + 10))
    cache.put(ONE, b"1")
    cache.put(OTHER, b"2")
    assert b"1" == cache.get(ONE)
    cache.put(("a", "3"), b"3")
    assert (b"1", None, b"3") == (cache.get(ONE), cache.get(OTHER), cache.get(("a", "3")))


def test_what_is_larger_than_all_of_it_is_not_kept() -> None:
    cache = EndpointCache(OVERHEAD)
    cache.put(ONE, b"1")
    assert cache.get(ONE) is None
    cache.put(OTHER, b"")
    assert cache.get(OTHER) is None


def test_what_is_put_again_is_counted_once() -> None:
    cache = EndpointCache(2 * (OVERHEAD + 10))
    for _ in range(9):
        cache.put(ONE, b"1")
    cache.put(OTHER, b"2")
    assert b"1" == cache.get(ONE)


def test_what_is_about_to_change_is_not_answered_until_the_last_change_is_known() -> None:
    cache = EndpointCache(10_000)
    cache.put(ONE, b"1")
    cache.put(OTHER, b"2")
    cache.mark([ONE], every=False)
    cache.mark([ONE], every=False)
    cache.unmark([ONE], every=False)
    assert (None, b"2") == (cache.get(ONE), cache.get(OTHER))
    cache.mark([], every=True)
    cache.unmark([ONE], every=False)
    assert (None, None) == (cache.get(ONE), cache.get(OTHER))
    cache.unmark([], every=True)
    assert (b"1", b"2") == (cache.get(ONE), cache.get(OTHER))

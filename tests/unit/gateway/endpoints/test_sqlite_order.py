"""Whatever is asked at once and is cached, a file answers in the order of asking."""

import asyncio
import tempfile
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.config.gateway import GatewayLimits
from forwarder.gateway.endpoints.contract import EndpointUpdate
from forwarder.gateway.endpoints.merge import make_merge, user_id
from forwarder.gateway.endpoints.sqlite import SqliteStore

MERGE = make_merge(GatewayLimits())
NAMES = ("e-1", "e-2", "e-3")

names = st.sampled_from(NAMES)
users = st.sampled_from(["u", "v"])
members = st.fixed_dictionaries(
    {},
    optional={
        "Metrics": st.dictionaries(st.sampled_from("abc"), st.integers(0, 3), max_size=2),
        "User": st.fixed_dictionaries({"UserId": users}),
        "Address": st.just("x" * 16_000),  # which no endpoint may have
    },
)
asked = st.one_of(
    st.tuples(st.just("merge"), st.dictionaries(names, members, min_size=1, max_size=3)),
    st.tuples(st.sampled_from(["read", "delete"]), names),
    st.tuples(st.sampled_from(["read_user", "delete_user"]), users),
    st.tuples(st.just("turn"), st.integers(1, 20)),
    st.tuples(st.just("wait"), st.none()),
)


class Oracle:
    """The same in a dictionary, one after the other."""

    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}

    def answer(self, what: str, given: Any) -> Any:  # noqa: ANN401  # of each its own
        if what == "merge":
            merged = {}
            for name, one in given.items():
                merged[name] = MERGE("a1", name, self.stored.get(name), EndpointUpdate(one, 1))
                if merged[name].endpoint:
                    self.stored[name] = merged[name].endpoint
            return merged
        if what == "read":
            return self.stored.get(given)
        if what == "delete":
            return self.stored.pop(given, None)
        found = {name: it for name, it in self.stored.items() if user_id(it) == given}
        if what == "delete_user":
            for name in found:
                del self.stored[name]
        return sorted(found.values())


def ask(store: SqliteStore, what: str, given: Any) -> Awaitable[Any]:  # noqa: ANN401
    if what == "merge":
        return store.merge("a1", {name: EndpointUpdate(one, 1) for name, one in given.items()})
    answer: Awaitable[Any] = getattr(store, what)("a1", given)
    return answer


@settings(max_examples=60)
@given(st.lists(asked, max_size=40), st.sampled_from([0, 700, 100_000]))
async def test_answers_are_those_of_one_after_the_other(
    steps: list[tuple[str, Any]], cache_bytes: int
) -> None:
    oracle = Oracle()
    expected: list[Any] = []
    answers: list[asyncio.Task[Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        store = await SqliteStore.open(Path(folder) / "e.db", MERGE, cache_bytes=cache_bytes)
        for what, given_it in steps:
            if what == "turn":
                for _ in range(given_it):
                    await asyncio.sleep(0)
            elif what == "wait":
                await asyncio.gather(*answers)
            else:
                expected.append(oracle.answer(what, given_it))
                answers.append(asyncio.ensure_future(ask(store, what, given_it)))
        found = await asyncio.gather(*answers)
        await store.close()
    assert expected == [sorted(it) if isinstance(it, list) else it for it in found]

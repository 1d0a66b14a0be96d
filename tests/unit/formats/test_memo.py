"""What is remembered of uploads has a bound, and so has what is stored of the ids in them."""

import json
import tracemalloc
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from forwarder.config.connection import Match
from forwarder.formats.ids import MAX_ID_BYTES
from forwarder.formats.memo import ENTRY_BYTES, MAX_ENTRY_BYTES, MAX_MEMO_BYTES, Memo
from forwarder.formats.mparticle.identity import id_of
from tests import builders, oracle
from tests.builders import START, Rec, connection, event, upload

LARGE = "é" * 60_000
UPLOADS = 100
MOST_KEPT = 2 * 1024 * 1024
"""Bytes; what came in is six times as much for each of these inputs."""

MOST_STORED = 2_560
"""Bytes of a window's keys, twice and with its session."""

INPUTS: dict[str, Callable[[str], dict[str, Any]]] = {
    "package": lambda text: {"application_info": {"package": text}},
    "application": lambda text: {"application_info": {"package": "a", "note": text}},
    "device": lambda text: {"mp_deviceid": text},
    "user": lambda text: {"mpid": text},
    "identities": lambda text: {"mp_deviceid": "d-1", "user_identities": {"email": text}},
    "key": lambda text: {text: 1},
    "environment": lambda text: {"environment": text},
    "api key": lambda text: {"api_key": text},
    "platform": lambda text: {"device_info": {"platform": text}},
}


@pytest.mark.parametrize("name", INPUTS)
def test_uploads_leave_nothing_behind_however_large_their_ids(name: str) -> None:
    nobody = Match(application=frozenset({"other"}), api_key=frozenset({"k"}))
    fed = builders.pipeline(connection(match=nobody))
    numbers = count()

    def feed() -> None:
        number = next(numbers)
        content = upload(event(), device="") | INPUTS[name](f"{name}{number}{LARGE}")
        fed.collect([Rec(number, START, json.dumps(content, ensure_ascii=False).encode())], START)

    feed()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(UPLOADS):
        feed()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert after - before < MOST_KEPT


@pytest.mark.parametrize("by_session", [False, True])
@pytest.mark.parametrize("name", ["package", "device", "user", "environment"])
def test_what_is_stored_of_a_window_is_no_larger_for_its_ids(
    name: str, *, by_session: bool
) -> None:
    fed = builders.pipeline(connection(wait_for_complete_batch=by_session))
    session = event(session_id=LARGE)
    content = upload(session, device="") | {"mpid": 1} | INPUTS[name](LARGE)
    fed.collect([Rec(0, START, json.dumps(content).encode())], START)

    [held] = builders.saved(fed, 1)

    assert len(held.key) + len(held.device) + len(held.session) < MOST_STORED


def test_long_ids_name_as_many_devices_as_there_are() -> None:
    contents = [upload(event(n=n), device=f"{LARGE}{n % 3}") for n in range(6)]
    found = builders.run(connection(), builders.records(*contents))

    assert [2, 2, 2] == [batch.count for batch in found.batches]


@pytest.mark.parametrize("text", ["x" * 500, "é" * 500, '"' * 500, "7" * 500])
def test_a_long_id_is_the_same_however_it_is_spelled(text: str) -> None:
    spellings = {json.dumps(text).encode(), json.dumps(text, ensure_ascii=False).encode()}
    if text.isdigit():
        spellings.add(text.encode())

    [token] = {id_of(one) for one in spellings}
    assert len(token) < MAX_ID_BYTES
    assert oracle.named(json.loads(token))


def test_a_long_row_of_zeros_means_none() -> None:
    assert b'""' == id_of(b'"%b"' % (b"0" * 100_000))


def test_a_memo_keeps_so_many_answers_and_none_that_hangs_on_much() -> None:
    memo: Memo[int, str] = Memo(3)

    assert "large" == memo.keep(0, "large", MAX_ENTRY_BYTES)
    assert {} == memo
    for number in range(5):
        assert "small" == memo.keep(number, "small", MAX_ENTRY_BYTES - ENTRY_BYTES)
    assert {3, 4} == set(memo)


def test_a_memo_keeps_so_many_bytes() -> None:
    memo: Memo[int, str] = Memo(10**9)
    most = MAX_MEMO_BYTES // MAX_ENTRY_BYTES
    for number in range(3 * most + 1):
        memo.keep(number, "", MAX_ENTRY_BYTES - ENTRY_BYTES)
        assert most >= len(memo)
    assert {3 * most} == set(memo)


MANY: dict[str, Callable[[int], dict[str, Any]]] = {
    "keys": lambda n: {f"{chr(0x4E00 + n)}{m}": m for m in range(60)},
    "too many keys": lambda n: {f"{chr(0x4E00 + n)}{m}": m for m in range(200)},
    "packages": lambda n: {"application_info": {"package": f"{n}" * 200, "note": "x" * 500}},
    "applications": lambda n: {"application_info": {"package": f"{n}", "note": "n" * 2000}},
    "identities": lambda n: {"mp_deviceid": "d", "user_identities": {"email": f"{n}" * 500}},
    "ids": lambda n: {"mp_deviceid": f"é{n}" * 500},
    "platforms": lambda n: {"device_info": {"platform": f"{n}" * 500}},
    "api keys": lambda n: {"api_keys": [f"{n}-{m}" for m in range(300)]},
}


@pytest.mark.parametrize("kind", MANY)
def test_what_is_remembered_takes_no_more_than_it_may(kind: str) -> None:
    matches = [Match(platform=frozenset({"ios"})), Match(api_key=frozenset({"k"}))]
    lanes = [connection(f"{n}", match=matches[n % 2]) for n in range(20)]
    fed, numbers = builders.pipeline(*lanes), count()

    def feed(most: int) -> None:
        for number in range(most):
            content = {"mpid": 1, "events": []} | MANY[kind](next(numbers))
            fed.collect([Rec(number, START, json.dumps(content).encode())], START)

    feed(1)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    feed(600)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert after - before < 1.25 * MAX_MEMO_BYTES


def test_windows_keep_no_description_of_a_thousand_keys() -> None:
    fed = builders.pipeline(connection())

    def feed() -> None:
        for number in range(100):
            keys = {f"{chr(0x4E00 + number)}{m}": 1 for m in range(200)}
            content = upload(event(), device=f"{number}") | keys
            fed.collect([Rec(number, START, builders.encoded(content))], START)

    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    feed()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert after - before < 1.25 * fed.memory_bytes()

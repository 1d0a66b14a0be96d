"""How long a connection may be silent: while it awaits an answer, and while a request leaves."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import pytest
from aiohttp import SocketTimeoutError

from forwarder import clock
from forwarder.aws.http_connection import OneAnswerProtocol
from tests.unit.aws.test_http_connection import Slow, answer


class Timer(NamedTuple):
    """A timer of a loop whose time is set by the test."""

    at: float
    act: Callable[[], None]
    others: "list[Timer]"

    def when(self) -> float:
        return self.at

    def cancel(self) -> None:
        self.others.remove(self)


class Watch:
    """A loop whose time is set by the test, with its timers."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.timers: list[Timer] = []

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # the true loop's
        return getattr(asyncio.get_running_loop(), name)

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, act: Callable[[], None]) -> Timer:
        self.timers.append(Timer(when, act, self.timers))
        return self.timers[-1]

    def pass_until(self, now: float) -> None:
        """Let time go by, and what was to be called until then."""
        self.now = now
        for timer in [timer for timer in self.timers if timer.at <= now]:
            self.timers.remove(timer)
            timer.act()


@pytest.fixture
async def watched(
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[tuple[OneAnswerProtocol, Watch]]:
    watch = Watch()
    monkeypatch.setattr(clock, "monotonic", watch.time)
    protocol = OneAnswerProtocol(watch)
    protocol.connection_made(Slow(0))
    yield protocol, watch
    if protocol.transport is not None:
        protocol.connection_lost(None)
    assert not watch.timers


async def test_silence_is_counted_from_the_last_bytes_on(
    watched: tuple[OneAnswerProtocol, Watch],
) -> None:
    protocol, watch = watched
    protocol.set_response_params(read_timeout=10)
    protocol.start_timeout()
    watch.pass_until(1_009.0)
    protocol.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    watch.pass_until(1_010.0)
    watch.pass_until(1_018.9)
    message, payload = await protocol.read()
    assert (200, False) == (message.code, payload.is_eof())
    assert payload.exception() is None
    watch.pass_until(1_019.0)
    assert isinstance(payload.exception(), SocketTimeoutError)
    assert protocol.should_close


async def test_no_silence_is_counted_while_a_request_is_leaving(
    watched: tuple[OneAnswerProtocol, Watch],
) -> None:
    protocol, watch = watched
    line = protocol.transport
    assert isinstance(line, Slow)
    protocol.set_response_params(read_timeout=10)
    line.unsent = 3_000
    protocol.start_timeout()
    for left in (2_000, 1_000, 0):
        line.unsent = left
        watch.pass_until(watch.now + 10)
        assert protocol.exception() is None
    watch.pass_until(watch.now + 10)
    assert isinstance(protocol.exception(), SocketTimeoutError)


async def test_a_request_of_which_nothing_leaves_any_more_meets_silence(
    watched: tuple[OneAnswerProtocol, Watch],
) -> None:
    protocol, watch = watched
    line = protocol.transport
    assert isinstance(line, Slow)
    protocol.set_response_params(read_timeout=10)
    line.unsent = 3_000
    protocol.start_timeout()
    watch.pass_until(1_009.9)
    assert protocol.exception() is None
    watch.pass_until(1_010.0)
    assert isinstance(protocol.exception(), SocketTimeoutError)


async def test_a_connection_that_has_ended_leaves_no_timer(
    watched: tuple[OneAnswerProtocol, Watch],
) -> None:
    protocol, watch = watched
    protocol.set_response_params(read_timeout=10)
    protocol.start_timeout()
    assert watch.timers
    protocol.connection_lost(None)
    assert not watch.timers


async def test_a_shorter_time_for_an_answer_is_kept(
    watched: tuple[OneAnswerProtocol, Watch],
) -> None:
    protocol, watch = watched
    for seconds in (10, 2):
        protocol.set_response_params(read_timeout=seconds)
        protocol.start_timeout()
    watch.pass_until(1_001.9)
    assert protocol.exception() is None
    watch.pass_until(1_002.0)
    assert isinstance(protocol.exception(), SocketTimeoutError)


async def test_what_awaits_no_answer_may_be_silent_and_many_requests_have_one_timer(
    watched: tuple[OneAnswerProtocol, Watch],
) -> None:
    protocol, watch = watched
    for number in range(5):
        protocol.set_response_params(read_timeout=10)
        protocol.start_timeout()
        assert [1_010.0] == [timer.at for timer in watch.timers]
        watch.now += 1
        protocol.data_received(answer(number))
        await protocol.read()
    watch.pass_until(1_010.0)
    assert [] == watch.timers
    watch.pass_until(2_000.0)
    assert protocol.exception() is None
    assert not protocol.should_close

"""What /metrics, /livez and /readyz answer; they do before Kafka is reachable.

What bounds the port itself is in http_server.py, and what may be seen there in public.py.
"""

import asyncio
import gzip
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Generic, Protocol, TypeVar

import orjson
import structlog

from forwarder import retry
from forwarder.clock import Clock, SystemClock
from forwarder.errors import StartupError
from forwarder.ops import negotiation
from forwarder.ops.http_server import (
    HttpLimits,
    HttpRequest,
    HttpResponse,
    HttpServer,
)
from forwarder.ops.metric_set import CONTENT_TYPE, CONTENT_TYPE_OPENMETRICS, MetricSet
from forwarder.ops.negotiation import ScrapeFormat
from forwarder.ops.public import PublicView

log = structlog.get_logger()

REST_PER_RENDER = 4
"""Parts of rest for one of rendering: however many ask for a page, it costs a fifth of a core."""

GZIP_LEVEL = 5
"""A megabyte of metrics becomes 50 KB in 10 ms."""

METHODS = ("GET", "HEAD")

K = TypeVar("K")
V = TypeVar("V")


class Pulse(Protocol):
    """What the probes ask: of a worker ``Health``, of a gateway its own."""

    def alive(self) -> bool:
        """Tell whether the loop goes round."""

    def heartbeat_age(self) -> float:
        """Return the seconds since the last heartbeat."""

    def ready(self) -> bool:
        """Tell whether it does its work."""

    def described(self) -> dict[str, Any]:
        """Return everything as JSON can hold it."""


class Report(Protocol):
    """What a process shows of itself."""

    @property
    def health(self) -> Pulse:
        """What the probes ask."""

    @property
    def metrics(self) -> MetricSet:
        """What is scraped."""


class OpsServer:
    """Serves one report. Caller: ``app`` or the gateway, which also run the report's heartbeat."""

    def __init__(
        self,
        report: Report,
        public: PublicView | None = None,
        bounds: HttpLimits | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Create; it listens from :meth:`start` on."""
        self._report = report
        self._public = public or PublicView()
        self._clock = clock or SystemClock()
        self._scrapes = _SharedRender(self._rendered, self._clock)
        self._readiness = _SharedRender(self._described, self._clock)
        self._http = HttpServer(self._respond, bounds or HttpLimits(), self._clock)
        self._repeats = retry.RepeatSuppressor(retry.LOG_REPEAT_SECONDS)
        self._pages: Mapping[str, Callable[[HttpRequest], Awaitable[HttpResponse]]] = {
            "/metrics": self._metrics,
            "/livez": self._livez,
            "/readyz": self._readyz,
        }

    async def start(self, host: str, port: int) -> int:
        """Listen and return the port, chosen by the system if ``port`` is 0; or StartupError."""
        try:
            return await self._http.start(host, port)
        except OSError as error:
            what = f"cannot listen on {host}:{port} ({error.strerror or error})"
            msg = f"{what}: set server.host and server.port to an address that is free here"
            raise StartupError(msg) from error

    async def stop(self) -> None:
        """Stop listening and let answers under way finish."""
        await self._http.stop()
        await self._scrapes.stop()
        await self._readiness.stop()

    async def _respond(self, request: HttpRequest) -> HttpResponse:
        """Answer whatever is asked; a fault of ours is logged once a minute."""
        page = self._pages.get(request.path)
        if page is None:
            pages = ", ".join(self._pages)
            return _text(HTTPStatus.NOT_FOUND, f"there are {pages}\n")
        if request.method not in METHODS:
            refusal = _text(HTTPStatus.METHOD_NOT_ALLOWED, "GET or HEAD\n")
            return refusal._replace(header={**refusal.header, "Allow": ", ".join(METHODS)})
        try:
            return await page(request)
        except Exception as error:
            if self._repeats.register(type(error).__name__, self._clock.steady()):
                log.exception("http.failed", path=request.path)
            return _text(HTTPStatus.INTERNAL_SERVER_ERROR, "see the log\n")

    async def _metrics(self, request: HttpRequest) -> HttpResponse:
        form = negotiation.negotiate(request.header)
        body = await self._scrapes.get(form)
        kind = CONTENT_TYPE_OPENMETRICS if form.openmetrics else CONTENT_TYPE
        header = {"Content-Type": kind, "Vary": "Accept, Accept-Encoding"}
        if form.gzip:
            header["Content-Encoding"] = "gzip"
        return HttpResponse(HTTPStatus.OK, body, header)

    async def _livez(self, _: HttpRequest) -> HttpResponse:
        health = self._report.health
        alive = health.alive()
        return self._json(
            {"alive": alive, "silence_seconds": round(health.heartbeat_age(), 3)}, alive
        )

    async def _readyz(self, _: HttpRequest) -> HttpResponse:
        return await self._readiness.get(None)

    async def _described(self, _: None) -> HttpResponse:
        # In the loop, which changes what is described: 50 ms for thousands of broken lanes.
        health = self._report.health
        return self._json(health.described(), health.ready())

    def _json(self, content: dict[str, Any], good: bool) -> HttpResponse:  # noqa: FBT001  # the answer
        option = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        body = orjson.dumps(self._public(content), option=option)
        status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
        return HttpResponse(status, body, {"Content-Type": "application/json"})

    async def _rendered(self, form: ScrapeFormat) -> bytes:
        self._report.metrics.freeze()  # here: what the thread reads has to be of one moment
        # In a thread: with a hundred connections it takes 80 ms, too long for the loop.
        return await asyncio.to_thread(self._render, form)

    def _render(self, form: ScrapeFormat) -> bytes:
        body = self._report.metrics.render(openmetrics=form.openmetrics)
        return gzip.compress(body, GZIP_LEVEL, mtime=0) if form.gzip else body


class _SharedRender(Generic[K, V]):
    """Renders one page at a time for all who ask, then pauses.

    So scrapes take at most a fifth of a core. A page is never older than its request.
    """

    def __init__(self, render: Callable[[K], Awaitable[V]], clock: Clock) -> None:
        self._render = render
        self._clock = clock
        self._asked: dict[K, asyncio.Future[V]] = {}
        self._task: asyncio.Task[None] | None = None

    async def get(self, form: K) -> V:
        """Return the page in this form, once it is its turn."""
        if form not in self._asked:
            self._asked[form] = asyncio.get_running_loop().create_future()
        answer = self._asked[form]
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())
        # One of several that wait for it may leave.
        return await asyncio.shield(answer)

    async def stop(self) -> None:
        """Render no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for answer in self._asked.values():
            answer.cancel()

    async def _work(self) -> None:
        while self._asked:
            form = next(iter(self._asked))
            answer = self._asked.pop(form)
            began = self._clock.steady()
            try:
                page = await self._render(form)
            except Exception as error:  # noqa: BLE001  # it is told whoever asked
                if not answer.cancelled():
                    answer.set_exception(error)
                    answer.exception()  # whoever asked may have left: nobody misses it then
            else:
                if not answer.cancelled():
                    answer.set_result(page)
            await asyncio.sleep(REST_PER_RENDER * (self._clock.steady() - began))


def _text(status: HTTPStatus, text: str) -> HttpResponse:
    return HttpResponse(status, text.encode(), {"Content-Type": "text/plain; charset=utf-8"})

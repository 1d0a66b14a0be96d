"""The HTTP server of /metrics, /livez and /readyz; it answers before Kafka is reachable."""

import asyncio
from typing import Any

import orjson
from aiohttp import web

from forwarder.errors import StartupError
from forwarder.ops.metrics import CONTENT_TYPE
from forwarder.ops.report import Report

STOP_SECONDS = 2.0
"""How long a stop waits for answers under way; a scrape takes milliseconds."""


class Server:
    """Serve one report; whoever runs the worker keeps its pulse (``Report.keep_pulse``)."""

    def __init__(self, report: Report) -> None:
        """Serve nothing before :meth:`start`."""
        self._report = report
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        # Without an access log: a probe every few seconds says nothing worth keeping.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_SECONDS)

    async def start(self, host: str, port: int) -> int:
        """Listen and return the port, chosen by the system if ``port`` is 0; or StartupError."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            await self._runner.cleanup()
            what = f"cannot listen on {host}:{port} ({error.strerror or error})"
            msg = f"{what}: set server.host and server.port to an address that is free here"
            raise StartupError(msg) from error
        bound: int = self._runner.addresses[0][1]
        return bound

    async def stop(self) -> None:
        """Stop listening and let answers under way finish."""
        await self._runner.cleanup()

    async def _metrics(self, _: web.Request) -> web.Response:
        # In a thread: with a hundred connections it takes 80 ms, too long for the loop to stand.
        body = await asyncio.to_thread(self._report.metrics.render)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    async def _livez(self, _: web.Request) -> web.Response:
        health = self._report.health
        alive = health.alive()
        return _json({"alive": alive, "silence_seconds": round(health.silence(), 3)}, good=alive)

    async def _readyz(self, _: web.Request) -> web.Response:
        health = self._report.health
        return _json(health.described(), good=health.ready())


def _json(content: dict[str, Any], *, good: bool) -> web.Response:
    body = orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    status = web.HTTPOk.status_code if good else web.HTTPServiceUnavailable.status_code
    return web.Response(body=body, status=status, content_type="application/json")

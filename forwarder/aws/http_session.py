"""The library's HTTP session: its answers are bounded and belong to their requests.

The certificate authorities are read once for all sessions, and redirects are not followed.
"""

import asyncio
import contextlib
import os
import threading
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

import aiohttp
from aiobotocore import utils
from aiobotocore.httpsession import AIOHTTPSession
from aiohttp import (
    ClientConnectionError,
    ClientPayloadError,
    ServerDisconnectedError,
    ServerTimeoutError,
)
from botocore.exceptions import (
    ConnectionClosedError,
    EndpointConnectionError,
    HTTPClientError,
    ReadTimeoutError,
)

from forwarder.aws import local_settings
from forwarder.aws.connector import Connector
from forwarder.aws.http_connection import (
    MAX_ANSWER_HEADERS,
    MAX_HEAD_LINE_BYTES,
    GuardedRequest,
    GuardedResponse,
    HeldAnswer,
)

_HEAD = (
    b"POST %b HTTP/1.1\r\n%bAccept-Encoding: identity\r\nAccept: */*\r\nContent-Length: %d\r\n\r\n"
)
"""A request's head as the library writes it, with the request target and what was signed."""
_CONTEXTS: dict[object, Any] = {}
_BUILDING = threading.Lock()


class _NoRedirects(NamedTuple):
    """Session wrapper that follows no redirect.

    No AWS service redirects a put. A redirect would hand records and session tokens to others, and
    its answer taken for the service's.
    """

    session: Any

    def request(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401  # the library's own
        return self.session.request(*arguments, allow_redirects=False, **options)


class _NoProxyNetworks:
    """The library's choice of proxies, and besides networks (CIDR) in NO_PROXY, which it ignores.

    As elsewhere they hold for addresses that are given as such, not for names.
    """

    def __init__(self, chosen: Any) -> None:  # noqa: ANN401  # the library's own
        self._chosen = chosen
        named = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
        self._networks = [found for word in named.split(",") if (found := _network(word.strip()))]

    def proxy_url_for(self, url: str) -> str | None:
        """Return the proxy for a URL, if there is one."""
        if self._networks and _is_within(urlsplit(url).hostname or "", self._networks):
            return None
        return cast("str | None", self._chosen.proxy_url_for(url))

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # the library's own
        return getattr(self._chosen, name)


def _network(word: str) -> IPv4Network | IPv6Network | None:
    with contextlib.suppress(ValueError):
        return ip_network(word, strict=False) if "/" in word else None
    return None


def _is_within(host: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    with contextlib.suppress(ValueError):
        address = ip_address(host)
        return any(address in network for network in networks)
    return False


class SharedTlsSession(AIOHTTPSession):  # type: ignore[misc]  # the library ships no types
    """Shares its TLS contexts with every session that verifies alike.

    Each would read 140 authorities: 15 to 30 ms of CPU and 0.7 MiB. A bundle that changes is read
    by the next process.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401  # as above
        super().__init__(*arguments, **options)
        self._proxy_config: Any = _NoProxyNetworks(self._proxy_config)

    async def exchange(self, url: str, fields: bytes, body: bytes) -> HeldAnswer | None:
        """Send a POST over a kept connection and read its answer; raises what ``send`` does.

        None if there is no such connection, or a proxy is between: it is for ``send`` then.
        ``url``: the only one that this session calls. ``fields``: the lines of the head, each with
        its end (``sigv4.SignedRequest.fields``).
        """
        session = (self._sessions or {}).get(None)
        if session is None:
            if self._proxy_config.proxy_url_for(url) is not None:
                return None
            # Before one is counted that is being opened: all who come first wait for this.
            session = (await self._get_session(None)).session
        connection, target = await session.connector.take_kept()
        if connection is None:
            return None
        held = HeldAnswer(connection)
        try:
            try:
                await held.ask(_HEAD % (target, fields, len(body)), body, self._timeout.sock_read)
            except Exception as error:
                raise _as_the_library(error, url) from error
            await held.read()
        except BaseException:
            held.abort()
            raise
        return held

    async def _get_session(self, proxy_url: str | None) -> _NoRedirects:
        if proxy_url not in self._sessions:
            async with self._sessions_lock:
                if proxy_url not in self._sessions:
                    self._sessions[proxy_url] = await self._exit_stack.enter_async_context(
                        await self._open(proxy_url)
                    )
        return _NoRedirects(self._sessions[proxy_url])

    async def _open(self, proxy_url: str | None) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=await self._create_connector(proxy_url),
            timeout=self._timeout,
            skip_auto_headers={"CONTENT-TYPE"},
            # What is small on the wire may be large once it is unpacked; AWS packs nothing here.
            auto_decompress=False,
            request_class=GuardedRequest,
            response_class=GuardedResponse,
            max_line_size=MAX_HEAD_LINE_BYTES,
            max_field_size=MAX_HEAD_LINE_BYTES,
            max_headers=MAX_ANSWER_HEADERS,
        )

    async def _create_connector(self, proxy_url: str | None) -> Connector:
        loaded = bool(self._verify or self._cert_file or proxy_url)
        contexts = (
            await asyncio.to_thread(self._build_ssl_contexts, proxy_url)
            if loaded
            else self._build_ssl_contexts(proxy_url)
        )
        return Connector(
            limit=self._max_pool_connections,
            ssl=contexts[0],
            proxy_ssl_context=contexts[1],
            **self._connector_args,
        )

    def _build_ssl_contexts(self, proxy_url: str | None) -> Any:  # noqa: ANN401  # as above
        alike = (
            self._verify,
            self._cert_file,
            self._key_file,
            proxy_url,
            repr(self._proxy_config.settings),
        )
        local_settings.check_sizes()
        if isinstance(self._verify, str):
            # Named by a profile, maybe.
            local_settings.check_file("ca_bundle", self._verify, local_settings.MAX_BUNDLE_BYTES)
        # The library calls this in a thread.
        with _BUILDING:
            if alike not in _CONTEXTS:
                _CONTEXTS[alike] = super()._build_ssl_contexts(proxy_url)
            return _CONTEXTS[alike]


def _as_the_library(error: Exception, target: str) -> Exception:
    """Return an error of a request as the library's own ``send`` raises it."""
    kind: Any = HTTPClientError
    if isinstance(error, ServerDisconnectedError | ClientPayloadError):
        kind = ConnectionClosedError
    elif isinstance(error, ServerTimeoutError | TimeoutError):
        kind = ReadTimeoutError
    elif isinstance(error, ClientConnectionError):
        kind = EndpointConnectionError
    return cast("Exception", kind(error=error, endpoint_url=target))


class _MetadataSession(utils._RefCountedSessionMixin, SharedTlsSession):  # type: ignore[misc]  # noqa: SLF001
    """The session of the library's readers of instance and container metadata."""


def bound_metadata() -> None:
    """Let the default chain read metadata by such sessions, too; it makes its own otherwise."""
    for fetcher in (utils.AioIMDSFetcher, utils.AioContainerMetadataFetcher):
        fetcher._ref_counted_session_cls = _MetadataSession  # noqa: SLF001  # no public way in

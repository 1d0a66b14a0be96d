"""Where a request ends and what an answer begins with, as bytes have it (RFC 9112)."""

from collections.abc import Mapping
from http import HTTPStatus
from wsgiref.handlers import format_date_time

from aiohttp.http import HttpVersion10, HttpVersion11, RawRequestMessage

from forwarder.gateway.contract import ApiReply


def framing_fault(message: RawRequestMessage) -> str | None:
    """Return what is wrong with how a request is framed, beyond what the parser itself refuses.

    RFC 9112, 6.1: chunks are the only transfer coding that is read here, and of HTTP/1.1 only.
    """
    if message.version not in (HttpVersion10, HttpVersion11):
        return "only HTTP/1.1 and HTTP/1.0 are spoken here"
    coding = message.headers.get("Transfer-Encoding")
    if coding is not None and (coding.lower() != "chunked" or message.version == HttpVersion10):
        return "of transfer codings only chunked is read, in HTTP/1.1"
    if message.upgrade or message.method == "CONNECT":
        return "there is nothing to upgrade to, and nowhere to connect to"
    if not message.path.startswith("/") or "#" in message.path:
        return "the request's target has to be a path"
    expected = message.headers.get("Expect")
    if expected is not None and expected.lower() != "100-continue":
        return "of expectations only 100-continue is met"
    return None


_PHRASES: Mapping[int, str] = {status.value: status.phrase for status in HTTPStatus}
_date: tuple[int, str] = (0, "")


def answer_head(reply: ApiReply, now_ms: int, fate: str) -> bytes:
    """Return the head of an answer as bytes.

    ``now_ms``: the wall clock, which clients set theirs by. ``fate``: what becomes of the
    connection, where that is not what its version of HTTP takes for granted.
    """
    status = reply.status
    lines = [
        f"HTTP/1.1 {status} {_PHRASES.get(status, '')}",
        f"Date: {_http_date(now_ms // 1000)}",
        *(f"{name}: {value}" for name, value in reply.headers.items()),
    ]
    if reply.body:
        lines.append("Content-Type: application/json")
    if status != HTTPStatus.NO_CONTENT:
        lines.append(f"Content-Length: {len(reply.body)}")
    if fate:
        lines.append(f"Connection: {fate}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1", errors="replace")


def _http_date(second: int) -> str:
    """Return a time as RFC 9110 has it; it is made once a second."""
    global _date  # noqa: PLW0603  # a cache of one
    if _date[0] != second:
        _date = (second, format_date_time(second))
    return _date[1]

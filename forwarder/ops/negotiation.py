"""What a scrape may be given: the format and the coding it asks for (RFC 9110, section 12)."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

OPENMETRICS = "application/openmetrics-text"
TEXT = ("text/plain", "text/*", "*/*")
"""What the text format is, the narrowest first: that one counts (RFC 9110, 12.5.1)."""


class ScrapeFormat(NamedTuple):
    """How the metrics are written."""

    openmetrics: bool
    gzip: bool


class _Accepted(NamedTuple):
    value: str
    parameters: Mapping[str, str]
    quality: float


def negotiate(header: Mapping[str, str]) -> ScrapeFormat:
    """Return what fits a request's header best; without any wish the text format as it is."""
    return ScrapeFormat(
        _openmetrics(header.get("accept", "")), _gzip(header.get("accept-encoding", ""))
    )


def _openmetrics(accept: str) -> bool:
    """Tell whether OpenMetrics 1.0 was named, and text is not liked better: browsers take all."""
    wanted, texts = 0.0, dict[str, float]()
    for one in _accepted(accept):
        version = one.parameters.get("version", "")
        if one.value == OPENMETRICS and version in {"", "1.0.0"}:
            wanted = max(wanted, one.quality)
        elif one.value in TEXT:
            texts[one.value] = max(texts.get(one.value, 0.0), one.quality)
    text = next((texts[kind] for kind in TEXT if kind in texts), 0.0)
    return wanted > 0 and wanted >= text


def _gzip(accept_encoding: str) -> bool:
    qualities = {one.value: one.quality for one in _accepted(accept_encoding)}
    quality = qualities.get("gzip", qualities.get("x-gzip", qualities.get("*", 0.0)))
    return quality > 0 and quality >= qualities.get("identity", 0.0)


def _accepted(header: str) -> Iterator[_Accepted]:
    """Yield the entries of a list, in lower case; one whose quality is no number is left out."""
    for entry in header.lower().split(","):
        value, *rest = (part.strip() for part in entry.split(";"))
        parameters = {
            name.strip(): text.strip().strip('"')
            for name, _, text in (part.partition("=") for part in rest)
        }
        try:
            quality = float(parameters.get("q", "1"))
        except ValueError:
            continue
        if value and 0 <= quality <= 1:
            yield _Accepted(value, parameters, quality)

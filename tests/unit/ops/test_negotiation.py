"""Which form of the metrics a scrape gets, by what it says that it accepts."""

import pytest

from forwarder.ops import negotiation
from forwarder.ops.negotiation import ScrapeFormat

PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
"""What Prometheus 3 sends."""


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        ("", False),
        ("*/*", False),
        ("text/html,application/xhtml+xml,*/*;q=0.8", False),
        (PROMETHEUS, True),
        ("application/openmetrics-text", True),
        ("Application/OpenMetrics-Text; Version=1.0.0; charset=utf-8", True),
        ('application/openmetrics-text; version="1.0.0"', True),
        ("application/openmetrics-text;version=0.0.1,text/plain;version=0.0.4;q=0.5", False),
        ("application/openmetrics-text;version=9.0.0", False),
        ("text/plain;version=0.0.4,application/openmetrics-text;q=0.5", False),
        ("text/plain;q=0.5,application/openmetrics-text;q=0.9", True),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=0.1, */*;q=0.9", False),
        ("application/openmetrics-text;q=0.1, text/*;q=0.9", False),
        ("application/openmetrics-text;q=0.5, text/*;q=0.4, */*;q=0.9", True),
        ("*/*;q=0.9, text/plain;q=0.1, application/openmetrics-text;q=0.5", True),
        ("application/openmetrics-text, */*", True),
        ("application/*, text/plain;q=0.1", False),
        ("application/openmetrics-text;q=high", False),
        ("application/openmetrics-text;q=7", False),
        (";;,,q=,", False),
    ],
)
def test_openmetrics_is_given_to_who_names_it_and_likes_it_best(
    accept: str, *, openmetrics: bool
) -> None:
    assert ScrapeFormat(openmetrics, gzip=False) == negotiation.negotiate({"accept": accept})


@pytest.mark.parametrize(
    ("accept_encoding", "gzip"),
    [
        ("", False),
        ("gzip", True),
        ("x-gzip", True),
        ("deflate, gzip;q=1.0, *;q=0.5", True),
        ("GZIP", True),
        ("*", True),
        ("identity", False),
        ("gzip;q=0", False),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("gzip;q=0.5, identity;q=0.8", False),
        ("br, deflate", False),
        ("gzip;q=nan", False),
    ],
)
def test_gzip_is_given_to_who_accepts_it(accept_encoding: str, *, gzip: bool) -> None:
    assert ScrapeFormat(openmetrics=False, gzip=gzip) == negotiation.negotiate(
        {"accept-encoding": accept_encoding}
    )

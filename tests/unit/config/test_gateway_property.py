"""Whatever is done to a gateway's section: faults with lines, no secret, no worker stopped."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.config.gateway_loader import load_gateway
from forwarder.config.loader import load_configuration, load_everything
from forwarder.errors import ConfigurationError

WORKER = """\
kafka:
  bootstrap_servers: [localhost:9092]
  topics: [raw-events, {name: pinpoint-events, format: pinpoint}]
"""
GATEWAY = """\
gateway:
  listen:
    host: 127.0.0.1
    port: 8080
    tls: {cert_file: null, key_file: null}
  limits:
    request_bytes: 4MiB
    body_timeout: 15s
    attributes: 40
  pinpoint:
    topic: pinpoint-events
    account_id: "111122223333"
    apps:
      - id: shop
        auth: sigv4
        keys:
          - access_key_id: AKIAIOSFODNN7EXAMPLE
            secret_access_key: 5ec7e7cedd3f9962d9b53ac7ceaf2d32
          - access_key_id: AKIAIOSFODNN7EXAMPL2
            secret_access_key: "${SHOP_SECRET}"
      - id: site
        auth: api_key
        api_keys:
          - 5ec7e73696d818631c2eb254eb5f15f5
        origins:
          - https://shop.example
    substitute_hosts: [pinpoint.us-east-1.amazonaws.com]
    endpoints:
      store: postgres
      dsn: postgresql://gateway:5ec7e726520fec1bf4a5ddc5359c7cd7@db.example/endpoints
  mparticle:
    topic: raw-events
    inputs:
      - api_key: us1-abc
        api_secret: 5ec7e757b556dbb03665173cc5d002d6
        environment: production
"""
LINES = GATEWAY.splitlines()
ENVIRON = {"SHOP_SECRET": "5ec7e7371e0b549a7d0425240dc03c14"}
SECRETS = ("5ec7e7",)
ODD = [
    "",
    "[1, 2]",
    "{odd: 1}",
    "!odd 1",
    '"\\u2028"',
    "1.5e+9",
    "~",
    '""',
    "-",
    "${NOPE}",
    "0",
    "on",
]
Load = Callable[..., object]


def written(text: str) -> "TemporaryDirectory[str]":
    folder = TemporaryDirectory()
    (Path(folder.name) / "connections").mkdir()
    sink = "sink: {type: file, path: out}\n"
    (Path(folder.name) / "connections" / "a.yaml").write_text(f"name: a\n{sink}")
    (Path(folder.name) / "forwarder.yaml").write_text(text)
    return folder


def faults(load: Load, text: str, environ: dict[str, str]) -> list[str]:
    """Return the faults of a load, which are all that it may end in."""
    with written(text) as folder:
        try:
            load(Path(folder) / "forwarder.yaml", environ=environ)
        except ConfigurationError as error:
            found = [fault.removeprefix(f"{folder}/") for fault in error.faults]
            assert not [f for f in found if any(one in f for one in SECRETS)]
            return found
    return []


def changed(number: int, value: str) -> str:
    """Return the gateway's section with another value in one line."""
    lines = list(LINES)
    name, colon, _ = lines[number].partition(": ")
    lines[number] = f"{name}{colon or ': '}{value}" if name.strip() else value
    return WORKER + "\n".join(lines) + "\n"


@pytest.mark.parametrize("load", [load_gateway, load_everything])
def test_the_section_of_these_tests_has_no_fault(load: Load) -> None:
    assert [] == faults(load, WORKER + GATEWAY, ENVIRON)


@settings(deadline=None)
@given(st.sampled_from(range(1, len(LINES))), st.one_of(st.sampled_from(ODD), st.text(max_size=20)))
def test_any_change_ends_in_faults_at_lines_and_check_finds_the_same(
    number: int, value: str
) -> None:
    text = changed(number, value)
    found = faults(load_gateway, text, ENVIRON)
    assert found == faults(load_everything, text, ENVIRON)
    for fault in found:
        file, line, rest = fault.split(":", 2)
        assert ("forwarder.yaml", True, True) == (file, int(line) >= 1, rest.startswith(" "))


@settings(deadline=None)
@given(st.sampled_from(range(1, len(LINES))), st.sampled_from(ODD))
def test_no_change_of_it_stops_a_worker_but_what_is_no_yaml(number: int, value: str) -> None:
    found = faults(load_configuration, changed(number, value), {})
    assert not [fault for fault in found if ": (syntax): " not in fault]


@settings(deadline=None)
@given(st.sampled_from(range(1, len(LINES))))
def test_a_line_that_is_left_out_ends_in_faults_or_none(number: int) -> None:
    text = WORKER + "\n".join(LINES[:number] + LINES[number + 1 :]) + "\n"
    for load in (load_gateway, load_everything, load_configuration):
        faults(load, text, ENVIRON)

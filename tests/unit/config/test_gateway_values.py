import os
from pathlib import Path

import pytest

from forwarder.cli import main
from forwarder.config.credentials import AssumedRole, DefaultCredentials
from forwarder.config.gateway import (
    App,
    AppAuth,
    CallerKey,
    EndpointStoreSettings,
    EventsApi,
    EventsApiInput,
    GatewayLimits,
    ListenSettings,
    PinpointApi,
    StoreKind,
)
from forwarder.config.gateway_fields import LIMITS
from forwarder.config.gateway_loader import LoadedGateway, load_gateway
from forwarder.config.loader import load_configuration, load_everything
from forwarder.config.settings import LogSettings, ServerSettings
from forwarder.errors import ConfigurationError
from tests.configurations import ROOT, SMALL, Folder

SECRETS = {
    "PINPOINT_SECRET": "wJalrXUtnFEMI/K7MDENG+bPxRfiCY",
    "PINPOINT_API_KEY": "5d1f9c77a0b34e6c8d2e",
    "MP_SECRET": "hQ3v9ZkT1sLw8yPcRb2n",
}
EXAMPLE = ROOT / "config" / "examples" / "gateway.yaml"
GATEWAY_TEXT = EXAMPLE.read_text()
TOPICS = "  topics: [raw-events, {name: pinpoint-events, format: pinpoint}]"
BESIDE_A_WORKER = GATEWAY_TEXT.replace("[localhost:9092]", f"[localhost:9092]\n{TOPICS}")
SERVER_APP, SHOP_APP = "810c7aab86d42fb2b56c8c966a1b2c3d", "1f4e9d20c7b84a53a6e2d1c09b8f7e6d"


def loaded(folder: Folder, text: str = GATEWAY_TEXT) -> LoadedGateway:
    folder.write(text)
    return load_gateway("forwarder.yaml", environ=SECRETS)


def test_the_example_is_what_a_gateway_is_told(folder: Folder) -> None:
    found = loaded(folder).configuration
    assert ListenSettings() == found.gateway.listen
    assert GatewayLimits() == found.gateway.limits
    key = CallerKey("AKIAIOSFODNN7EXAMPLE", SECRETS["PINPOINT_SECRET"])
    shop = ("https://shop.example",)
    assert found.gateway.pinpoint == PinpointApi(
        topic="pinpoint-events",
        apps=(
            App(SERVER_APP, AppAuth.SIGV4, keys=(key,)),
            App(SHOP_APP, AppAuth.API_KEY, api_keys=(SECRETS["PINPOINT_API_KEY"],), origins=shop),
        ),
        account_id="111122223333",
        substitute_hosts=("pinpoint.us-east-1.amazonaws.com",),
        endpoints=EndpointStoreSettings(StoreKind.SQLITE, str(folder.path / "endpoints.db")),
    )
    an_input = EventsApiInput("us1-abc", SECRETS["MP_SECRET"], "production")
    assert EventsApi("raw-events", (an_input,)) == found.gateway.mparticle
    assert ("localhost:9092",) == found.kafka.bootstrap_servers
    assert (ServerSettings(port=9465), 25_000, LogSettings()) == (
        found.server, found.drain_timeout_ms, found.log
    )  # fmt: skip


def test_the_least_gateway_has_the_defaults(folder: Folder) -> None:
    text = """\
kafka: {bootstrap_servers: [a:1], security: {protocol: SSL}}
gateway:
  mparticle:
    topic: t
    inputs: [{api_key: us1-a, api_secret: "${MP_SECRET}", environment: development}]
"""
    found = loaded(folder, text).configuration
    assert (None, ListenSettings(), GatewayLimits()) == (
        found.gateway.pinpoint, found.gateway.listen, found.gateway.limits
    )  # fmt: skip
    assert ("SSL", "development") == (
        found.kafka.security.protocol,
        found.gateway.mparticle and found.gateway.mparticle.inputs[0].environment,
    )


def test_every_limit_can_be_set(folder: Folder) -> None:
    names = {field.name for field in LIMITS.fields}
    written = dict.fromkeys(names, "7")
    written |= {name: "2KiB" for name in names if name.endswith("_bytes")}
    written |= {name: "3s" for name in names if name.endswith("_timeout")}
    written |= {"buffered_bytes": "64KiB"}
    limits = ", ".join(f"{name}: {value}" for name, value in written.items())
    text = GATEWAY_TEXT.splitlines(keepends=True)
    [at] = [i for i, line in enumerate(text) if line.startswith("  limits:")]
    text[at] = f"  limits: {{{limits}}}\n"
    found = loaded(folder, "".join(text)).configuration.gateway.limits
    assert found == GatewayLimits(
        request_bytes=2048, concurrent_requests=7, header_timeout_ms=3_000, body_timeout_ms=3_000,
        buffered_bytes=65_536, events=7, event_bytes=2048, attribute_key=7, attribute_value=7,
        attributes=7, metrics=7, endpoint_bytes=2048, endpoint_attributes=7, attribute_values=7,
    )  # fmt: skip


def test_postgres_is_reached_by_its_dsn(folder: Folder) -> None:
    text = GATEWAY_TEXT.replace(
        "{store: sqlite, path: endpoints.db}", '{store: postgres, dsn: "${DSN}"}'
    )
    folder.write(text)
    dsn = "postgresql://gateway:p%40ss-word@db.example:5432,db2.example/endpoints?sslmode=require"
    found = load_gateway("forwarder.yaml", environ=SECRETS | {"DSN": dsn})
    api = found.configuration.gateway.pinpoint
    assert api is not None
    assert (StoreKind.POSTGRES, dsn) == (api.endpoints.store, api.endpoints.dsn)
    assert {dsn, "p%40ss-word", "p@ss-word"} <= found.secrets
    assert dsn not in repr(found)


def test_no_log_line_may_show_a_secret_of_the_gateway(folder: Folder) -> None:
    found = loaded(folder)
    assert {*SECRETS.values(), "AKIAIOSFODNN7EXAMPLE", "us1-abc"} <= found.secrets
    assert not [secret for secret in SECRETS.values() if secret in repr(found)]
    everything = load_everything("forwarder.yaml", environ=SECRETS)
    assert found.secrets <= everything.secrets


def test_a_gateway_needs_nothing_of_the_workers(folder: Folder) -> None:
    text = BESIDE_A_WORKER.replace(
        "  topics:",
        '  group_id: "${GROUP}"\n  group_instance_id: "${HOSTNAME}"\n'
        '  session_timeout: "${QUIET}"\n  topics:',
    )
    found = loaded(
        folder, f'{text}journal: {{tick: "${{TICK}}"}}\nlimits: {{in_flight: nothing}}\n'
    )
    assert ((), "forwarder") == (
        found.configuration.kafka.topics,
        found.configuration.kafka.group_id,
    )
    assert ["limits.in_flight"] == [note.key for note in found.noted]


def test_a_worker_needs_nothing_of_the_gateways(folder: Folder) -> None:
    folder.write(BESIDE_A_WORKER.replace("port: 8080", 'port: "${PORT}"'))
    found = load_configuration("forwarder.yaml", environ={})
    assert (None, (), 2) == (found.gateway, found.noted, len(found.configuration.kafka.topics))
    assert set() == set(found.secrets)


def test_what_is_wrong_with_a_gateway_stops_no_worker_but_is_noted(folder: Folder) -> None:
    folder.write(BESIDE_A_WORKER.replace("auth: sigv4", "auth: sigv5").replace("111122223333", "1"))
    found = load_configuration("forwarder.yaml", environ={})
    assert ["gateway.pinpoint.account_id", "gateway.pinpoint.apps[0].auth"] == [
        note.key for note in found.noted
    ]
    with pytest.raises(ConfigurationError, match=r"gateway\.pinpoint\.apps\[0\]\.auth"):
        load_everything("forwarder.yaml", environ=SECRETS)


def test_check_judges_all_of_it(folder: Folder) -> None:
    folder.write(BESIDE_A_WORKER)
    with pytest.raises(ConfigurationError) as caught:
        load_everything("forwarder.yaml", environ={})
    assert 3 == len(caught.value.faults)
    found = load_everything("forwarder.yaml", environ=SECRETS)
    assert found.gateway is not None
    assert 1 == len(found.configuration.connections)


def test_a_file_for_gateways_alone_needs_neither_topics_nor_connections(tmp_path: Path) -> None:
    (tmp_path / "forwarder.yaml").write_text(GATEWAY_TEXT)
    found = load_everything(tmp_path / "forwarder.yaml", environ=SECRETS)
    assert ((), ()) == (found.configuration.kafka.topics, found.configuration.connections)
    with pytest.raises(ConfigurationError, match=r"kafka\.topics: is missing; add it"):
        load_configuration(tmp_path / "forwarder.yaml", environ=SECRETS)


def test_a_file_without_a_gateway_is_none_of_a_gateways(folder: Folder) -> None:
    with pytest.raises(ConfigurationError, match=r"forwarder\.yaml:1: gateway: is missing; add it"):
        loaded(folder, "kafka: {bootstrap_servers: [a:1], topics: [t]}\n")


STREAM = (
    "name: shop\nmatch: {topic: [pinpoint-events], application: [a1b2c3]}\n"
    "sink: {type: kinesis, stream_name: shop, region: us-east-1, format: pinpoint}\n"
)


def test_connections_are_told_to_a_gateway_without_their_secrets(folder: Folder) -> None:
    keys = 'credentials: {access_key_id: "${ACME_ID}", secret_access_key: "${ACME_SECRET}"}\n'
    file = folder.connect(SMALL + keys)
    role = "arn:aws:iam::111122223333:role/pinpoint"
    folder.connect(f"{STREAM}credentials: {{role_arn: {role}, external_id: '${{ID}}'}}\n", "shop")
    os.utime(file, (1_700_000_000, 1_700_000_000))
    found = loaded(folder)
    acme, shop = found.configuration.connections
    assert DefaultCredentials() == acme.credentials
    assert AssumedRole(role, None) == shop.credentials
    assert frozenset({"a1b2c3"}) == shop.match.application
    assert "pinpoint" == shop.sink.format
    assert 1_700_000_000_000 == found.configuration.modified_ms["acme"]
    assert () == found.noted


def test_a_connection_with_a_fault_is_left_out_and_noted(folder: Folder) -> None:
    folder.connect(STREAM.replace("us-east-1", "us-esat-1"), "shop")
    found = loaded(folder)
    assert ["acme"] == [one.name for one in found.configuration.connections]
    [note] = found.noted
    assert "does not tell of this connection" in note.text
    assert ("connections/shop.yaml", "sink.region") == (note.file, note.key)


def test_a_connection_whose_stream_is_not_known_here_is_left_out(folder: Folder) -> None:
    folder.connect(STREAM.replace("stream_name: shop", 'stream_name: "${STREAM}"'), "shop")
    assert ["acme"] == [one.name for one in loaded(folder).configuration.connections]
    there = load_gateway("forwarder.yaml", environ=SECRETS | {"STREAM": "s"})
    assert ["acme", "shop"] == [one.name for one in there.configuration.connections]


def test_what_a_gateway_serves_is_shown_and_no_secret(
    folder: Folder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    folder.write(BESIDE_A_WORKER)
    assert 0 == main(["check", "forwarder.yaml"])
    printed = capsys.readouterr().out
    assert "  # a gateway listens on 0.0.0.0:8080 (http)\n" in printed
    assert "  # Pinpoint's events API for 2 apps (1 by sigv4, 1 by api_key)\n" in printed
    assert "  # mParticle's Events API for 1 input\n" in printed
    assert "ok: a gateway, 1 connection, no faults\n" in printed
    for section in ("listen", "limits", "endpoints"):
        assert f"{section}:\n" in printed
    assert f'apps: [{{id: "{SERVER_APP}", auth: sigv4, keys: [{{access_key_id: ****' in printed
    assert not [one for one in (*SECRETS.values(), "AKIA", "us1-abc") if one in printed]


@pytest.mark.parametrize(
    ("match", "untaken"),
    [
        ("{}", []),
        (f"{{application: [{SERVER_APP}]}}", ["apps[1]"]),
        (f"{{application: [{SERVER_APP}, {SHOP_APP}]}}", []),
        ("{application: [com.acme.shop]}", []),
        ("{topic: [raw-events]}", ["apps[0]", "apps[1]"]),
        ("{topic: [pinpoint-events]}", []),
    ],
)
def test_an_app_whose_events_no_connection_takes_is_noted(
    folder: Folder, match: str, untaken: list[str]
) -> None:
    folder.connect(f"{SMALL}match: {match}\n")
    folder.write(BESIDE_A_WORKER)
    noted = load_everything("forwarder.yaml", environ=SECRETS).noted
    found = [note.key for note in noted if "whose events no connection takes" in note.text]
    assert [f"gateway.pinpoint.{app}.id" for app in untaken] == found

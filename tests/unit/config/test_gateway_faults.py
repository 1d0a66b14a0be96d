"""Every fault of ``gateway`` has its line, its key and its remedy, and shows no secret."""

import pytest

from forwarder.cli import main
from forwarder.config.gateway_loader import load_gateway
from forwarder.config.loader import load_everything
from forwarder.errors import ConfigurationError
from tests.configurations import ROOT, Folder

TLS = ROOT / "tests" / "data" / "tls"
KEYED = "keys: [{access_key_id: AKIAIOSFODNN7EXAMPLE, secret_access_key: aB3dE5fG7hI9jK1lM3}]"
API_KEYED = "api_keys: [aB3dE5fG7hI9jK1lM3]"
SIGNED = f"{{id: signed, auth: sigv4, {KEYED}}}"
APP = f"{{id: shop, auth: api_key, {API_KEYED}}}"
WORKER = """\
kafka:
  bootstrap_servers: [localhost:9092]
  topics: [raw-events, {name: pinpoint-events, format: pinpoint}]
"""


def gateway(
    *, apps: str = APP, pinpoint: str = "", listen: str = "{}", limits: str = "{}", inputs: str = ""
) -> str:
    """Return forwarder.yaml with a gateway; line 8 is that of ``apps``."""
    inputs = inputs or "{api_key: us1-abc, api_secret: aB3dE5fG7hI9jK1lM3}"
    return f"""\
{WORKER}gateway:
  listen: {listen}
  limits: {limits}
  pinpoint:
    apps: [{apps}]
    topic: pinpoint-events
    account_id: "111122223333"
    {pinpoint}
  mparticle:
    topic: raw-events
    inputs: [{inputs}]
"""


def faults() -> list[str]:
    """Return what a gateway refuses; ``check`` finds the same."""
    found: list[list[str]] = [[], []]
    for index, load in enumerate((load_gateway, load_everything)):
        try:
            load("forwarder.yaml", environ={})  # type: ignore[operator]  # two functions of one shape
        except ConfigurationError as error:
            found[index] = error.faults
    assert found[0] == found[1]
    return found[0]


def test_the_gateway_of_these_tests_has_none(folder: Folder) -> None:
    folder.write(gateway())
    assert [] == faults()


FAULTS = [
    # apps
    (
        gateway(apps=f"{APP}, {APP}"),
        8, "apps[1].id", "is the id of another app already (line 8); delete",
    ),
    (gateway(apps="{id: a/b, auth: none}"), 8, "apps[0].id", "must be an app id"),
    (gateway(apps="{id: 'a b', auth: none}"), 8, "apps[0].id", "must be an app id"),
    (gateway(apps="{auth: none}"), 8, "apps[0].id", "is missing; add it"),
    (gateway(apps="{id: a}"), 8, "apps[0].auth", "is missing; add it"),
    (gateway(apps="{id: a, auth: sigv3}"), 8, "apps[0].auth", "(did you mean sigv4?)"),
    (gateway(apps=""), 8, "apps", "is an empty list; name at least 1"),
    (gateway(apps="{id: a, auth: sigv4}"), 8, "apps[0].keys", "is missing: auth sigv4 needs keys"),
    (gateway(apps="{id: a, auth: sigv4, keys: []}"), 8, "apps[0].keys", "is an empty list: nobody"),
    (gateway(apps="{id: a, auth: api_key}"), 8, "apps[0].api_keys", "auth api_key needs api_keys"),
    (
        gateway(apps=f"{{id: a, auth: sigv4, {KEYED}, {API_KEYED}}}"),
        8, "apps[0].api_keys", "is not used: auth is sigv4; delete it",
    ),
    (
        gateway(apps=f"{{id: a, auth: api_key, {KEYED}, {API_KEYED}}}"),
        8, "apps[0].keys", "is not used: auth is api_key; delete it",
    ),
    (
        gateway(apps=f"{{id: a, auth: none, {KEYED}}}"),
        8, "apps[0].keys", "is not used: auth is none; set auth sigv4, or delete it",
    ),
    (
        gateway(apps=f"{{id: a, auth: none, {API_KEYED}}}"),
        8, "apps[0].api_keys", "is not used: auth is none; set auth api_key, or delete it",
    ),
    (
        gateway(apps="{id: a, auth: sigv4, keys: [{access_key_id: AKIAIOSFODNN7EXAMPLE}]}"),
        8, "apps[0].keys[0].secret_access_key", "is missing; add it",
    ),
    (
        gateway(apps=f"{{id: a, auth: sigv4, keys: [{KEYED[7:-1]}, {KEYED[7:-1]}]}}"),
        8, "apps[0].keys[1].access_key_id", "is the id of another key of this app (line 8)",
    ),
    (
        gateway(apps=f"{SIGNED}, {SIGNED.replace('signed', 'b').replace('M3', 'M4')}"),
        8, "apps[1].keys[0].access_key_id", "with another secret; an id has one, correct one",
    ),
    (
        gateway(apps="{id: a, auth: sigv4, keys: [{access_key_id: A-B, secret_access_key: x}]}"),
        8, "apps[0].keys[0].access_key_id", "must be an access key id",
    ),
    # secrets
    (
        gateway(apps="{id: a, auth: api_key, api_keys: [aB3dE5f]}"),
        8, "apps[0].api_keys[0]", "shorter than 16",
    ),
    (
        gateway(apps="{id: a, auth: api_key, api_keys: [YOUR-API-KEY-of-the-app]}"),
        8, "apps[0].api_keys[0]", "is a placeholder; give the secret itself",
    ),
    (
        gateway(apps="{id: a, auth: api_key, api_keys: ['<the key of the app>']}"),
        8, "apps[0].api_keys[0]", "holds white space; copy it again",
    ),
    (
        gateway(apps="{id: a, auth: api_key, api_keys: [xxxxxxxxxxxxxxxxxxxxxx]}"),
        8, "apps[0].api_keys[0]", "repeats few characters",
    ),
    (
        gateway(inputs="{api_key: us1-a, api_secret: short}"),
        14, "inputs[0].api_secret", "shorter than 16",
    ),
    (
        gateway(inputs="{api_key: us1-a, api_secret: changeme-changeme}"),
        14, "inputs[0].api_secret", "is a placeholder",
    ),
    (gateway(inputs="{api_key: us1-a}"), 14, "inputs[0].api_secret", "is missing; add it"),
    (
        gateway(inputs=", ".join(["{api_key: us1-a, api_secret: aB3dE5fG7hI9jK1lM3}"] * 2)),
        14, "inputs[1].api_key", "is the key of another input already (line 14); delete one",
    ),
    (
        gateway(inputs="{api_key: us1-a, api_secret: aB3dE5fG7hI9jK1lM3, environment: staging}"),
        14, "inputs[0].environment", "must be production or development",
    ),
    # origins
    *(
        (
            gateway(apps=APP.replace("}", f", origins: [{origin}]}}")),
            8, "apps[0].origins[0]", what,
        )
        for origin, what in (
            ("https://shop.example/", "cut the path, and a slash at its end"),
            ("https://shop.example/cart", "cut the path"),
            ("shop.example", "must begin with its scheme"),
            ("https://Shop.example", "write it in lower case"),
            ("https://shop.example:443", "names the port that its scheme has anyway"),
            ('"https://*.shop.example"', 'holds a *, is "https://*.shop.example"; name every'),
            ('"null"', "cannot be null"),
        )
    ),
    # the API
    (
        gateway().replace('"111122223333"', "111122223333"),
        10, "account_id", "must be an AWS account id",
    ),
    (gateway().replace("111122223333", "1111"), 10, "account_id", "twelve digits in quotes"),
    (
        gateway().replace("    account_id", "    acount_id"),
        10, "acount_id", "(did you mean account_id?)",
    ),
    (
        gateway(pinpoint="substitute_hosts: ['https://pinpoint.us-east-1.amazonaws.com']"),
        11, "substitute_hosts[0]", "must be a host alone",
    ),
    (
        gateway(pinpoint="substitute_hosts: [a_b]"),
        11, "substitute_hosts[0]", "must be a host such as",
    ),
    (gateway(pinpoint="substitute_hosts: [A.example]"), 11, "substitute_hosts[0]", "in lower case"),
    # topics
    (gateway().replace("topic: raw-events", "topic: a b"), 13, "topic", "must be 1 to 249"),
    (
        gateway().replace("    topic: raw-events", "    topic: pinpoint-events"),
        13, "topic", "is the topic of gateway.pinpoint, too",
    ),
    (
        gateway().replace("topic: raw-events", "topic: t").replace("topic: pinpoint", "topic: raw"),
        9, "topic", "is read with format mparticle (line 3); set format: pinpoint there",
    ),
    (
        gateway().replace("topic: raw-events", "topic: forwarder-dead-letters"),
        13, "topic", "is kafka.dead_letter_topic, too; choose another",
    ),
    (
        gateway().replace("topic: raw-events", "topic: forwarder.outbox.raw-events"),
        13, "topic", "has a name of the journal's topics; choose another",
    ),
    # listen
    (gateway(listen="{port: 9464}"), 5, "listen.port", "is server.port, too (9464)"),
    (gateway(listen="{host: 127.0.0.1, port: 9464}"), 5, "listen.port", "is server.port, too"),
    (gateway(listen="{port: 65536}"), 5, "listen.port", "must be a whole number from 0 to 65535"),
    (
        gateway(listen=f"{{tls: {{cert_file: {TLS}/cert.pem}}}}"),
        5, "listen.tls.key_file", "is missing; it belongs to cert_file, give both or neither",
    ),
    (
        gateway(listen=f"{{tls: {{key_file: {TLS}/key.pem}}}}"),
        5, "listen.tls.cert_file", "is missing; it belongs to key_file",
    ),
    (
        gateway(listen=f"{{tls: {{cert_file: {TLS}/gone.pem, key_file: {TLS}/key.pem}}}}"),
        5, "listen.tls.cert_file", "cannot be used (No such file or directory); mount it",
    ),
    (
        gateway(listen=f"{{tls: {{cert_file: {TLS}/cert.pem, key_file: {TLS}/other.pem}}}}"),
        5, "listen.tls.key_file", "does not belong to the certificate in cert_file",
    ),
    (
        gateway(listen=f"{{tls: {{cert_file: {TLS}/README.md, key_file: {TLS}/key.pem}}}}"),
        5, "listen.tls.cert_file", "holds no certificate that can be used",
    ),
    (
        gateway(listen=f"{{tls: {{cert_file: {TLS}/cert.pem, key_file: {TLS}/encrypted.pem}}}}"),
        5, "listen.tls.key_file", "is encrypted; give a key without a passphrase",
    ),
    # limits
    (
        gateway(limits="{request_bytes: 100KiB}"),
        6, "limits.event_bytes",
        "is more than request_bytes (100KiB), so nothing could be that large; lower",
    ),
    (
        gateway(limits="{request_bytes: 8KiB, event_bytes: 8KiB}"),
        6, "limits.endpoint_bytes", "is more than request_bytes (8KiB)",
    ),
    (
        gateway(limits="{buffered_bytes: 1MiB}"),
        6, "limits.request_bytes", "is more than buffered_bytes (1MiB)",
    ),
    (gateway(limits="{events: 0}"), 6, "limits.events", "must be a whole number from 1"),
    (gateway(limits="{body_timeout: 1}"), 6, "limits.body_timeout", "add a unit, such as 1s"),
    (
        gateway(limits="{event: 9}"),
        6, "limits.event", "is no key that is known here (did you mean events?)",
    ),
    # the store
    (
        gateway(pinpoint="endpoints: {path: nowhere/endpoints.db}"),
        11, "endpoints.path", "is in a folder that is not there; make it",
    ),
    (
        gateway(pinpoint="endpoints: {path: connections}"),
        11, "endpoints.path", "is a folder; name a file",
    ),
    (
        gateway(pinpoint="endpoints: {path: forwarder.yaml/e.db}"),
        11, "endpoints.path", "is below a file; correct the path",
    ),
    (
        gateway(pinpoint="endpoints: {store: postgres}"),
        11, "endpoints.dsn", "is missing; store postgres needs",
    ),
    (
        gateway(pinpoint="endpoints: {store: postgres, path: e.db, dsn: 'postgresql://h/d'}"),
        11, "endpoints.path", "is not used: store is postgres; delete it",
    ),
    (
        gateway(pinpoint="endpoints: {dsn: 'postgresql://h/d'}"),
        11, "endpoints.dsn", "is not used: store is sqlite; set store postgres, or delete it",
    ),
    (
        gateway(pinpoint="endpoints: {store: mysql}"),
        11, "endpoints.store", "must be sqlite or postgres",
    ),
    *(
        (
            gateway(pinpoint=f"endpoints: {{store: postgres, dsn: '{dsn}'}}"),
            11, "endpoints.dsn", what,
        )
        for dsn, what in (
            ("mysql://u:Hidden9@h/d", "must begin with postgresql://"),
            ("h:5432/d", "must begin with postgresql://"),
            ("postgresql://u:Hidden9@h", "names no database"),
            ("postgresql://u:Hid#den9@h/d", "holds a #, which ends it"),
            ("postgresql://u:Hid@den9@h/d", "has more than one @ or :"),
            ("postgresql://u:Hid:den9@h/d", "has more than one @ or :"),
            ("postgresql://u:Hidden9@h:port/d", "has a host or port that cannot be one"),
            ("postgresql://u:Hidden9@h:70000/d", "has a port beyond 1 to 65535"),
            ("postgresql://u:Hidden9@h/d?sslmode=yes", "has an sslmode that there is not"),
            ("postgresql://u:Hidden9@h /d", "holds white space"),
            ("postgresql://u:Hi[dden9@h/d", "cannot be read as a URL"),
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "key", "what"), FAULTS)
def test_a_fault_has_its_line_its_key_and_a_remedy(
    folder: Folder, text: str, line: int, key: str, what: str
) -> None:
    folder.write(text)
    found = faults()
    [fault] = [one for one in found if f".{key}: " in one and what in one]
    assert fault.startswith(f"forwarder.yaml:{line}: gateway.")
    assert ";" in fault or "(did you mean" in fault or "must be" in fault
    assert not [one for one in ("Hid", "den9", "aB3dE5f", "changeme") if one in "".join(found)]


def test_a_gateway_without_an_api_serves_nothing(folder: Folder) -> None:
    folder.write(f"{WORKER}gateway: {{listen: {{port: 1}}}}\n")
    [fault] = faults()
    assert "forwarder.yaml:4: gateway: serves no API; add pinpoint or mparticle" == fault


@pytest.mark.parametrize("listen", ["{host: 127.0.0.1, port: 9464}", "{port: 0}"])
def test_two_addresses_may_have_one_port(folder: Folder, listen: str) -> None:
    text = gateway(listen=listen) + "server: {host: 127.0.0.2}\n"
    folder.write(text)
    assert [] == faults()


def test_a_socket_of_the_database_needs_no_host(folder: Folder) -> None:
    dsn = "postgresql:///endpoints?host=/var/run/postgresql"
    text = gateway(pinpoint=f"endpoints: {{store: postgres, dsn: '{dsn}'}}")
    folder.write(text)
    assert [] == faults()


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "https://shop.example",
        "http://localhost:3000",
        "http://[::1]:8080",
        "capacitor://localhost",
    ],
)
def test_what_browsers_send_is_an_origin(folder: Folder, origin: str) -> None:
    folder.write(gateway(apps=APP.replace("}", f", origins: ['{origin}']}}")))
    assert [] == faults()


NOTES = [
    (gateway(apps="{id: dev, auth: none}"), "apps[0].auth", "lets everybody who reaches the port"),
    (
        gateway(apps=f"{APP}, {APP.replace('shop', 'more')}"),
        "apps[1].api_keys", "holds a key of the app in line 8 too, which so opens both",
    ),
    (
        gateway(apps=APP.replace("}", ", origins: ['*', 'https://a.example']}")),
        "apps[0].origins", 'holds "*", which stands for any',
    ),
    (gateway(apps=APP), "apps[0].api_keys[0]", "is written in the file; take it from ${NAME}"),
    (
        gateway(pinpoint="endpoints: {store: postgres, dsn: 'postgresql://u:Hidden9@h/d'}"),
        "endpoints.dsn", "is written in the file",
    ),
    (
        gateway(limits="{body_timeout: 30s}"),
        "limits.body_timeout", "is longer than drain_timeout (25s)",
    ),
    (
        gateway(limits="{header_timeout: 20s}"),
        "limits.header_timeout", "is longer than body_timeout (15s)",
    ),
    (
        gateway().replace("topic: raw-events", "topic: more-events"),
        "mparticle.topic", "is not in kafka.topics, so no worker of this file reads it",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "key", "what"), NOTES)
def test_what_may_not_be_as_meant_is_noted(
    folder: Folder, capsys: pytest.CaptureFixture[str], text: str, key: str, what: str
) -> None:
    folder.write(text)
    noted = load_gateway("forwarder.yaml", environ={}).noted
    assert [what in note.text for note in noted if note.key.endswith(key)] == [True]
    assert 0 == main(["check", "forwarder.yaml"])
    printed = capsys.readouterr().out
    assert what in printed
    assert not [one for one in ("Hidden9", "aB3dE5f") if one in printed]

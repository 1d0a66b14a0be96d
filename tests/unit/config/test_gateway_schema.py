"""An editor that knows the schema of forwarder.yaml says of ``gateway`` what the program says."""

import pytest

from forwarder.config.schema import worker_schema
from tests.configurations import ROOT, SMALL_WORKER
from tests.schemas import complaints_of
from tests.unit.config.test_gateway_faults import API_KEYED, KEYED, gateway

EXAMPLE = (ROOT / "config" / "examples" / "gateway.yaml").read_text()


def complaints(text: str) -> list[str]:
    return complaints_of(worker_schema(), text)


VALID = [
    EXAMPLE,
    gateway(),
    gateway(apps="{id: dev, auth: none}"),
    gateway(apps=f'{{id: "${{APP}}", auth: "${{AUTH}}", {KEYED}, origins: ["*"]}}'),
    gateway(listen='{port: "${PORT}", tls: {cert_file: c.pem, key_file: k.pem}}'),
    gateway(limits='{request_bytes: 8MiB, events: "${EVENTS}", body_timeout: 30s}'),
    gateway(pinpoint='endpoints: {store: postgres, dsn: "${DSN}"}'),
    gateway(pinpoint='endpoints: {store: "${STORE}", path: e.db}'),
    f"{SMALL_WORKER}gateway: null\n",
    (
        "kafka: {bootstrap_servers: [a:1]}\ngateway: {mparticle: {topic: t, inputs: "
        "[{api_key: a, api_secret: b}]}}\n"
    ),
]


@pytest.mark.parametrize("text", VALID)
def test_what_the_program_reads_is_valid(text: str) -> None:
    assert [] == complaints(text)


INVALID = [
    gateway(apps=""),
    gateway(apps="{id: a/b, auth: none}"),
    gateway(apps="{id: a, auth: basic}"),
    gateway(apps="{auth: none}"),
    gateway(apps=f"{{id: a, auth: api_key, {API_KEYED}, origin: ['*']}}"),
    gateway(apps="{id: a, auth: sigv4, keys: [{access_key_id: AKIAIOSFODNN7EXAMPLE}]}"),
    gateway(inputs="{api_key: a}"),
    gateway(inputs="{api_key: a, api_secret: b, environment: staging}"),
    gateway(listen="{port: 65536}"),
    gateway(listen="{tls: {cert_file: c.pem}}"),
    gateway(limits="{events: 0}"),
    gateway(limits="{request_bytes: 4MB}"),
    gateway(limits="{body_timeout: 15}"),
    gateway(pinpoint="endpoints: {store: mysql}"),
    gateway(pinpoint="endpoints: {store: postgres}"),
    gateway(pinpoint="endpoints: {store: postgres, dsn: d, path: p}"),
    gateway().replace('"111122223333"', '"1111"'),
    gateway().replace("    topic: raw-events\n", ""),
    "kafka: {bootstrap_servers: [a:1]}\n",
]


@pytest.mark.parametrize("text", INVALID)
def test_what_the_program_refuses_is_invalid(text: str) -> None:
    assert [] != complaints(text)

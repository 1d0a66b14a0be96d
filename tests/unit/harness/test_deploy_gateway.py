"""The gateway's manifests, and its part of the Compose file."""

import re
import tomllib
from pathlib import Path

import pytest

from forwarder.cli import COMMANDS
from forwarder.config.gateway import StoreKind
from forwarder.config.gateway_loader import load_gateway
from tests.manifests import DEPLOY, ROOT, Yaml, as_mounted, instructions, parsed

GATEWAY = DEPLOY / "kubernetes-gateway"
WORKER = DEPLOY / "kubernetes"
MIB = 2**20


@pytest.fixture(scope="module")
def compose() -> Yaml:
    services: Yaml = parsed(DEPLOY / "compose.yaml")["services"]
    return services


@pytest.fixture(scope="module")
def deployment() -> Yaml:
    spec: Yaml = parsed(GATEWAY / "deployment.yaml")["spec"]
    return spec


@pytest.fixture(scope="module")
def pod(deployment: Yaml) -> Yaml:
    spec: Yaml = deployment["template"]["spec"]
    return spec


@pytest.fixture(scope="module")
def container(pod: Yaml) -> Yaml:
    only: Yaml
    (only,) = pod["containers"]
    return only


def variables(file: Path) -> dict[str, str]:
    """Return a value for each variable that a file names, one that a dsn may have."""
    return dict.fromkeys(re.findall(r"\$\{(\w+)\}", file.read_text()), "postgresql://db/x")


def test_kustomize_lists_every_manifest_and_every_file() -> None:
    kustomization = parsed(GATEWAY / "kustomization.yaml")
    manifests = {path.name for path in GATEWAY.glob("*.yaml")} - {"kustomization.yaml"}
    assert manifests == set(kustomization["resources"])
    (generated,) = kustomization["configMapGenerator"]
    kept = {str(path.relative_to(GATEWAY)) for path in GATEWAY.glob("*/*.yaml")}
    assert kept == set(generated["files"])


def test_the_configuration_loads_as_it_is_mounted(
    tmp_path: Path, pod: Yaml, container: Yaml
) -> None:
    (volume,), (mount,) = pod["volumes"], container["volumeMounts"]
    (generated,) = parsed(GATEWAY / "kustomization.yaml")["configMapGenerator"]
    assert (volume["name"], generated["name"]) == (mount["name"], volume["configMap"]["name"])
    (file,) = generated["files"]
    as_mounted(tmp_path / mount["mountPath"].lstrip("/"), GATEWAY / file)
    config = tmp_path / container["args"][-1].lstrip("/")
    loaded = load_gateway(config, environ=variables(GATEWAY / file))
    assert () == loaded.notes
    told = loaded.configuration
    assert told.gateway.pinpoint is not None
    # Two replicas share their endpoints.
    assert StoreKind.POSTGRES is told.gateway.pinpoint.endpoints.store
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert {"api": told.gateway.listen.port, "http": told.server.port} == ports
    (_, pause) = container["lifecycle"]["preStop"]["exec"]["command"]
    stop = told.drain_timeout_ms / 1000 + int(pause)
    assert stop < pod["terminationGracePeriodSeconds"]
    memory = told.gateway.limits.buffered_bytes + 4096 * 64 * 1024
    assert memory < int(container["resources"]["limits"]["memory"].removesuffix("Gi")) * 1024 * MIB


def test_the_secret_that_is_named_has_what_the_configuration_asks_for(container: Yaml) -> None:
    text = (GATEWAY / "kustomization.yaml").read_text()
    (source,) = container["envFrom"]
    assert f"create secret generic {source['secretRef']['name']} " in text
    given = set(re.findall(r"--from-literal=(\w+)=", text))
    assert given == set(variables(GATEWAY / "gateway" / "forwarder.yaml"))


def test_the_pod_runs_a_command_that_exists_on_the_image_of_the_worker(container: Yaml) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"forwarder:{project['version']}" == container["image"]
    assert ["gateway", "--config"] == container["args"][:2]
    assert container["args"][0] in COMMANDS


@pytest.mark.parametrize(("probe", "path"), [("liveness", "/livez"), ("startup", "/readyz")])
def test_each_probe_asks_its_own_path_at_the_operators_port(
    container: Yaml, probe: str, path: str
) -> None:
    assert {"path": path, "port": "http"} == container[f"{probe}Probe"]["httpGet"]


def test_a_pod_takes_requests_whatever_is_away_once_it_was_ready(container: Yaml) -> None:
    """A load balancer's own answer would make some clients drop what they have."""
    assert {"port": "api"} == container["readinessProbe"]["tcpSocket"]


def test_scrapers_are_told_the_operators_port(deployment: Yaml, container: Yaml) -> None:
    told = deployment["template"]["metadata"]["annotations"]["prometheus.io/port"]
    assert told in {
        str(port["containerPort"]) for port in container["ports"] if port["name"] == "http"
    }


def test_the_pod_is_nobody_and_may_nothing(pod: Yaml, container: Yaml) -> None:
    worker = parsed(WORKER / "deployment.yaml")["spec"]["template"]["spec"]
    assert worker["securityContext"] == pod["securityContext"]
    assert worker["containers"][0]["securityContext"] == container["securityContext"]
    user = f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"
    assert [user] == instructions("Dockerfile", "USER")
    account = parsed(GATEWAY / "serviceaccount.yaml")
    assert account["metadata"]["name"] == pod["serviceAccountName"]
    assert account["automountServiceAccountToken"] is False


def test_everything_selects_the_same_pods_and_none_of_the_worker(
    deployment: Yaml, pod: Yaml
) -> None:
    labels = deployment["template"]["metadata"]["labels"]
    assert labels == deployment["selector"]["matchLabels"]
    budget = parsed(GATEWAY / "poddisruptionbudget.yaml")["spec"]
    assert labels == budget["selector"]["matchLabels"]
    assert labels == parsed(GATEWAY / "service.yaml")["spec"]["selector"]
    spread = pod["topologySpreadConstraints"]
    assert all(labels == it["labelSelector"]["matchLabels"] for it in spread)
    (pair,) = parsed(GATEWAY / "kustomization.yaml")["labels"]
    assert labels == pair["pairs"]
    worker = parsed(WORKER / "deployment.yaml")["spec"]["selector"]["matchLabels"]
    assert worker != labels


def test_one_gateway_always_serves(deployment: Yaml) -> None:
    assert deployment["replicas"] >= 2
    assert 0 == deployment["strategy"]["rollingUpdate"]["maxUnavailable"]
    assert 1 == parsed(GATEWAY / "poddisruptionbudget.yaml")["spec"]["maxUnavailable"]
    spread = {
        it["topologyKey"]
        for it in parsed(GATEWAY / "deployment.yaml")["spec"]["template"]["spec"][
            "topologySpreadConstraints"
        ]
    }
    assert {"topology.kubernetes.io/zone", "kubernetes.io/hostname"} == spread


def test_the_service_leads_to_the_api_and_not_to_the_operators_port(container: Yaml) -> None:
    (port,) = parsed(GATEWAY / "service.yaml")["spec"]["ports"]
    assert port["targetPort"] in {it["name"] for it in container["ports"]} - {"http"}


def test_compose_gives_the_gateway_a_configuration_that_fits_its_neighbours(
    compose: Yaml,
) -> None:
    gateway = compose["gateway"]
    file = DEPLOY / "compose" / "forwarder.yaml"
    loaded = load_gateway(file, environ=gateway["environment"])
    assert () == loaded.notes
    told = loaded.configuration
    assert told.gateway.pinpoint is not None
    topic = compose["pinpoint-topic"]["command"]
    assert told.gateway.pinpoint.topic == topic[topic.index("--topic") + 1]
    account = compose["postgres"]["environment"]
    assert told.gateway.pinpoint.endpoints.dsn == (
        f"postgresql://{account['POSTGRES_USER']}:{account['POSTGRES_PASSWORD']}"
        f"@postgres:5432/{account['POSTGRES_DB']}"
    )
    published = [port.removeprefix("127.0.0.1:").split(":")[1] for port in gateway["ports"]]
    assert [str(told.gateway.listen.port), str(told.server.port)] == published
    assert told.drain_timeout_ms / 1000 < int(gateway["stop_grace_period"].removesuffix("s"))
    text = (DEPLOY / "compose.yaml").read_text()
    (app,) = told.gateway.pinpoint.apps
    assert f"/v1/apps/{app.id}/events" in text
    assert f"x-api-key: {app.api_keys[0]}" in text

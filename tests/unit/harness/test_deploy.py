import re
import tomllib
from pathlib import Path

import pytest
import yaml

from forwarder.cli import COMMANDS
from forwarder.config import loader
from forwarder.config.settings import ServerSettings
from tests.manifests import DEPLOY, ROOT, Yaml, as_mounted, instructions, parsed

KUBERNETES = DEPLOY / "kubernetes"
STABLE = DEPLOY / "kubernetes-stable-names"
PINNED = re.compile(r"[a-z0-9./-]+:(\d+(\.\d+){1,2}(-[a-z-]+)?(@sha256:[0-9a-f]{64})?|local)")
DRAIN_SECONDS = 25


@pytest.fixture(scope="module")
def compose() -> Yaml:
    services: Yaml = parsed(DEPLOY / "compose.yaml")["services"]
    return services


@pytest.fixture(scope="module")
def pod() -> Yaml:
    spec: Yaml = parsed(KUBERNETES / "deployment.yaml")["spec"]["template"]["spec"]
    return spec


@pytest.fixture(scope="module")
def container(pod: Yaml) -> Yaml:
    only: Yaml
    (only,) = pod["containers"]
    return only


# ---------------------------------------------------------------------- images


@pytest.mark.parametrize("dockerfile", ["Dockerfile", "emulator.Dockerfile"])
def test_images_are_built_on_a_pinned_slim_base_as_another_user_than_root(dockerfile: str) -> None:
    arguments = [line.split("=", 1) for line in instructions(dockerfile, "ARG")]
    ((name, base),) = [(name, value) for name, value in arguments if name.endswith("_IMAGE")]
    assert PINNED.fullmatch(base)
    assert "slim" in base
    assert {f"${{{name}}}"} == {line.split()[0] for line in instructions(dockerfile, "FROM")}
    assert ["10001:10001"] == instructions(dockerfile, "USER")


@pytest.mark.parametrize("dockerfile", ["Dockerfile", "emulator.Dockerfile"])
def test_images_fetch_what_is_locked_by_hash_and_nothing_else(dockerfile: str) -> None:
    commands = [
        command.split()
        for line in instructions(dockerfile, "RUN")
        for command in line.split("&&")
        if re.search(r"pip (install|wheel)", command)
    ]
    assert commands
    for words in commands:
        offline = {"--no-index", "--no-deps"} <= set(words)
        assert offline or "--require-hashes" in words
        # Without it pip would fetch the newest build backend there is.
        assert "wheel" not in words or "--no-build-isolation" in words
        assert "." not in words or "wheel" in words


def test_the_image_has_the_native_core_and_none_of_what_compiles_it() -> None:
    build, final = (DEPLOY / "Dockerfile").read_text().split("\nFROM ")[1:]
    fetch, make = build.index("cargo fetch"), build.index("FORWARDER_NATIVE=1")
    assert fetch < make
    assert build[fetch:].count("CARGO_NET_OFFLINE=true") == 1
    assert not re.search("cargo|rust|apt-get", final)


def test_the_wheel_is_built_with_what_the_tests_have() -> None:
    (locked,) = re.findall(
        r"^setuptools==\S+", (ROOT / "requirements-build.txt").read_text(), re.MULTILINE
    )
    assert f"\n{locked} " in (ROOT / "requirements-dev.txt").read_text()


@pytest.mark.parametrize("dockerfile", ["Dockerfile", "emulator.Dockerfile"])
def test_whatever_an_image_copies_exists_and_is_let_through(dockerfile: str) -> None:
    let_through = {
        line.removeprefix("!").rstrip("/")
        for line in (DEPLOY / f"{dockerfile}.dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = {
        source
        for line in instructions(dockerfile, "COPY")
        if not line.startswith("--from")
        for source in line.split()[:-1]
    }
    assert copied == let_through
    assert all((ROOT / source).exists() for source in copied)


def test_the_image_holds_what_the_package_is_built_from() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    copied = " ".join(instructions("Dockerfile", "COPY"))
    needed = ("README.md", "setup.py", "tools", *project["license-files"])
    assert all(name in copied for name in needed)
    assert ['["forwarder"]'] == instructions("Dockerfile", "ENTRYPOINT")
    assert "forwarder" in project["scripts"]


def test_the_image_runs_a_command_that_exists_and_serves_the_default_port() -> None:
    command = yaml.safe_load(instructions("Dockerfile", "CMD")[0])
    assert ["run", "--config"] == command[:2]
    assert command[0] in COMMANDS
    assert [str(ServerSettings().port)] == instructions("Dockerfile", "EXPOSE")


def test_the_runtime_lock_holds_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = set(
        re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    )
    wanted = {re.split(r"[>=]", name)[0].lower() for name in project["dependencies"]}
    assert wanted <= locked


@pytest.mark.parametrize(
    "lock", ["requirements.txt", "requirements-build.txt", "requirements-dev.txt"]
)
def test_the_locks_name_versions_and_hashes_but_no_index(lock: str) -> None:
    lines = (ROOT / lock).read_text().splitlines()
    required = [line for line in lines if line and not line.startswith((" ", "#"))]
    assert all(re.fullmatch(r"[a-z0-9-]+==\S+ \\", line) for line in required)
    assert not [line for line in lines if "://" in line or "index" in line]


# ---------------------------------------------------------------------- compose


def test_compose_pins_every_image(compose: Yaml) -> None:
    assert all(PINNED.fullmatch(service["image"]) for service in compose.values())


def test_compose_runs_the_broker_that_the_tests_run(compose: Yaml) -> None:
    version = re.findall(r"<version>(4[\d.]+)<", (ROOT / "tests/kafka/pom.xml").read_text())
    (image,) = {compose[service]["image"].partition("@")[0] for service in ("kafka", "topic")}
    assert [f"apache/kafka:{number}" for number in version] == [image]


def test_compose_publishes_ports_on_loopback_only(compose: Yaml) -> None:
    ports = [port for service in compose.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_compose_builds_and_mounts_what_exists(compose: Yaml) -> None:
    for service in compose.values():
        build = service.get("build")
        if build:
            assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()
        for volume in service.get("volumes", []):
            assert (DEPLOY / volume.split(":")[0]).is_dir()


def test_compose_waits_for_services_it_has(compose: Yaml) -> None:
    for service in compose.values():
        for name, wait in service.get("depends_on", {}).items():
            checked = "healthcheck" in compose[name]
            assert wait["condition"] == (
                "service_healthy" if checked else "service_completed_successfully"
            )


def test_compose_gives_the_worker_a_configuration_that_fits_its_neighbours(compose: Yaml) -> None:
    loaded = loader.load_configuration(
        DEPLOY / "compose" / "forwarder.yaml", environ={}
    ).configuration
    listeners = compose["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert all(f"INSIDE://{server}," in listeners for server in loaded.kafka.bootstrap_servers)
    assert [topic.name for topic in loaded.kafka.topics] == [
        command[command.index("--topic") + 1]
        for command in (compose[name]["command"] for name in ("topic", "pinpoint-topic"))
    ]
    assert f"127.0.0.1:{loaded.server.port}:{loaded.server.port}" in compose["worker"]["ports"]
    assert loaded.drain_timeout_ms == DRAIN_SECONDS * 1000
    assert int(compose["worker"]["stop_grace_period"].removesuffix("s")) > DRAIN_SECONDS
    streams = [str(getattr(it.sink, "stream_name", None)) for it in loaded.connections]
    (line,) = re.findall(
        r"^STREAMS = .+$", (DEPLOY / "compose" / "stream.py").read_text(), re.MULTILINE
    )
    assert streams == re.findall(r'"(.+?)"', line)


# ---------------------------------------------------------------------- Kubernetes


def test_kustomize_lists_every_manifest_and_every_file() -> None:
    kustomization = parsed(KUBERNETES / "kustomization.yaml")
    manifests = {path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml"}
    assert manifests == set(kustomization["resources"])
    generated = {file for it in kustomization["configMapGenerator"] for file in it["files"]}
    kept = {str(path.relative_to(KUBERNETES)) for path in KUBERNETES.glob("*/*.yaml")}
    assert kept == generated


def test_the_pod_runs_a_command_that_exists_on_an_image_of_this_version(container: Yaml) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"forwarder:{project['version']}" == container["image"]
    assert container["args"][0] in COMMANDS


def test_the_configuration_loads_as_it_is_mounted(
    tmp_path: Path, pod: Yaml, container: Yaml
) -> None:
    maps = {
        it["name"]: [KUBERNETES / file for file in it["files"]]
        for it in parsed(KUBERNETES / "kustomization.yaml")["configMapGenerator"]
    }
    volumes = {volume["name"]: volume["configMap"]["name"] for volume in pod["volumes"]}
    for mount in container["volumeMounts"]:
        target = tmp_path / mount["mountPath"].lstrip("/")
        as_mounted(target, *maps[volumes[mount["name"]]])
    config = tmp_path / container["args"][-1].lstrip("/")
    loaded = loader.load_configuration(config, environ={}).configuration
    assert ["acme-production"] == [connection.name for connection in loaded.connections]
    assert [loaded.server.port] == [port["containerPort"] for port in container["ports"]]
    assert loaded.drain_timeout_ms == DRAIN_SECONDS * 1000
    assert pod["terminationGracePeriodSeconds"] > DRAIN_SECONDS
    memory = loaded.limits.window_memory + loaded.limits.in_flight
    assert memory < int(container["resources"]["limits"]["memory"].removesuffix("Gi")) * 2**30


@pytest.mark.parametrize(("probe", "path"), [("liveness", "/livez"), ("readiness", "/readyz")])
def test_each_probe_asks_its_own_path_at_a_port_that_is_named(
    container: Yaml, probe: str, path: str
) -> None:
    named = {port["name"] for port in container["ports"]}
    assert path == container[f"{probe}Probe"]["httpGet"]["path"]
    assert container[f"{probe}Probe"]["httpGet"]["port"] in named


def test_scrapers_are_told_the_port_that_is_open(container: Yaml) -> None:
    template = parsed(KUBERNETES / "deployment.yaml")["spec"]["template"]
    told = template["metadata"]["annotations"]["prometheus.io/port"]
    assert told == str(container["ports"][0]["containerPort"])


def test_the_pod_is_nobody_and_may_nothing(pod: Yaml, container: Yaml) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert [f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"] == (
        instructions("Dockerfile", "USER")
    )
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_everything_selects_the_same_pods() -> None:
    deployment = parsed(KUBERNETES / "deployment.yaml")
    budget = parsed(KUBERNETES / "poddisruptionbudget.yaml")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels == deployment["spec"]["selector"]["matchLabels"]
    assert labels == budget["spec"]["selector"]["matchLabels"]
    account = parsed(KUBERNETES / "serviceaccount.yaml")["metadata"]["name"]
    assert account == deployment["spec"]["template"]["spec"]["serviceAccountName"]


# ---------------------------------------------------------------------- Kubernetes, stable names


def test_the_variant_with_stable_names_runs_the_same_pod_but_for_its_name() -> None:
    plain = parsed(KUBERNETES / "deployment.yaml")["spec"]
    stable = parsed(STABLE / "statefulset.yaml")["spec"]
    (container,) = stable["template"]["spec"]["containers"]
    (variable,) = container.pop("env")
    assert {"fieldPath": "metadata.name"} == variable["valueFrom"]["fieldRef"]
    assert plain["template"] == stable["template"]
    assert plain["selector"] == stable["selector"]
    assert plain["replicas"] == stable["replicas"]
    assert parsed(STABLE / "service.yaml")["metadata"]["name"] == stable["serviceName"]


def test_the_variant_replaces_the_deployment_and_the_workers_file_alone() -> None:
    kustomization = parsed(STABLE / "kustomization.yaml")
    (patch,) = kustomization["patches"]
    removed = yaml.safe_load(patch["patch"])
    plain = parsed(KUBERNETES / "deployment.yaml")
    assert "delete" == removed["$patch"]
    assert (plain["kind"], plain["metadata"]) == (removed["kind"], removed["metadata"])
    (generated,) = kustomization["configMapGenerator"]
    assert generated["name"] in {
        it["name"] for it in parsed(KUBERNETES / "kustomization.yaml")["configMapGenerator"]
    }
    manifests = {path.name for path in STABLE.glob("*.yaml")} - {"kustomization.yaml"}
    assert {"../kubernetes", *manifests} == set(kustomization["resources"])


def test_the_variants_file_names_the_member_after_its_pod(tmp_path: Path) -> None:
    as_mounted(tmp_path / "connections", KUBERNETES / "connections" / "acme.yaml")
    as_mounted(tmp_path / "worker", STABLE / "worker" / "forwarder.yaml")
    config = tmp_path / "worker" / "forwarder.yaml"
    kafka = loader.load_configuration(
        config, environ={"POD_NAME": "forwarder-1"}
    ).configuration.kafka
    assert "forwarder-1" == kafka.group_instance_id
    assert kafka.session_timeout_ms > DRAIN_SECONDS * 1000

"""A key with a passphrase is judged before anything connects, and nobody is asked for it."""

import os
import ssl
from pathlib import Path

import pytest

from forwarder.config import certificates
from forwarder.config.settings import InputTopic, Kafka, Security, SecurityProtocol
from forwarder.errors import StartupError
from forwarder.kafka import client
from tests.configurations import Folder

TLS = Path(__file__).parents[2] / "data" / "tls"
WHERE = "kafka.security"


def write(folder: Folder, **files: str) -> None:
    given = {n: str(TLS / v) if n.endswith("_file") else v for n, v in files.items()}
    lines = "".join(f'    {name}: "{value}"\n' for name, value in given.items())
    folder.write(
        "kafka:\n  bootstrap_servers: [localhost:9092]\n  topics: [raw-events]\n"
        f"  security:\n    protocol: SSL\n{lines}"
    )


FAULTS = [
    ({}, "encrypted.pem", "key_password", "is missing: the key in key_file is encrypted"),
    ({}, "encrypted-old.pem", "key_password", "is missing: the key in key_file is encrypted"),
    ({"key_password": "wrong-one"}, "encrypted.pem", "key_password", "does not open the key"),
    ({"key_password": "wrong-one"}, "encrypted-old.pem", "key_password", "does not open the key"),
    ({"key_password": "p" * 2000}, "encrypted.pem", "key_password", "is longer than"),
    ({}, "other.pem", "key_file", "does not belong to the certificate"),
    ({}, "cert.pem", "key_file", "holds no private key"),
    ({}, "gone.pem", "key_file", "cannot be used"),
    ({"key_password": "opensesame"}, "key.pem", "key_password", "is not used"),
    ({"ca_file": "README.md"}, "key.pem", "ca_file", "holds no certificate"),
]


@pytest.mark.parametrize(("more", "key", "name", "text"), FAULTS)
def test_what_is_wrong_with_a_key_is_a_fault_at_its_line(
    folder: Folder, more: dict[str, str], key: str, name: str, text: str
) -> None:
    write(folder, cert_file="cert.pem", key_file=key, **more)
    [fault] = folder.faults()
    assert f"{WHERE}.{name}: " in fault
    assert text in fault
    assert fault.startswith("forwarder.yaml:")
    assert "wrong-one" not in fault


def test_a_certificate_that_is_none_is_a_fault(folder: Folder) -> None:
    write(folder, cert_file="README.md", key_file="key.pem")
    [fault] = folder.faults()
    assert f"{WHERE}.cert_file: holds no certificate" in fault


BOUNDS = {"ca_file": 16, "cert_file": 1, "key_file": 1}


@pytest.mark.parametrize("name", BOUNDS)
def test_a_file_beyond_its_bound_is_refused_whatever_is_in_it(folder: Folder, name: str) -> None:
    given = {"ca_file": "cert.pem", "cert_file": "cert.pem", "key_file": "key.pem"}
    content = (TLS / given[name]).read_bytes()
    large = folder.path / "large.pem"
    bound = BOUNDS[name] * 1024 * 1024
    large.write_bytes(content + b"\n" * (bound - len(content)))
    write(folder, **{**given, name: str(large)})
    assert [] == folder.faults()
    large.write_bytes(content + b"\n" * (bound + 1 - len(content)))
    [fault] = folder.faults()
    assert f"{WHERE}.{name}: is larger than {BOUNDS[name]} MiB; give a PEM file" in fault


def test_what_became_a_pipe_is_no_file_and_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    pipe, gone, key = str(tmp_path / "pipe"), str(tmp_path / "gone"), str(TLS / "key.pem")
    found = dict(certificates.certificate_faults(pipe, gone, key, None))
    assert "is no file; name the file itself" == found["ca_file"]
    assert found["cert_file"].startswith("cannot be used (no such file or directory)")
    assert {"ca_file", "cert_file"} == set(found)


def test_a_passphrase_without_a_key_is_not_used(folder: Folder) -> None:
    write(folder, key_password="opensesame")
    [fault] = folder.faults()
    assert f"{WHERE}.key_password: is not used: there is no key_file" in fault


def test_a_passphrase_that_is_not_here_is_one_fault(folder: Folder) -> None:
    write(folder, cert_file="cert.pem", key_file="encrypted.pem", key_password="${NOT_HERE}")
    [fault] = folder.faults()
    assert "NOT_HERE" in fault


@pytest.mark.parametrize("key", ["encrypted.pem", "encrypted-old.pem"])
@pytest.mark.parametrize("given", ["${PASS}", "${file:FOLDER/pass}"])
def test_a_key_with_its_passphrase_is_what_the_client_uses(
    folder: Folder, key: str, given: str
) -> None:
    (folder.path / "pass").write_text("opensesame\n")
    given = given.replace("FOLDER", str(folder.path))
    write(folder, cert_file="cert.pem", key_file=key, key_password=given)
    loaded = folder.load({"PASS": "opensesame"})
    security = loaded.configuration.kafka.security
    assert "opensesame" in loaded.secrets
    assert "opensesame" not in repr(security)
    assert isinstance(client.security_arguments(security)["ssl_context"], ssl.SSLContext)


def test_a_client_never_asks_on_the_terminal() -> None:
    cert, key = str(TLS / "cert.pem"), str(TLS / "encrypted.pem")
    security = Security(SecurityProtocol.SSL, cert_file=cert, key_file=key)
    kafka = Kafka(("127.0.0.1:1",), (InputTopic("t"),), "g", security=security)
    with pytest.raises(StartupError, match="the certificates for Kafka cannot be used"):
        client.client_arguments(kafka, "me")

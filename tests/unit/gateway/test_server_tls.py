"""A certificate that is renewed in place is shown from then on, and a broken one never."""

import shutil
import ssl
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from forwarder.config.gateway import ListenSettings
from forwarder.errors import StartupError
from forwarder.gateway.server_tls import LOOK_SECONDS, ServerTls

TLS = Path(__file__).parents[2] / "data" / "tls"


class Hand:
    """A clock set by hand."""

    now = 0.0

    def steady(self) -> float:
        return self.now

    def wall_ms(self) -> int:
        return 0


def shown(context: ssl.SSLContext) -> bytes:
    """Return the certificate that a client sees."""
    seen = ssl.create_default_context()
    seen.check_hostname, seen.verify_mode = False, ssl.CERT_NONE
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = seen.wrap_bio(to_client, to_server, server_hostname="x")
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    found = client.getpeercert(binary_form=True)
    assert found is not None
    return found


@pytest.fixture
def listen(tmp_path: Path) -> ListenSettings:
    cert = shutil.copy(TLS / "cert.pem", tmp_path / "cert.pem")
    key = shutil.copy(TLS / "key.pem", tmp_path / "key.pem")
    return ListenSettings(cert_file=str(cert), key_file=str(key))


def test_a_renewed_certificate_is_shown_after_the_next_look(listen: ListenSettings) -> None:
    clock = Hand()
    tls = ServerTls(listen, clock)
    before = shown(tls.context)
    shutil.copy(TLS / "renewed.pem", str(listen.cert_file))
    shutil.copy(TLS / "renewed-key.pem", str(listen.key_file))
    tls.renew()
    assert before == shown(tls.context)
    clock.now += LOOK_SECONDS
    with capture_logs() as logs:
        tls.renew()
    assert before != shown(tls.context)
    assert ["certificate.renewed"] == [line["event"] for line in logs]


def test_a_key_that_is_none_of_the_certificate_s_changes_nothing_and_is_said_once(
    listen: ListenSettings,
) -> None:
    clock = Hand()
    tls = ServerTls(listen, clock)
    before = shown(tls.context)
    shutil.copy(TLS / "other.pem", str(listen.key_file))
    with capture_logs() as logs:
        for _ in range(3):
            clock.now += LOOK_SECONDS
            tls.renew()
    assert before == shown(tls.context)
    assert ["certificate.unusable"] == [line["event"] for line in logs]
    shutil.copy(TLS / "key.pem", str(listen.key_file))
    clock.now += LOOK_SECONDS
    tls.renew()
    assert before == shown(tls.context)


def test_files_that_cannot_be_used_are_no_start(tmp_path: Path) -> None:
    listen = ListenSettings(cert_file=str(TLS / "cert.pem"), key_file=str(TLS / "other.pem"))
    with pytest.raises(StartupError, match=r"listen\.tls"):
        ServerTls(listen, Hand())
    with pytest.raises(StartupError):
        ServerTls(ListenSettings(cert_file=str(tmp_path / "nothing")), Hand())

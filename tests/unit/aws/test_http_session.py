"""Hundreds of connections read the certificate authorities once."""

from pathlib import Path

import certifi
import pytest

from forwarder.aws import http_session
from forwarder.aws.http_session import SharedTlsSession
from forwarder.aws.session import AwsSession
from forwarder.clock import SystemClock
from forwarder.config.credentials import AssumedRole
from tests.services.fake_kinesis import LOADER


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_session, "_CONTEXTS", {})


def test_sessions_that_verify_alike_share_their_context() -> None:
    one, other = (SharedTlsSession()._build_ssl_contexts(None)[0] for _ in range(2))  # noqa: SLF001  # as the library calls it
    assert one is other
    assert one.check_hostname


def test_sessions_that_verify_otherwise_do_not(tmp_path: Path) -> None:
    bundle = tmp_path / "own.pem"
    bundle.write_text(Path(certifi.where()).read_text())
    usual = SharedTlsSession()._build_ssl_contexts(None)[0]  # noqa: SLF001  # as above
    for verify in (str(bundle), False):
        context = SharedTlsSession(verify=verify)._build_ssl_contexts(None)[0]  # noqa: SLF001
        assert context is not usual
        assert context.check_hostname is bool(verify)


async def test_every_client_and_every_place_is_reached_by_such_a_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    aws = AwsSession(SystemClock(), LOADER)
    place = await aws.endpoints.find("kinesis", "us-east-1", None)
    member = await aws.pools.join(place.url, place.session_options)
    assert isinstance(member.session, SharedTlsSession)
    await aws.pools.leave(member)
    keys = aws.make_keyring(
        AssumedRole("arn:aws:iam::111122223333:role/r", None), "us-east-1", "acme"
    )
    client = await aws.client("sts", "us-east-1", keys)
    assert isinstance(client._endpoint.http_session, SharedTlsSession)  # noqa: SLF001  # no public way in
    await client.close()
    await aws.close()


@pytest.mark.parametrize(
    ("expected", "url"),
    [
        (None, "https://10.1.2.3/"),
        (None, "https://[fd00::1]:8443/"),
        ("http://proxy.example:3128", "https://10.2.0.1/"),
        ("http://proxy.example:3128", "https://kinesis.us-east-1.amazonaws.com/"),
    ],
)
def test_networks_in_no_proxy_are_reached_straight(
    monkeypatch: pytest.MonkeyPatch, expected: str | None, url: str
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "localhost, 10.1.0.0/16,fd00::/8,not/anetwork")
    session = SharedTlsSession(proxies={"https": "http://proxy.example:3128"})
    assert expected == session._proxy_config.proxy_url_for(url)  # noqa: SLF001  # as the library asks

"""What the default chain reads has a bound, whoever names it, and whenever it is read again."""

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from aiobotocore.session import AioSession
from botocore.credentials import SSOProvider
from botocore.exceptions import SSOTokenLoadError

from forwarder.aws import credential_chain, local_settings
from forwarder.aws.local_settings import LocalSettingError
from forwarder.aws.session import AwsSession
from forwarder.aws.time_limits import TimeLimits
from forwarder.config.credentials import DefaultCredentials
from tests.services.fake_kinesis import LOADER, FakeClock

ROLE = "role_arn = arn:aws:iam::111122223333:role/r\n"
START = "https://acme.awsapps.com/start"
SIGN_ON = (
    f"[default]\nsso_start_url = {START}\nsso_region = eu-west-1\n"
    "sso_account_id = 111122223333\nsso_role_name = r\n"
)


@pytest.fixture(autouse=True)
def lone_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(SSOProvider, "_SSO_TOKEN_CACHE_DIR", str(tmp_path))


def endless(path: Path, kind: str) -> None:
    """Put something at a path that must not be read to its end."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes(bytes(local_settings.MAX_TOKEN_BYTES + 1))


ENDLESS = pytest.mark.parametrize("kind", ["pipe", "device", "large"])


async def search() -> None:
    aws = AwsSession(FakeClock(), LOADER)
    try:
        await aws.make_keyring(DefaultCredentials(), "eu-west-1", "acme").get_frozen_credentials()
    finally:
        await aws.close()


def provider(name: str) -> Any:  # noqa: ANN401  # the library ships no types
    session = AioSession()
    credential_chain.bound_chain(session, TimeLimits())
    return session.get_component("credential_provider").get_provider(name)


@ENDLESS
@pytest.mark.parametrize(
    "config",
    [
        f"[default]\n{ROLE}web_identity_token_file = {{}}\n",
        f"[default]\n{ROLE}source_profile = b\n[profile b]\n{ROLE}web_identity_token_file = {{}}\n",
    ],
    ids=["its own", "another's"],
)
async def test_a_token_that_a_profile_names(tmp_path: Path, config: str, kind: str) -> None:
    token = tmp_path / "token"
    endless(token, kind)
    (tmp_path / "config").write_text(config.format(token))
    with pytest.raises(LocalSettingError, match="web_identity_token_file") as told:
        await search()
    assert str(token) in told.value.fault.what


@ENDLESS
def test_a_token_that_was_in_order_when_it_was_read_before(tmp_path: Path, kind: str) -> None:
    token = tmp_path / "token"
    token.write_text("a token")
    read = provider("assume-role-with-web-identity")._token_loader_cls(str(token))  # noqa: SLF001
    assert "a token" == read()
    token.unlink()
    endless(token, kind)
    with pytest.raises(LocalSettingError, match="web_identity_token_file"):
        read()


@ENDLESS
def test_a_container_s_token_is_looked_at_whenever_it_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    token = tmp_path / "token"
    token.write_text("a-token")
    monkeypatch.setenv(credential_chain.CONTAINER_TOKEN, str(token))
    read = provider("container-role")._build_headers  # noqa: SLF001
    assert {"Authorization": "a-token"} == read()
    token.unlink()
    endless(token, kind)
    with pytest.raises(LocalSettingError, match=credential_chain.CONTAINER_TOKEN):
        read()


async def test_a_token_of_a_single_sign_on_that_is_too_large(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(SIGN_ON)
    token = tmp_path / f"{hashlib.sha1(START.encode()).hexdigest()}.json"  # noqa: S324  # as named
    endless(token, "large")
    with pytest.raises(LocalSettingError, match="single sign-on"):
        await search()


@pytest.mark.parametrize("kind", ["pipe", "device"])
async def test_a_token_of_a_single_sign_on_that_is_no_file_is_none(
    tmp_path: Path, kind: str
) -> None:
    (tmp_path / "config").write_text(SIGN_ON)
    token = tmp_path / f"{hashlib.sha1(START.encode()).hexdigest()}.json"  # noqa: S324  # as named
    endless(token, kind)
    with pytest.raises(SSOTokenLoadError):
        await search()

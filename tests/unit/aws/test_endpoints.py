"""Where a service is: by the library's rules, asked once."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from forwarder.aws.endpoints import EndpointResolver, ServiceEndpoint
from forwarder.aws.session import AwsSession
from tests.services.fake_kinesis import LOADER, FakeClock


@pytest.fixture(autouse=True)
def lone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_CA_BUNDLE", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))


async def place(service: str, region: str, endpoint_url: str | None = None) -> ServiceEndpoint:
    aws = AwsSession(FakeClock(), LOADER)
    try:
        return await aws.endpoints.find(service, region, endpoint_url)
    finally:
        await aws.close()


@pytest.mark.parametrize(
    ("expected", "service", "region"),
    [
        ("https://kinesis.us-east-1.amazonaws.com/", "kinesis", "us-east-1"),
        ("https://kinesis.cn-north-1.amazonaws.com.cn/", "kinesis", "cn-north-1"),
        ("https://kinesis.us-gov-west-1.amazonaws.com/", "kinesis", "us-gov-west-1"),
        ("https://firehose.eu-west-1.amazonaws.com/", "firehose", "eu-west-1"),
        ("https://firehose.cn-northwest-1.amazonaws.com.cn/", "firehose", "cn-northwest-1"),
    ],
)
async def test_a_service_is_where_its_region_has_it(
    expected: str, service: str, region: str
) -> None:
    found = await place(service, region)
    assert (expected, region, service) == (found.url, found.region, found.service)


@pytest.mark.parametrize(
    ("expected", "variable", "value"),
    [
        ("https://kinesis-fips.us-east-1.amazonaws.com/", "AWS_USE_FIPS_ENDPOINT", "true"),
        ("https://kinesis.us-east-1.api.aws/", "AWS_USE_DUALSTACK_ENDPOINT", "true"),
        ("https://vpce.example/x/", "AWS_ENDPOINT_URL", "https://vpce.example/x/"),
        ("http://127.0.0.1:4566/", "AWS_ENDPOINT_URL_KINESIS", "http://127.0.0.1:4566"),
        ("https://kinesis.us-east-1.amazonaws.com/", "AWS_ENDPOINT_URL_FIREHOSE", "http://other"),
    ],
)
async def test_the_environment_says_otherwise_as_for_every_sdk(
    monkeypatch: pytest.MonkeyPatch, expected: str, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert expected == (await place("kinesis", "us-east-1")).url


async def test_the_connection_s_own_endpoint_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://other.example")
    found = await place("kinesis", "us-east-1", "https://own.example:8443")
    assert ("https://own.example:8443/", "us-east-1") == (found.url, found.region)


async def test_an_endpoint_that_cannot_be_is_told_by_the_library() -> None:
    with pytest.raises(ValueError, match="Invalid endpoint"):
        await place("kinesis", "us-east-1", "https://no_such host")


async def test_proxies_authorities_and_time_limits_are_those_of_the_library(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "authorities.pem"))
    connecting = (await place("kinesis", "us-east-1")).session_options
    assert {"https": "http://proxy.example:3128"}.items() <= connecting["proxies"].items()
    assert str(tmp_path / "authorities.pem") == connecting["verify"]
    assert ((3, 10), 64) == (connecting["timeout"], connecting["max_pool_connections"])


async def test_connections_of_one_region_ask_once() -> None:
    aws = AwsSession(FakeClock(), LOADER)
    made: list[str] = []

    async def client(service: str, *rest: object, **more: object) -> Any:  # noqa: ANN401  # untyped
        made.append(service)
        return await AwsSession.client(aws, service, *rest, **more)  # type: ignore[arg-type]  # passed on

    places = EndpointResolver(client)
    asked = [places.find("kinesis", "us-east-1", None) for _ in range(20)]
    found = await asyncio.gather(*asked, places.find("firehose", "us-east-1", None))
    assert ["kinesis", "firehose"] == made
    assert found[0] is found[19]
    await aws.close()


ARN = "arn:aws:kinesis:us-east-1:111122223333:stream/acme"


async def test_a_stream_s_arn_leads_to_the_endpoint_the_library_has_for_it() -> None:
    aws = AwsSession(FakeClock(), LOADER)
    found = await aws.endpoints.find("kinesis", "us-east-1", None, ARN)
    assert "https://111122223333.data-kinesis.us-east-1.amazonaws.com/" == found.url
    other = await aws.endpoints.find("kinesis", "us-east-1", None, ARN + "-2")
    assert other is found
    own = await aws.endpoints.find("kinesis", "us-east-1", "http://127.0.0.1:1", ARN)
    assert "http://127.0.0.1:1/" == own.url
    await aws.close()

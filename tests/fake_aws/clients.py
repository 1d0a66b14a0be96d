"""Clients of the library that AWS ships, for any endpoint."""

from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession

from tests.services.fake_kinesis import LOADER

REGION = "us-east-1"
_CONFIG = AioConfig(parameter_validation=False, read_timeout=10, retries={"total_max_attempts": 1})


def connect(url: str, service: str, key: str, secret: str, token: str | None = None) -> Any:  # noqa: ANN401  # the library makes client classes at run time
    """Return a client to enter, which checks nothing itself and asks once."""
    session = AioSession()
    session.register_component("data_loader", LOADER)
    return session.create_client(
        service,
        region_name=REGION,
        endpoint_url=url,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        aws_session_token=token,
        config=_CONFIG,
    )

"""Where an AWS service is, found by the library's rules once for any number of connections.

Regions, VPC and FIPS endpoints, AWS_ENDPOINT_URL, proxies and certificate authorities follow from
environment, configuration files and the library's rule sets. So the library makes one request,
which is caught when it is about to be sent, and tells by it all that requests by hand need.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from botocore.credentials import ReadOnlyCredentials

from forwarder.aws.http_session import SharedTlsSession
from forwarder.aws.sigv4 import Signer

_SCOPE = re.compile(r"Credential=[^/]+/\d{8}/([^/]+)/([^/]+)/aws4_request")
_ASKED: Mapping[str, Callable[..., Awaitable[object]]] = {
    "kinesis": lambda client, **named: client.put_records(
        **(named or {"StreamName": "any"}), Records=[]
    ),
    "firehose": lambda client: client.put_record_batch(DeliveryStreamName="any", Records=[]),
}


class ServiceEndpoint(msgspec.Struct, frozen=True):
    """An endpoint: its URL, the names that signatures have there, how to connect to it."""

    url: str
    region: str
    service: str
    session_options: Mapping[str, Any]

    def signer(self) -> Signer:
        """Return what signs requests to it."""
        return Signer(self.url, self.region, self.service)


class EndpointResolver:
    """The endpoints that were found so far."""

    def __init__(self, client: Callable[..., Awaitable[Any]]) -> None:
        """Take ``client``, which makes a client of the library."""
        self._client = client
        self._known: dict[tuple[str, str, str | None, str | None], ServiceEndpoint] = {}
        self._lock = asyncio.Lock()

    async def find(
        self, service: str, region: str, endpoint_url: str | None, arn: str | None = None
    ) -> ServiceEndpoint:
        """Return an endpoint; raises the library's errors for one that cannot be.

        A stream that is named by its ``arn`` has one of its account.
        """
        # The endpoint of an ARN is its account's, whatever the stream.
        asked = (service, region, endpoint_url, arn.partition("/")[0] if arn else None)
        if (known := self._known.get(asked)) is not None:
            return known
        async with self._lock:
            if asked not in self._known:
                self._known[asked] = await self._catch_request(service, region, endpoint_url, arn)
        return self._known[asked]

    async def _catch_request(
        self, service: str, region: str, endpoint_url: str | None, arn: str | None
    ) -> ServiceEndpoint:
        session_options: dict[str, Any] = {}

        def remembered(**arguments: object) -> Any:  # noqa: ANN401  # the library is not typed
            session_options.update(arguments)
            return SharedTlsSession(**arguments)

        client = await self._client(
            service, region, _NoCredentials(), endpoint_url, session=remembered
        )
        client.meta.events.register(f"before-send.{service}", _catch)
        try:
            await _ASKED[service](client, **({"StreamARN": arn} if arn else {}))
        except _CaughtRequestError as caught:
            return _read(caught.request, session_options)
        finally:
            await client.close()
        message = f"the library made no request to {service}"
        raise RuntimeError(message)


class _NoCredentials:
    """Keyring for the request that is caught before it is sent; its keys are no real ones."""

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        return ReadOnlyCredentials("nobody", "nothing", None)


class _CaughtRequestError(Exception):
    def __init__(self, request: Any) -> None:  # noqa: ANN401  # the library is not typed
        super().__init__("not to be sent")
        self.request = request


def _catch(request: Any, **_: object) -> None:  # noqa: ANN401  # the library is not typed
    raise _CaughtRequestError(request)


def _read(request: Any, session_options: Mapping[str, Any]) -> ServiceEndpoint:  # noqa: ANN401  # as above
    found = _SCOPE.search(_text(request.headers["Authorization"]))
    if found is None:
        message = f"{request.url} is not called with signature version 4"
        raise RuntimeError(message)
    return ServiceEndpoint(request.url, found[1], found[2], session_options)


def _text(header: str | bytes) -> str:
    return header.decode() if isinstance(header, bytes) else header

"""A store that reports how long each call took, and which failed."""

from collections.abc import Awaitable, Mapping, Sequence
from typing import TypeVar

from forwarder.clock import Clock
from forwarder.gateway.endpoints.contract import (
    EndpointStore,
    EndpointUpdate,
    Merged,
    StoreError,
)
from forwarder.ops.gateway_reporter import GatewayReporter, StoreCall

T = TypeVar("T")


class ReportedStore:
    """An EndpointStore around another; ``check`` and ``close`` are not reported."""

    def __init__(self, store: EndpointStore, clock: Clock, reporter: GatewayReporter) -> None:
        self._store = store
        self._clock = clock
        self._reporter = reporter
        self.check = store.check
        self.close = store.close

    async def merge(self, app: str, updates: Mapping[str, EndpointUpdate]) -> dict[str, Merged]:
        """Merge updates."""
        return await self._report(StoreCall.MERGE, self._store.merge(app, updates))

    async def read(self, app: str, endpoint: str) -> bytes | None:
        """Return an endpoint."""
        return await self._report(StoreCall.READ, self._store.read(app, endpoint))

    async def delete(self, app: str, endpoint: str) -> bytes | None:
        """Delete an endpoint."""
        return await self._report(StoreCall.DELETE, self._store.delete(app, endpoint))

    async def read_user(self, app: str, user: str) -> Sequence[bytes]:
        """Return a user's endpoints."""
        return await self._report(StoreCall.READ_USER, self._store.read_user(app, user))

    async def delete_user(self, app: str, user: str) -> Sequence[bytes]:
        """Delete a user's endpoints."""
        return await self._report(StoreCall.DELETE_USER, self._store.delete_user(app, user))

    async def _report(self, call: StoreCall, answer: Awaitable[T]) -> T:
        began = self._clock.steady()
        try:
            answered = await answer
        except StoreError as error:
            self._reporter.store_failed(call, error.what, error.remedy)
            raise
        self._reporter.store_answered(call, self._clock.steady() - began)
        return answered

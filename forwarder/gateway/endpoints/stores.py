"""Which stores there are: the only module that names them."""

from pathlib import Path

from forwarder.config.gateway import EndpointStoreSettings, StoreKind
from forwarder.gateway.endpoints.contract import EndpointStore, Merge
from forwarder.gateway.endpoints.sqlite import SqliteStore


async def open_store(settings: EndpointStoreSettings, merge: Merge) -> EndpointStore:
    """Open the store that the settings name. Caller: the gateway, once, at its start.

    Raises StoreError where a start is of no use until somebody does what it says; a server that is
    down comes back by itself.
    """
    if settings.store is StoreKind.POSTGRES:
        # 15 MiB and 60 ms that a gateway with a file need not spend.
        from forwarder.gateway.endpoints.postgres import PostgresStore  # noqa: PLC0415

        return await PostgresStore.open(settings.dsn, merge)
    return await SqliteStore.open(Path(settings.path), merge)

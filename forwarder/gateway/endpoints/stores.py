"""Which stores there are: the only module that names them."""

from pathlib import Path

from forwarder.config.gateway import EndpointStoreSettings
from forwarder.gateway.endpoints.contract import EndpointStore, Merge
from forwarder.gateway.endpoints.sqlite import SqliteStore


async def open_store(settings: EndpointStoreSettings, merge: Merge) -> EndpointStore:
    """Open the store that the settings name. Caller: the gateway, once, at its start.

    Raises StoreError where a start is of no use until somebody does what it says.
    """
    return await SqliteStore.open(Path(settings.path), merge)

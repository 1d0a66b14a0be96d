"""News of the cluster: an answer that makes no sense is none, and the client asks again.

aiokafka 0.14 keeps what it knows of brokers and leaders in one task. An answer that can be taken
apart and makes no sense, such as one without a list of topics, ends that task with an error nobody
sees: the client never hears of another leader again, and whoever waits for news waits for ever. One
that names brokers where none can be would leave it without any. All that is used of the client's
private names for this is named here; a test fails where one of them is another.
"""
# ruff: noqa: SLF001  # there is no public way to any of it

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import KafkaError, KafkaProtocolError

from forwarder.kafka import causes

WHAT = "news of the cluster"
_PORTS = range(1, 1 << 16)
_WRAPPED = "makes_sense"


def install() -> None:
    """Have every client of this process do so; more than once changes nothing."""
    if not hasattr(ClusterMetadata.update_metadata, _WRAPPED):
        ClusterMetadata.update_metadata = _looked_at(ClusterMetadata.update_metadata)
    if not hasattr(AIOKafkaClient._metadata_update, _WRAPPED):
        AIOKafkaClient._metadata_update = _lasting(AIOKafkaClient._metadata_update)


def _looked_at(update: Callable[..., None]) -> Callable[..., None]:
    """Raise KafkaProtocolError for whatever an answer is not; what was known stays known then."""

    def looked_at(cluster: Any, answer: Any) -> None:  # noqa: ANN401  # the client ships no types
        try:
            _check_brokers(answer.brokers)
            update(cluster, answer)
        except KafkaError:
            raise
        except Exception as error:
            said = f"an answer that makes no sense ({type(error).__name__}: {error})"
            raise KafkaProtocolError(said) from error

    setattr(looked_at, _WRAPPED, True)
    return looked_at


def _check_brokers(brokers: Iterable[Any]) -> None:
    for _, host, port, *_ in brokers:
        if not host or port not in _PORTS:
            message = f"an answer that makes no sense (a broker at {host}:{port})"
            raise KafkaProtocolError(message)


def _lasting(update: Callable[..., Awaitable[bool]]) -> Callable[..., Awaitable[bool]]:
    """Return the client's own, of which nothing comes out but whether there was news.

    Why not is kept as the cause of what follows from it.
    """

    async def lasting(client: Any, cluster: Any, topics: Any) -> bool:  # noqa: ANN401
        try:
            updated = await update(client, cluster, topics)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return _failed(cluster, error)  # somebody else's, of what was waited for
        except Exception as error:  # noqa: BLE001  # the task that asks must not end
            return _failed(cluster, error)
        causes.forget(WHAT)
        return updated

    setattr(lasting, _WRAPPED, True)
    return lasting


def _failed(cluster: Any, error: BaseException) -> bool:  # noqa: ANN401
    causes.note(WHAT, error)
    cluster.failed_update(error)
    return False

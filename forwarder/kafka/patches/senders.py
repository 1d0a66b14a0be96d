"""The client's sender of a transactional producer: one step after the other, in one task.

A transaction is a chain: partitions are added, messages sent, the group is added, offsets are
committed, the transaction ends, and each waits for the one before. The client makes a task of each
step, and every time waits anew for all that could happen meanwhile, which takes more than the step.
What a step does, and what it makes of an answer, are the client's own.
"""
# ruff: noqa: SLF001  # see the package

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka.errors import (
    KafkaError,
    OutOfOrderSequenceNumber,
    ProducerFenced,
    TransactionalIdAuthorizationFailed,
)
from aiokafka.producer import producer
from aiokafka.producer.producer import AIOKafkaProducer
from aiokafka.producer.sender import Sender

log = logging.getLogger(__name__)

_ENDS = (ProducerFenced, OutOfOrderSequenceNumber, TransactionalIdAuthorizationFailed)
"""What ends a producer as itself; whatever else does is the cause of a KafkaError."""

_PATCHED = "is_patched"


def install() -> None:
    """Have every producer of this process send so; more than once changes nothing."""
    producer.Sender = StepwiseSender
    if not hasattr(AIOKafkaProducer.begin_transaction, _PATCHED):
        AIOKafkaProducer.begin_transaction = _at_once(AIOKafkaProducer.begin_transaction)


class StepwiseSender(Sender):  # type: ignore[misc]  # the client ships no types
    """The client's own, whose routine is a loop of steps where there are transactions."""

    async def _sender_routine(self) -> None:
        """Do what there is to do until this task is cancelled; raises what ends the producer."""
        if self._txn_manager is None or self._txn_manager.transactional_id is None:
            await super()._sender_routine()
            return
        try:
            while True:
                await self._maybe_wait_for_pid()
                await self._step()
        except asyncio.CancelledError:
            return  # as the client does: who closes it waits for this task
        except _ENDS:
            raise
        except Exception as error:
            log.exception("Unexpected error in sender routine")
            text = "Unexpected error during batch delivery"
            raise KafkaError(text) from error

    async def _step(self) -> None:
        """Do the next step of the transaction, or wait until there is one."""
        manager, waiting = self._txn_manager, self._message_accumulator
        if partitions := manager.partitions_to_add():
            await self._do_add_partitions_to_txn(partitions)
            return
        batches, has_unknown_leader = waiting.drain_by_nodes(ignore_nodes=())
        # Whoever has something to do sets one or the other; nothing is awaited until both are one.
        manager._task_waiter = something = waiting.waiter()
        if batches:
            await self._send(batches)
        elif has_unknown_leader:
            await self.client.force_metadata_update()
        elif (group := manager.consumer_group_to_add()) is not None:
            await self._do_add_offsets_to_txn(group)
        elif (offsets := manager.offsets_to_commit()) is not None:
            await self._do_txn_offset_commit(*offsets)
        elif (result := manager.needs_transaction_commit()) is not None:
            await self._do_txn_commit(result)
        else:
            await something

    async def _send(self, batches: dict[int, dict[Any, Any]]) -> None:
        """Send what is ready, to several nodes at once."""
        for node, its in batches.items():
            self._in_flight.add(node)
            self._muted_partitions.update(its)
        if len(batches) == 1:
            ((node, its),) = batches.items()
            await self._send_produce_req(node, its)
        else:
            await asyncio.gather(*(self._send_produce_req(*one) for one in batches.items()))


def _at_once(begin: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
    """Begin a transaction without a task of its own where there is nothing to wait for."""

    async def begin_at_once(made: Any) -> None:  # noqa: ANN401  # the client ships no types
        if made._txn_manager is not None and made._txn_manager.has_pid():
            made._ensure_transactional()
            made._txn_manager.begin_transaction()
        else:
            await begin(made)

    setattr(begin_at_once, _PATCHED, True)
    return begin_at_once

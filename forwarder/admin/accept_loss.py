"""``forwarder accept-loss``: go on without what is lost, by a new base and with consent."""

import asyncio
from typing import Any

import msgspec

from forwarder.admin import repair
from forwarder.admin.contract import GroupSurvey
from forwarder.admin.repair import (
    Loss,
    LossDecision,
    RepairCase,
    RepairedSnapshot,
    RepairPlan,
    Resend,
)
from forwarder.clock import Clock
from forwarder.errors import ForwarderError, RefusedError
from forwarder.model import Partition


class AcceptLossRequest(msgspec.Struct, frozen=True):
    """What the operator asks for; ``begin``: ``earliest``, ``latest``, digits, or nothing."""

    partition: Partition
    keying_rules: dict[str, str]
    connection: str | None = None
    begin: str = ""
    resend: Resend = Resend.KNOWN


LOOKS = 3
PAUSE_SECONDS = 0.5
"""A commit may be seen a moment before the records of its transaction are: while a worker runs,
a loss counts once it was seen so often."""


async def find_losses(survey: GroupSurvey, wish: AcceptLossRequest, clock: Clock) -> RepairPlan:
    """Find what is lost while others may write; raises ForwarderError for what is no loss."""
    for _ in range(LOOKS - 1):
        _, plan = await _look(survey, wish, clock)
        if not plan.losses:
            return plan
        await asyncio.sleep(PAUSE_SECONDS)
    return (await _look(survey, wish, clock))[1]


async def _look(
    survey: GroupSurvey, wish: AcceptLossRequest, clock: Clock
) -> tuple[RepairCase, RepairPlan]:
    partition = wish.partition
    found = await survey.find(partition, whole=True)
    case = RepairCase(survey.group_id, partition.topic, found, wish.keying_rules, clock.wall_ms())
    choice = LossDecision(wish.connection, _offset(wish, case), wish.resend)
    try:
        return case, repair.plan_repair(case, choice)
    except RefusedError as refusal:
        text = f"{partition}: cannot be accepted: {refusal}"
        raise ForwarderError(text) from refusal


def _offset(wish: AcceptLossRequest, case: RepairCase) -> int | None:
    found = case.found
    words = {"earliest": found.input_start, "latest": found.input_end, "": None}
    return words[wish.begin] if wish.begin in words else int(wish.begin)


async def accept_losses(
    survey: GroupSurvey, wish: AcceptLossRequest, clock: Clock, shown: list[Loss]
) -> RepairedSnapshot:
    """Fence the owner, look again, and write the base that opens; return what was written.

    ``shown``: the losses that were consented to. Raises ForwarderError, also if others are found
    now; then nothing is written.
    """
    writer = survey.writer(wish.partition)
    try:
        await writer.start()
        case, plan = await _look(survey, wish, clock)
        if not _covered(plan, shown):
            text = f"{wish.partition}: what is lost has changed meanwhile; look again"
            raise ForwarderError(text)
        written = repair.build_snapshot(case, plan)
        _check(wish, case, written)
        await writer.commit(written.values, lambda at: written.commit(at[0]))
    finally:
        await writer.close()
    return written


def _covered(plan: RepairPlan, shown: list[Loss]) -> bool:
    agreed = {(loss.kind, loss.connections) for loss in shown}
    return bool(plan.losses) and {(loss.kind, loss.connections) for loss in plan.losses} <= agreed


def _check(wish: AcceptLossRequest, case: RepairCase, written: RepairedSnapshot) -> None:
    """Write nothing that would not open: it could hide what the operator still has to decide."""
    try:
        repair.check_opens(case, written)
    except RefusedError as refusal:
        text = f"{wish.partition} would not open even then: {refusal}"
        raise ForwarderError(text) from refusal


def document(
    wish: AcceptLossRequest, plan: RepairPlan, written: RepairedSnapshot | None
) -> dict[str, Any]:
    """Return what was found and done, with stable keys."""
    return {
        "topic": wish.partition.topic,
        "number": wish.partition.number,
        "losses": [
            {
                "kind": loss.kind.value,
                "connections": list(loss.connections),
                "what": loss.what,
                "given_up": loss.given_up,
            }
            for loss in plan.losses
        ],
        "undecided": plan.undecided or None,
        "accepted": written is not None,
        "tick": written.n if written else None,
        "collects_from": written.offset if written else None,
    }

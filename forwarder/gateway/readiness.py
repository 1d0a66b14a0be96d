"""Whether what a gateway needs answers: asked every few seconds, told to its health and its log."""

import asyncio
from collections.abc import Mapping

import structlog

from forwarder.errors import ForwarderError
from forwarder.gateway.contract import Dependency
from forwarder.ops.gateway_health import GatewayHealth

log = structlog.get_logger()

ASK_SECONDS = 2.0
"""Between two questions."""

ANSWER_SECONDS = 5.0
"""How long an answer may take until it counts as none."""


async def run(needs: Mapping[str, Dependency], health: GatewayHealth) -> None:
    """Ask everything needed, for ever, whatever of it is silent. Caller: the gateway's chores."""
    async with asyncio.TaskGroup() as group:
        for name, one in needs.items():
            group.create_task(_keep_asking(name, one, health))


async def _keep_asking(name: str, one: Dependency, health: GatewayHealth) -> None:
    while True:
        await ask(name, one, health)
        await asyncio.sleep(ASK_SECONDS)


async def ask(name: str, one: Dependency, health: GatewayHealth) -> None:
    """Ask one of them once, and take note of what it says."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await one.check()
    except TimeoutError:
        what, remedy = f"no answer within {ANSWER_SECONDS:.0f} s", "see whether it is overloaded"
    except ForwarderError as error:
        what, remedy = error.what, error.remedy
    else:
        if health.answers(name):
            log.info("dependency.answers", dependency=name)
        return
    if health.fails(name, what, remedy):
        log.warning("dependency.fails", dependency=name, error=what, remedy=remedy)

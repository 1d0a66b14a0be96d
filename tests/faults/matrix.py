"""The matrix: what AWS does wrong, row by row."""

import asyncio
from collections.abc import Sequence
from typing import Any

from tests.faults.load import SMALL_BYTES
from tests.faults.rows import Act, Content, Plot, Row


def role(actions: Sequence[str] = ("PutRecord", "PutRecords")) -> Content:
    """Return a lane that assumes a role of its own, which may do so much and no more."""
    return {"role": [f"kinesis:{action}" for action in actions]}


def during(*faults: dict[str, Any]) -> Act:
    """Let these befall the row's stream, all of them for the whole time."""

    async def act(plot: Plot) -> None:
        await _befall(plot, [{"stream": plot.stream(""), **fault} for fault in faults])

    return act


async def _befall(plot: Plot, faults: Sequence[dict[str, Any]]) -> None:
    numbers = [await plot.aws.fault(**fault) for fault in faults]
    await plot.last()
    for number in numbers:
        await plot.aws.end(number)


async def nothing(plot: Plot) -> None:
    """Let all be well."""
    await plot.last()


async def expired_token(plot: Plot) -> None:
    """Let every session end before its time, again and again."""

    async def revoked() -> None:
        while True:
            await plot.aws.fault(fault="revoke", role=plot.role(""))
            await asyncio.sleep(plot.seconds / 3)

    # A session that has yet to begin on a busy machine ends with one of the next times.
    revoking = asyncio.create_task(revoked())
    try:
        await plot.last()
    finally:
        revoking.cancel()


async def sts_down(plot: Plot) -> None:
    """Hand out a short session, then be away until it has expired, and longer."""
    sts = {"service": "sts", "role": plot.role("")}
    short = await plot.aws.fault(fault="lifetime", lifetime=plot.seconds / 3, **sts)
    await plot.aws.fault(fault="revoke", role=plot.role(""))
    await asyncio.sleep(1)
    away: list[dict[str, Any]] = [
        {"fault": "reset", "rate": 0.5},
        {"fault": "error", "code": "ServiceUnavailable"},
    ]
    await _befall(plot, [{**sts, **fault} for fault in away])
    await plot.aws.end(short)


async def external_id(plot: Plot) -> None:
    """Ask for another ExternalId until somebody corrects it."""
    sts = {"service": "sts", "role": plot.role("")}
    number = await plot.aws.fault(fault="trust", external_id="orgid:2", **sts)
    await plot.aws.fault(fault="revoke", role=plot.role(""))
    await plot.last()
    await plot.aws.end(number)


WAYS: tuple[dict[str, Any], ...] = (
    {"fault": "stall", "delay": 30.0},
    {"fault": "error", "code": "InternalFailure"},
    {"fault": "error", "code": "AccessDeniedException"},
    {"fault": "reset"},
    {"fault": "throttle"},
    {"fault": "error", "code": "KMSThrottlingException"},
    {"fault": "deleted"},
    {"fault": "error", "code": "ServiceUnavailable"},
    {"fault": "error", "code": "KMSDisabledException"},
)
"""How nine lanes are down beside each other."""


async def nine_down(plot: Plot) -> None:
    """Let nine lanes be down, each in a way of its own."""
    await _befall(plot, [{"stream": plot.stream(str(n)), **way} for n, way in enumerate(WAYS)])


THROTTLED = "ProvisionedThroughputExceeded"
ROWS = (
    Row(
        "partial",
        "20 % of the records are refused",
        during({"fault": "partial", "rate": 0.2}),
        meets=THROTTLED,
    ),
    Row(
        "shard",
        "one shard of four takes nothing",
        during({"fault": "throttle", "shard": 0}),
        meets=THROTTLED,
    ),
    Row(
        "errors",
        "every answer is 500",
        during({"fault": "error", "code": "InternalFailure"}),
        seconds=60,
        meets="InternalFailure",
    ),
    Row(
        "resets",
        "half of the connections are reset",
        during({"fault": "reset", "rate": 0.5}),
        meets="Unanswered",
    ),
    Row(
        "answers",
        "half of the answers are lost after storing",
        during({"fault": "lost", "rate": 0.5}),
        meets="Unanswered",
    ),
    Row(
        "stray",
        "answers come twice, or instead of those to other puts",
        during(
            {"fault": "stray", "moment": "instead", "rate": 0.2},
            {"fault": "stray", "delay": 0.005},
        ),
        meets="Unanswered",
    ),
    Row(
        "expired-token",
        "all sessions end before their time, three times",
        expired_token,
        lanes={"": role()},
        meets="ExpiredToken",
        quiet=True,
    ),
    Row(
        "sts",
        "STS is away past the token's life",
        sts_down,
        seconds=60,
        lanes={"": role()},
        meets="ServiceUnavailable",
    ),
    Row(
        "external-id",
        "a wrong ExternalId, then corrected",
        external_id,
        lanes={"": role()},
        meets="AccessDenied",
    ),
    Row(
        "stream",
        "the stream is deleted, then made again",
        during({"fault": "deleted"}),
        meets="ResourceNotFound",
    ),
    Row(
        "kms",
        "the key is disabled, then enabled",
        during({"fault": "error", "code": "KMSDisabledException"}),
        meets="KMSDisabled",
    ),
    Row(
        "input",
        "malformed records and events too large among the others",
        nothing,
        lanes={"": {"sink": {"max_record_bytes": f"{SMALL_BYTES}B"}}},
        broken=5.0,
        large=2.0,
    ),
    Row(
        "put-record",
        "the policy grants PutRecord only",
        nothing,
        lanes={"": role(["PutRecord"])},
        meets="AccessDenied",
        quiet=True,
    ),
    Row(
        "put-records",
        "the policy grants PutRecords only",
        nothing,
        lanes={"": role(["PutRecords"])},
    ),
    Row(
        "one-down",
        "no answer at all, beside nine healthy lanes",
        during({"fault": "stall", "delay": 30.0}),
        seconds=600,
        beside=9,
        calm=30,
        meets="Unanswered",
    ),
    Row(
        "outage",
        "nine of ten lanes are down, each in its own way",
        nine_down,
        seconds=600,
        lanes={str(number): {} for number in range(len(WAYS))},
        beside=1,
        calm=30,
        meets="KMSDisabled",
        weighed=True,
    ),
)

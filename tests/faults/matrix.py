"""The matrix: what AWS does wrong, row by row."""

import asyncio
from collections.abc import Sequence
from typing import Any

from tests.faults.rows import Act, Content, Plot, Row


def role(actions: Sequence[str] = ("PutRecord", "PutRecords")) -> Content:
    """Return a lane that assumes a role of its own, which may do so much and no more."""
    return {"role": [f"kinesis:{action}" for action in actions]}


def during(*faults: dict[str, Any]) -> Act:
    """Let these befall the row's stream, all of them for the whole time."""

    async def act(plot: Plot) -> None:
        for fault in faults:
            await plot.aws.fault(stream=plot.stream(""), seconds=plot.seconds, **fault)
        await asyncio.sleep(plot.seconds)

    return act


async def nothing(plot: Plot) -> None:
    """Let all be well."""
    await asyncio.sleep(plot.seconds)


async def expired_token(plot: Plot) -> None:
    """Let every session end before its time, again and again."""
    for _ in range(3):
        await plot.aws.fault(fault="revoke", role=plot.role(""))
        await asyncio.sleep(plot.seconds / 3)


async def sts_down(plot: Plot) -> None:
    """Hand out a short session, then be away until it has expired, and longer."""
    role_arn = plot.role("")
    life = plot.seconds / 3
    number = await plot.aws.fault(fault="lifetime", lifetime=life, service="sts", role=role_arn)
    await plot.aws.fault(fault="revoke", role=role_arn)
    await asyncio.sleep(1)
    away = {"service": "sts", "role": role_arn, "seconds": plot.seconds}
    await plot.aws.fault(fault="reset", rate=0.5, **away)
    await plot.aws.fault(fault="error", code="ServiceUnavailable", **away)
    await asyncio.sleep(plot.seconds)
    await plot.aws.end(number)


async def external_id(plot: Plot) -> None:
    """Ask for another ExternalId until somebody corrects it."""
    role_arn = plot.role("")
    told = {"external_id": "orgid:2", "service": "sts", "role": role_arn}
    await plot.aws.fault(fault="trust", seconds=plot.seconds, **told)
    await plot.aws.fault(fault="revoke", role=role_arn)
    await asyncio.sleep(plot.seconds)


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
    for number, fault in enumerate(WAYS):
        await plot.aws.fault(stream=plot.stream(str(number)), seconds=plot.seconds, **fault)
    await asyncio.sleep(plot.seconds)


ROWS = (
    Row("partial", "20 % of the records are refused", during({"fault": "partial", "rate": 0.2})),
    Row("shard", "one shard takes nothing", during({"fault": "throttle", "shard": 0})),
    Row("errors", "500", during({"fault": "error", "code": "InternalFailure"}), seconds=60),
    Row("resets", "half of the requests are reset", during({"fault": "reset", "rate": 0.5})),
    Row("answers", "half of the answers are lost", during({"fault": "lost", "rate": 0.5})),
    Row("expired-token", "sessions end mid-run", expired_token, lanes={"": role()}),
    Row("sts", "STS is away past the token's life", sts_down, seconds=60, lanes={"": role()}),
    Row("external-id", "a wrong ExternalId, corrected", external_id, lanes={"": role()}),
    Row("stream", "the stream is deleted and made again", during({"fault": "deleted"})),
    Row(
        "kms",
        "the key is disabled and enabled again",
        during({"fault": "error", "code": "KMSDisabledException"}),
    ),
    Row(
        "input",
        "malformed records, and events too large",
        nothing,
        lanes={"": {"sink": {"max_record_bytes": "64KiB"}}},
        broken=5.0,
        large=2.0,
    ),
    Row("put-record", "PutRecord only", nothing, lanes={"": role(["PutRecord"])}),
    Row("put-records", "PutRecords only", nothing, lanes={"": role(["PutRecords"])}),
    Row(
        "one-down",
        "no answers, beside nine healthy lanes",
        during({"fault": "stall", "delay": 30.0}),
        seconds=600,
        beside=9,
        calm=60,
    ),
    Row(
        "outage",
        "nine of ten lanes are down",
        nine_down,
        seconds=600,
        lanes={str(number): {} for number in range(len(WAYS))},
        beside=1,
        calm=60,
        weighed=True,
    ),
)

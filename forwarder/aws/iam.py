"""The IAM policies that are exactly enough for a connection, ready to paste."""

from collections.abc import Sequence
from typing import Any

import msgspec

from forwarder.config.connection import (
    AssumedRole,
    Connection,
    FileTarget,
    FirehoseTarget,
    KinesisTarget,
    PutMode,
)

Document = dict[str, Any]

ACCOUNT = "ACCOUNT_ID"
"""Stands for an account that nothing tells."""
PRINCIPAL = "PRINCIPAL_ARN"
"""Stands for who runs the worker."""

_VERSION = "2012-10-17"
_ACTIONS = {
    PutMode.AUTO: ["kinesis:PutRecord", "kinesis:PutRecords"],
    PutMode.RECORD: ["kinesis:PutRecord"],
    PutMode.RECORDS: ["kinesis:PutRecords"],
}


class Policies(msgspec.Struct, frozen=True):
    """What a connection needs; ``trust`` and ``worker`` only where a role is assumed.

    ``holder`` is who needs ``permission``, ``notes`` what a person has to see to.
    """

    holder: str
    permission: Document
    trust: Document | None
    worker: Document | None
    notes: Sequence[str]


def policies(
    connection: Connection, partition: str, principal: str | None = None
) -> Policies | None:
    """Return a connection's policies; None if it needs none: its sink is a file.

    ``partition`` is the AWS partition of the sink's region, ``principal`` the ARN of the worker;
    None: a placeholder.
    """
    sink, credentials = connection.sink, connection.credentials
    if isinstance(sink, FileTarget):
        return None
    role = credentials if isinstance(credentials, AssumedRole) else None
    owner = role.role_arn if role else principal
    account = owner.split(":")[4] if owner else ACCOUNT
    return Policies(
        holder=role.role_arn
        if role
        else "the identity of the connection's access keys"
        if credentials
        else "the worker",
        permission=_policy(_put(sink, partition, account)),
        trust=_policy(_trust(role, principal or PRINCIPAL)) if role else None,
        worker=_policy(_assume(role)) if role else None,
        notes=tuple(_notes(sink, account, role, principal)),
    )


def _policy(statement: Document) -> Document:
    return {"Version": _VERSION, "Statement": [statement]}


def _put(sink: KinesisTarget | FirehoseTarget, partition: str, account: str) -> Document:
    if isinstance(sink, FirehoseTarget):
        actions = ["firehose:PutRecordBatch"]
        what = f"firehose:{sink.region}:{account}:deliverystream/{sink.delivery_stream_name}"
    else:
        actions = _ACTIONS[sink.put]
        what = f"kinesis:{sink.region}:{account}:stream/{sink.name}"
        if sink.arn:
            return {"Effect": "Allow", "Action": actions, "Resource": sink.arn}
    return {"Effect": "Allow", "Action": actions, "Resource": f"arn:{partition}:{what}"}


def _trust(role: AssumedRole, principal: str) -> Document:
    statement: Document = {
        "Effect": "Allow",
        "Principal": {"AWS": principal},
        "Action": "sts:AssumeRole",
    }
    if role.external_id:
        statement["Condition"] = {"StringEquals": {"sts:ExternalId": role.external_id}}
    return statement


def _assume(role: AssumedRole) -> Document:
    return {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": role.role_arn}


def _notes(
    sink: KinesisTarget | FirehoseTarget,
    account: str,
    role: AssumedRole | None,
    principal: str | None,
) -> list[str]:
    found = []
    by_arn = isinstance(sink, KinesisTarget) and sink.arn
    if account == ACCOUNT and not by_arn:
        found.append(f"replace {ACCOUNT} by the account of the stream")
    if role and principal is None:
        found.append(
            f"replace {PRINCIPAL} by the ARN of the role or user the worker runs as"
            " (--principal asks AWS for it)"
        )
    if role and not role.external_id:
        found.append("no ExternalId is sent: whoever may use the worker's identity may assume this")
    if by_arn and account not in {ACCOUNT, by_arn.split(":")[4]}:
        found.append(
            "the stream is of another account: its own resource policy has to allow the same"
        )
    if isinstance(sink, KinesisTarget):
        found.append(
            "if the stream is encrypted with a KMS key of the customer's, allow"
            " kms:GenerateDataKey on that key, too, here and in the key's own policy"
        )
    return found

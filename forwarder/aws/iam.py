"""The IAM policies that are exactly enough for a connection, ready to paste."""

from collections.abc import Sequence
from typing import Any

import msgspec

from forwarder.config.connection import Connection
from forwarder.config.credentials import AssumedRole
from forwarder.config.targets import PINPOINT, Target

Document = dict[str, Any]

ACCOUNT_PLACEHOLDER = "ACCOUNT_ID"
"""Stands for an account that nothing tells."""
PRINCIPAL_PLACEHOLDER = "PRINCIPAL_ARN"
"""Stands for who runs the worker."""

_VERSION = "2012-10-17"


class IamPolicies(msgspec.Struct, frozen=True):
    """What a connection needs; ``trust`` and ``worker`` only where a role is assumed.

    ``holder`` is who needs ``permission``, ``notes`` what remains to be done by hand.
    """

    holder: str
    permission: Document
    trust: Document | None
    worker: Document | None
    notes: Sequence[str]


def iam_policies(
    connection: Connection, partition: str, principal: str | None = None
) -> IamPolicies | None:
    """Return a connection's policies; None if it needs none: its sink is a file.

    ``partition`` is the AWS partition of the sink's region, ``principal`` the ARN of the worker;
    None: a placeholder.
    """
    sink, role = connection.sink, connection.credentials.role
    if not sink.actions:
        return None
    owner = role.role_arn if role else principal
    account = owner.split(":")[4] if owner else ACCOUNT_PLACEHOLDER
    put = {
        "Effect": "Allow",
        "Action": list(sink.actions),
        "Resource": sink.resource(partition, account),
    }
    return IamPolicies(
        holder=connection.credentials.holder,
        permission=_policy(put),
        trust=trust_policy(role.external_id, principal or PRINCIPAL_PLACEHOLDER) if role else None,
        worker=_policy(_assume(role)) if role else None,
        notes=tuple(_notes(sink, account, role, principal)),
    )


def _policy(statement: Document) -> Document:
    return {"Version": _VERSION, "Statement": [statement]}


def trust_policy(external_id: str | None, principal: str) -> Document:
    """Return what a role has to trust, so that ``principal`` may assume it with this ExternalId."""
    statement: Document = {
        "Effect": "Allow",
        "Principal": {"AWS": principal},
        "Action": "sts:AssumeRole",
    }
    if external_id:
        statement["Condition"] = {"StringEquals": {"sts:ExternalId": external_id}}
    return _policy(statement)


def _assume(role: AssumedRole) -> Document:
    return {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": role.role_arn}


def _notes(
    sink: Target,
    account: str,
    role: AssumedRole | None,
    principal: str | None,
) -> list[str]:
    found = []
    if account == ACCOUNT_PLACEHOLDER and sink.account is None:
        found.append(f"replace {ACCOUNT_PLACEHOLDER} by the account of the stream")
    if role and principal is None:
        found.append(
            f"replace {PRINCIPAL_PLACEHOLDER} by the ARN of the role or user the worker runs as"
            " (--principal asks AWS for it)"
        )
    if role and not role.external_id:
        found.append("no ExternalId is sent: whoever may use the worker's identity may assume this")
    if role and sink.format == PINPOINT:
        found.append(
            "a role that Pinpoint used needs no other permission policy; this trust policy"
            " takes the place of its statement for pinpoint.amazonaws.com"
        )
    if sink.account is not None and account not in {ACCOUNT_PLACEHOLDER, sink.account}:
        found.append(
            "the stream is of another account: its own resource policy has to allow the same"
        )
    return [*found, *sink.policy_notes()]

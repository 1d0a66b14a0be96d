"""Policy documents: who may do what with which resource, as far as a put and a role need it."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

Document = Mapping[str, Any]


def allow(actions: Sequence[str], resource: str = "*") -> Document:
    """Return a policy that allows these actions."""
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": resource}
    return {"Version": "2012-10-17", "Statement": [statement]}


def trust(principal: str, external_id: str | None = None) -> Document:
    """Return a trust policy for a principal's ARN, with the ExternalId it asks for."""
    statement: dict[str, object] = {
        "Effect": "Allow",
        "Principal": {"AWS": principal},
        "Action": "sts:AssumeRole",
    }
    if external_id is not None:
        statement["Condition"] = {"StringEquals": {"sts:ExternalId": external_id}}
    return {"Version": "2012-10-17", "Statement": [statement]}


def allows(document: Document, action: str, resource: str) -> bool:
    """Tell whether a policy allows an action; what denies it wins."""
    effects = {
        statement["Effect"]
        for statement in _several(document["Statement"])
        if _matches(statement["Action"], action.lower(), lower=True)
        and _matches(statement.get("Resource", "*"), resource)
        # A condition that is not understood here must not open anything.
        and not statement.get("Condition")
    }
    return effects == {"Allow"}


def trusts(document: Document, caller: Sequence[str], external_id: str | None) -> bool:
    """Tell whether a role's trust policy lets a caller assume it.

    ``caller``: every ARN that means the caller, that of its account's root included.
    """
    given = {} if external_id is None else {"sts:ExternalId": external_id}
    effects = {
        statement["Effect"]
        for statement in _several(document["Statement"])
        if _matches(statement["Action"], "sts:assumerole", lower=True)
        and _means(statement["Principal"], caller)
        and _holds(statement.get("Condition", {}), given)
    }
    return effects == {"Allow"}


def _means(principal: object, caller: Sequence[str]) -> bool:
    named = principal.get("AWS", ()) if isinstance(principal, Mapping) else principal
    wanted = [one if ":" in one or one == "*" else root_arn(one) for one in _several(named)]
    return "*" in wanted or any(arn in wanted for arn in caller)


def _holds(condition: Document, given: Mapping[str, str]) -> bool:
    """Tell whether every test holds; one by an operator unknown here does not."""
    return all(
        operator in {"StringEquals", "StringLike"}
        and key in given
        and any(
            fnmatchcase(given[key], one) if operator == "StringLike" else given[key] == one
            for one in _several(wanted)
        )
        for operator, tests in condition.items()
        for key, wanted in tests.items()
    )


def root_arn(account: str) -> str:
    """Return the ARN that means a whole account."""
    return f"arn:aws:iam::{account}:root"


def _matches(patterns: object, text: str, *, lower: bool = False) -> bool:
    return any(fnmatchcase(text, one.lower() if lower else one) for one in _several(patterns))


def _several(one_or_more: Any) -> Sequence[Any]:  # noqa: ANN401  # JSON leaves it open
    alone = isinstance(one_or_more, str | Mapping)
    return [one_or_more] if alone else list(one_or_more)

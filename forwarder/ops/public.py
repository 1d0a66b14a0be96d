"""What may leave on an open port: no secret, no role, no account, no ExternalId.

The log names them where whoever reads it needs them; a status page is read by whoever reaches it.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from forwarder.config import masking
from forwarder.config.connection import Connection
from forwarder.ops import logs

ACCOUNT, PRINCIPAL, EXTERNAL_ID, KEY = "(account)", "(ARN)", "(ExternalId)", "(key)"

MIN_EXTERNAL_ID_CHARS = 6
"""Characters of an ExternalId that is found wherever it stands; a shorter one may be any word."""

_PATTERNS: Sequence[tuple[re.Pattern[str], str]] = (
    # Of an identity the name says as much as the account.
    (re.compile(r"\barn:[\w-]+:(?:iam|sts):[^\s,;'\"<>)\]}]*[\w/]"), PRINCIPAL),
    (re.compile(r"(\bwith ExternalId )\S+?(?=[:;,.]?(?:\s|$))"), rf"\1{EXTERNAL_ID}"),
    (re.compile(r"\borgid:[\w+=,.@:/-]*\w"), EXTERNAL_ID),
    (re.compile(r"\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{8,}\b"), KEY),
    # In an ARN, or by itself; shards are named with twelve digits, too.
    (re.compile(r"(?<![\w-])\d{12}(?![\w-])"), ACCOUNT),
)


class PublicView:
    """Make values fit for an open port. Caller: the server, with all that it answers."""

    def __init__(self, connections: Iterable[Connection] = ()) -> None:
        """Collect the connections' accounts, roles and ExternalIds; others are known by form."""
        named: dict[str, str] = {}
        for connection in connections:
            if account := connection.sink.account:
                named[account] = ACCOUNT  # the stream's name may hold it once more
            if role := connection.credentials.role:
                named[role.role_arn] = PRINCIPAL
                named[role.account] = ACCOUNT
                if role.external_id and len(role.external_id) >= MIN_EXTERNAL_ID_CHARS:
                    named[role.external_id] = EXTERNAL_ID
        longest_first = sorted(filter(None, named), key=len, reverse=True)
        self._named = named
        self._pattern = (
            re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
        )

    def __call__(self, value: Any) -> Any:  # noqa: ANN401  # what JSON can hold
        """Return the same value with every text in it fit to be seen."""
        # Of a hundred connections on fifty partitions the same few texts come thousands of times.
        return self._clean(value, {})

    def _clean(self, value: Any, known: dict[str, str]) -> Any:  # noqa: ANN401  # what JSON can hold
        if isinstance(value, str):
            if value not in known:
                known[value] = self._text(value)
            return known[value]
        if isinstance(value, dict):
            # Names of partitions and connections stay as the metrics have them.
            return {key: self._clean(one, known) for key, one in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._clean(one, known) for one in value]
        return value

    def _text(self, text: str) -> str:
        text = masking.mask_line(logs.masked(text))
        if self._pattern is not None:
            text = self._pattern.sub(lambda found: self._named[found[0]], text)
        for pattern, instead in _PATTERNS:
            text = pattern.sub(instead, text)
        return text

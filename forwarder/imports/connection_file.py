"""The connection file that carries an event stream on, and what its role has to trust."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from forwarder.config import checks
from forwarder.config.yaml.values import TextValue
from forwarder.imports.event_stream import ACCOUNT, EventStream, as_written, is_resolved, unresolved

_UNFIT = re.compile(r"[^a-zA-Z0-9._-]+")
_MAX_NAME_CHARS = 90
_NO_VARIABLE = re.compile(r"[^A-Z0-9]+")


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What the person who imports says beside the source; None: follows from it."""

    name: str | None = None
    role: str | None = None
    external_id: str | None = None
    topic: str | None = None


@dataclass(frozen=True, slots=True)
class ImportedConnection:
    """A connection file, not yet written.

    ``variables``: by name, what the source does not tell and the file takes from the environment.
    ``role``: the ARN of the role that is assumed, None where the source does not tell it.
    """

    name: str
    text: str
    role: str | None
    external_id: str
    variables: Mapping[str, str] = field(default_factory=dict)


def connection_files(
    streams: Sequence[EventStream], options: ImportOptions, source: str
) -> list[ImportedConnection]:
    """Return a file for each stream; ``source`` says where they were read."""
    made: list[ImportedConnection] = []
    taken: set[str] = set()
    for stream in streams:
        name = _free_name(options.name or _name_of(stream), taken)
        taken.add(name)
        own = _NO_VARIABLE.sub("_", name.upper()).strip("_")
        suffix = f"_{own}" if len(streams) > 1 else ""
        made.append(_Draft(stream, options, suffix).file(name, source))
    return made


def _name_of(stream: EventStream) -> str:
    """Name a connection by its stream, or what its source calls it; an app's id looks random."""
    name = stream.destination.name
    base = name if is_resolved(name) else stream.label.rpartition(".")[2]
    return (_UNFIT.sub("-", base).strip("-") or "event-stream")[:_MAX_NAME_CHARS]


def _free_name(name: str, taken: set[str]) -> str:
    numbered = (f"{name}-{number}" for number in range(2, len(taken) + 3))
    return next(one for one in (name, *numbered) if one not in taken)


class _Draft:
    """One connection file while it is written."""

    def __init__(self, stream: EventStream, options: ImportOptions, suffix: str) -> None:
        self._stream = stream
        self._options = options
        self._suffix = suffix
        self._variables: dict[str, str] = {}

    def file(self, name: str, source: str) -> ImportedConnection:
        """Return the file."""
        application = self._known(self._stream.application, "PINPOINT_APP_ID", own=True)
        account = self._known(self._stream.destination.account, "AWS_ACCOUNT_ID")
        # The account of a role is often the one thing of it that is not known.
        role = self._options.role or self._stream.role.replace(unresolved(ACCOUNT), account)
        external_id = self._options.external_id or f"pinpoint:{account}"
        match = {"topic": f"[{_written(self._options.topic)}]"} if self._options.topic else {}
        sections: dict[str, Mapping[str, str]] = {
            "match": {**match, "application": f"[{_written(application)}]"},
            "credentials": {
                "role_arn": _written(self._known(role, "EVENT_STREAM_ROLE_ARN", own=True)),
                "external_id": _written(external_id),
            },
            "sink": {
                **self._sink(),
                "format": "pinpoint",
                "app_id": _written(application),
                "aws_account_id": _written(account),
            },
        }
        said = f" ({self._stream.label})" if self._stream.label else ""
        lines = [f"# An event stream of Pinpoint, from {source}{said}", f"name: {_written(name)}"]
        for section, keys in sections.items():
            lines += [f"{section}:", *(f"  {key}: {value}" for key, value in keys.items())]
        known_role = role if is_resolved(role) and "${" not in role else None
        text = "\n".join(lines) + "\n"
        return ImportedConnection(name, text, known_role, external_id, self._variables)

    def _sink(self) -> dict[str, str]:
        """Return where records go; by its whole ARN where that is known."""
        destination = self._stream.destination
        region = _written(self._known(destination.region, "AWS_REGION"))
        if destination.service == "firehose":
            name = self._known(destination.name, "DELIVERY_STREAM_NAME", own=True)
            return {
                "type": "firehose",
                "delivery_stream_name": _written(name),
                "region": region,
            }
        whole = destination.arn if is_resolved(destination.arn) else None
        name = whole or self._known(destination.name, "EVENT_STREAM_NAME", own=True)
        # Pinpoint's roles are allowed PutRecords, and not PutRecord.
        return {
            "type": "kinesis",
            "stream_name": _written(name),
            "region": region,
            "put": "records",
        }

    def _known(self, text: str, variable: str, *, own: bool = False) -> str:
        """Return a text, or the variable that stands for what is not known of it.

        ``own``: it is of this stream alone, so that its variable is, too.
        """
        if is_resolved(text):
            return text
        name = f"{variable}{self._suffix}" if own else variable
        self._variables[name] = as_written(text)
        return f"${{{name}}}"


def _written(text: str) -> str:
    """Return a text as YAML; variables are best in quotes."""
    return f'"{text}"' if "${" in text else TextValue().show(text)


def complaints(options: ImportOptions) -> Iterator[str]:
    """Yield what is wrong with what was said beside the source."""
    judged: tuple[tuple[str, str | None, Any], ...] = (
        ("--name", options.name, checks.connection_name_complaint),
        ("--topic", options.topic, checks.kafka_name_complaint),
    )
    for option, value, check in judged:
        if value is not None and (found := check(value)):
            yield f"{option} {found.replace('{}', value)}"
    if options.role is not None and not re.fullmatch(checks.ROLE_ARN, options.role):
        yield "--role must be a role's ARN such as arn:aws:iam::111122223333:role/NAME"
    if options.external_id and not re.fullmatch(checks.EXTERNAL_ID, options.external_id):
        yield "--external-id must be 2 to 1224 of a-z A-Z 0-9 _ + = , . @ : / -"

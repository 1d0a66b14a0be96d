"""An event stream of Pinpoint as it was declared: which app's events go where, in which role.

A declaration may hold references that only AWS or a tool can resolve. Such a part of a text is kept
as ``unresolved`` makes it, so that what is known of an ARN is known all the same.
"""

import re
from dataclasses import dataclass

from forwarder.errors import ConfigurationError

ACCOUNT, REGION = "AWS::AccountId", "AWS::Region"
"""What a reference to them is called, whichever tool it is of."""

_OPEN, _CLOSE = "\x02", "\x03"
_UNRESOLVED = re.compile(f"{_OPEN}([^{_OPEN}{_CLOSE}]*){_CLOSE}")
_COLON = re.compile(rf":(?![^{_OPEN}{_CLOSE}]*{_CLOSE})")
_ARN_PARTS = 6
_PREFIXES = {"kinesis": "stream/", "firehose": "deliverystream/"}


def unresolved(expression: str) -> str:
    """Return what stands in a text for a reference that is not resolved."""
    return f"{_OPEN}{re.sub(f'[{_OPEN}{_CLOSE}]', '', expression)}{_CLOSE}"


def is_resolved(text: str) -> bool:
    """Tell whether all of a text is known."""
    return _OPEN not in text


def as_written(text: str) -> str:
    """Return a text for people, with its references as they were written."""
    return _UNRESOLVED.sub(r"\1", text)


@dataclass(frozen=True, slots=True)
class Destination:
    """A stream; each part may hold what is not resolved. ``service``: kinesis or firehose."""

    partition: str
    service: str
    region: str
    account: str
    name: str

    @property
    def arn(self) -> str:
        """Return the whole ARN."""
        resource = f"{_PREFIXES[self.service]}{self.name}"
        return f"arn:{self.partition}:{self.service}:{self.region}:{self.account}:{resource}"


@dataclass(frozen=True, slots=True)
class EventStream:
    """One declaration; ``label`` is what its source calls it, "" where it has no name there."""

    label: str
    application: str
    destination: Destination
    role: str


def destination_of(arn: str, place: str) -> Destination:
    """Take the ARN of a stream apart; raises ConfigurationError for what is none.

    ``place`` says for people where it stands.
    """
    parts = _COLON.split(arn, maxsplit=_ARN_PARTS - 1)
    if len(parts) == _ARN_PARTS and parts[0] == "arn" and parts[2] in _PREFIXES:
        _, partition, service, region, account, resource = parts
        prefix = _PREFIXES[service]
        if resource.startswith(prefix) and len(resource) > len(prefix):
            return Destination(partition, service, region, account, resource.removeprefix(prefix))
    written = as_written(arn)
    if not is_resolved(arn):
        what = f"{place}: the destination is {written}, which this source does not tell"
        advice = "give it: --destination arn:aws:kinesis:REGION:ACCOUNT:stream/NAME"
        raise ConfigurationError([f"{what}; {advice}"])
    what = f"{place}: {written!r} is no ARN of a Kinesis stream or a Firehose delivery stream"
    raise ConfigurationError([f"{what}; give it with --destination"])

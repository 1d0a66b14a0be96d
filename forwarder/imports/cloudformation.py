"""``AWS::Pinpoint::EventStream`` in a CloudFormation template, its references resolved.

What a template alone tells is resolved: parameters with a value, pseudo parameters that are given,
names that resources were given. What CloudFormation makes up stays unresolved.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from forwarder.imports.event_stream import EventStream, destination_of, unresolved

_TYPE = "AWS::Pinpoint::EventStream"
_SUB = re.compile(r"\$\{(!?)([^}]*)\}")
_NAME_KEYS = {
    "AWS::Kinesis::Stream": "Name",
    "AWS::KinesisFirehose::DeliveryStream": "DeliveryStreamName",
    "AWS::IAM::Role": "RoleName",
}
_MAX_DEPTH = 30

Template = Mapping[str, Any]


def is_template(content: object) -> bool:
    """Tell whether a document is a template."""
    return isinstance(content, Mapping) and isinstance(content.get("Resources"), Mapping)


def event_streams(
    template: Template, given: Mapping[str, str], destination: str | None
) -> Iterator[EventStream]:
    """Yield the event streams of a template, in its order.

    ``given``: values of parameters, pseudo parameters among them. ``destination`` stands in for
    that of the template. Raises ConfigurationError for a destination that is none.
    """
    resolver = _Resolver(template, given)
    for label, resource in template["Resources"].items():
        if not isinstance(resource, Mapping) or resource.get("Type") != _TYPE:
            continue
        found = resource.get("Properties")
        properties = found if isinstance(found, Mapping) else {}
        text = {
            key: resolver.text(properties.get(key), f"{label}.{key}")
            for key in ("ApplicationId", "DestinationStreamArn", "RoleArn")
        }
        yield EventStream(
            label=str(label),
            application=text["ApplicationId"],
            destination=destination_of(
                destination or text["DestinationStreamArn"], f"{label}.DestinationStreamArn"
            ),
            role=text["RoleArn"],
        )


class _Resolver:
    """Resolves values of one template."""

    def __init__(self, template: Template, given: Mapping[str, str]) -> None:
        parameters = template.get("Parameters")
        declared = parameters if isinstance(parameters, Mapping) else {}
        defaults = {
            name: str(one["Default"])
            for name, one in declared.items()
            if isinstance(one, Mapping) and "Default" in one
        }
        # CloudFormation resolves no defaults of types that are looked up in the account.
        self._values = {"AWS::Partition": "aws", **defaults, **given}
        self._resources: Mapping[str, Any] = template["Resources"]
        self._mappings = template.get("Mappings")
        self._functions: Mapping[str, Callable[[Any, int], str]] = {
            "Ref": self._ref,
            "Fn::GetAtt": self._attribute,
            "Fn::Sub": self._substituted,
            "Fn::Join": self._joined,
            "Fn::FindInMap": self._mapped,
        }

    def text(self, value: object, place: str = "", depth: int = 0) -> str:
        """Return a value as text; what is missing or of no known form is unresolved."""
        if isinstance(value, str | int) and not isinstance(value, bool):
            return str(value)
        if value is None:
            return unresolved(place)
        if isinstance(value, Mapping) and len(value) == 1 and depth < _MAX_DEPTH:
            [(name, argument)] = value.items()
            if function := self._functions.get(name):
                return function(argument, depth + 1)
            return unresolved(f"{name} of {place}" if place else str(name))
        return unresolved(place)

    def _ref(self, name: object, depth: int) -> str:
        known = self._values.get(str(name))
        if known is not None:
            return known
        return self._name(str(name), depth) or unresolved(str(name))

    def _name(self, label: str, depth: int) -> str | None:
        """Return the name of a resource that is referred to by its name; None: of another kind."""
        resource = self._resources.get(label)
        kind = resource.get("Type") if isinstance(resource, Mapping) else None
        if kind not in _NAME_KEYS:
            return None
        properties = resource.get("Properties") if isinstance(resource, Mapping) else None
        named = properties.get(_NAME_KEYS[kind]) if isinstance(properties, Mapping) else None
        return self.text(named, label, depth)

    def _attribute(self, argument: object, depth: int) -> str:
        label, _, attribute = (
            argument.partition(".")
            if isinstance(argument, str)
            else (str(argument[0]), ".", self.text(argument[1]))
            if isinstance(argument, list) and len(argument) == 2  # noqa: PLR2004  # label, attribute
            else ("", "", "")
        )
        name = self._name(label, depth) if attribute == "Arn" else None
        if name is None:
            return unresolved(f"{label}.{attribute}")
        resource = self._resources[label]
        partition, region, account = (
            self._ref(f"AWS::{one}", depth) for one in ("Partition", "Region", "AccountId")
        )
        if resource["Type"] == "AWS::IAM::Role":
            properties = resource.get("Properties") or {}
            path = self.text(properties.get("Path", "/"), f"{label}.Path", depth)
            return f"arn:{partition}:iam::{account}:role{path}{name}"
        if resource["Type"] == "AWS::Kinesis::Stream":
            return f"arn:{partition}:kinesis:{region}:{account}:stream/{name}"
        return f"arn:{partition}:firehose:{region}:{account}:deliverystream/{name}"

    def _substituted(self, argument: object, depth: int) -> str:
        template, own = (argument, {}) if isinstance(argument, str) else _pair(argument)
        values = own if isinstance(own, Mapping) else {}

        def value(match: re.Match[str]) -> str:
            literal, name = match[1], match[2].strip()
            if literal:
                return f"${{{name}}}"
            if name in values:
                return self.text(values[name], name, depth)
            resource, dot, _ = name.partition(".")
            is_attribute = dot and resource in self._resources
            return self._attribute(name, depth) if is_attribute else self._ref(name, depth)

        return _SUB.sub(value, template) if isinstance(template, str) else unresolved("Fn::Sub")

    def _joined(self, argument: object, depth: int) -> str:
        separator, parts = _pair(argument)
        if not isinstance(separator, str) or not isinstance(parts, list):
            return unresolved("Fn::Join")
        return separator.join(self.text(part, "Fn::Join", depth) for part in parts)

    def _mapped(self, argument: object, depth: int) -> str:
        found: object = self._mappings
        for key in argument if isinstance(argument, list) else ("",):
            name = self.text(key, "Fn::FindInMap", depth)
            found = found.get(name) if isinstance(found, Mapping) else None
        return str(found) if isinstance(found, str | int) else unresolved("Fn::FindInMap")


def _pair(argument: object) -> tuple[object, object]:
    if isinstance(argument, list) and len(argument) == 2:  # noqa: PLR2004  # what both functions take
        return argument[0], argument[1]
    return None, None

"""``aws_pinpoint_event_stream`` in what Terraform prints and stores as JSON.

``terraform show -json`` of a state or a plan, a ``terraform.tfstate`` file, and a configuration in
JSON syntax (Terraform, "JSON Output Format", "JSON Configuration Syntax").
"""

from collections.abc import Iterator, Mapping
from typing import Any

from forwarder.imports.event_stream import ACCOUNT, REGION, EventStream, destination_of, unresolved

TYPE = "aws_pinpoint_event_stream"
_SERVICES = {
    "aws_kinesis_stream": "kinesis",
    "aws_kinesis_firehose_delivery_stream": "firehose",
}
_RESOURCES = {"kinesis": "stream", "firehose": "deliverystream"}


def is_terraform(content: object) -> bool:
    """Tell whether a document is one that Terraform wrote."""
    return isinstance(content, Mapping) and (
        bool({"values", "planned_values"} & content.keys() and "format_version" in content)
        or ("terraform_version" in content and isinstance(content.get("resources"), list))
        or (isinstance(content.get("resource"), Mapping) and TYPE in content["resource"])
    )


def event_streams(
    content: Mapping[str, Any], given: Mapping[str, str], destination: str | None
) -> Iterator[EventStream]:
    """Yield the event streams of a document; the rest as for CloudFormation's."""
    expressions = dict(_expressions(content))
    for label, values in _resources(content):
        written = expressions.get(label.partition("[")[0], {})
        text = {
            key: _text(values.get(key), written.get(key, f"{label}.{key}"), given)
            for key in ("application_id", "destination_stream_arn", "role_arn")
        }
        yield EventStream(
            label=label,
            application=text["application_id"],
            destination=destination_of(
                destination or text["destination_stream_arn"], f"{label}.destination_stream_arn"
            ),
            role=text["role_arn"],
        )


def _text(value: object, expression: str, given: Mapping[str, str]) -> str:
    """Return a value; one that is known after apply is what can be told from its expression."""
    if isinstance(value, str) and value and "${" not in value:
        return value
    written = value[2:-1] if isinstance(value, str) and value.startswith("${") else expression
    return arn_of_reference(written, given)


def arn_of_reference(expression: str, given: Mapping[str, str], name: str | None = None) -> str:
    """Return the ARN that a reference to a stream stands for, as far as it can be told."""
    kind = expression.partition(".")[0]
    if kind not in _SERVICES or not expression.endswith(".arn"):
        return unresolved(expression)
    service = _SERVICES[kind]
    region, account = (given.get(key) or unresolved(key) for key in (REGION, ACCOUNT))
    named = name or unresolved(expression)
    return f"arn:aws:{service}:{region}:{account}:{_RESOURCES[service]}/{named}"


def _resources(content: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the values of each event stream, with its address."""
    if "format_version" in content:
        values = content.get("planned_values") or content.get("values") or {}
        yield from _of_module(values.get("root_module") or {})
    elif isinstance(content.get("resource"), Mapping):
        for name, values in (content["resource"].get(TYPE) or {}).items():
            for one in values if isinstance(values, list) else [values]:
                yield f"{TYPE}.{name}", one
    else:
        yield from _of_state_file(content.get("resources") or [])


def _of_module(module: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for resource in module.get("resources") or ():
        if resource.get("type") == TYPE and resource.get("mode", "managed") == "managed":
            yield resource.get("address", TYPE), resource.get("values") or {}
    for child in module.get("child_modules") or ():
        yield from _of_module(child)


def _of_state_file(resources: list[Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for resource in resources:
        if resource.get("type") != TYPE or resource.get("mode", "managed") != "managed":
            continue
        module = f"{resource['module']}." if resource.get("module") else ""
        for instance in resource.get("instances") or ():
            key = instance.get("index_key")
            index = "" if key is None else f"[{key!r}]".replace("'", '"')
            address = f"{module}{TYPE}.{resource.get('name')}{index}"
            yield address, instance.get("attributes") or {}


def _expressions(content: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield by address what a plan says that each value is made of."""
    root = (content.get("configuration") or {}).get("root_module") or {}
    for resource in root.get("resources") or ():
        if resource.get("type") == TYPE:
            written = {
                key: one["references"][0]
                for key, one in (resource.get("expressions") or {}).items()
                if isinstance(one, Mapping) and one.get("references")
            }
            yield resource.get("address", TYPE), written

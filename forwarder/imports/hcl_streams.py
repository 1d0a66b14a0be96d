"""``aws_pinpoint_event_stream`` in Terraform's own language.

Quoted text is known, and so are variables with a value or a default, locals and the names of
streams and roles that the same source declares. Everything else stays unresolved.
"""

import re
from collections.abc import Iterator, Mapping

from forwarder.imports import hcl
from forwarder.imports.event_stream import ACCOUNT, REGION, EventStream, destination_of, unresolved
from forwarder.imports.hcl import HclBlock
from forwarder.imports.terraform import TYPE, arn_of_reference

_BLOCK = re.compile(rf'^\s*resource\s+"?{TYPE}"?\s', re.MULTILINE)
_REFERENCE = re.compile(r"[A-Za-z_][\w-]*(?:\.[\w-]+|\[[^\]]*\])*")
_MAX_DEPTH = 20


def is_source(text: str) -> bool:
    """Tell whether a text is Terraform's language and declares an event stream."""
    return _BLOCK.search(text) is not None


def event_streams(
    text: str, given: Mapping[str, str], destination: str | None
) -> Iterator[EventStream]:
    """Yield the event streams of a source; the rest as for CloudFormation's."""
    blocks = hcl.parse(text)
    source = _Declarations(blocks, given)
    for block in blocks:
        if block.kind != "resource" or block.labels[:1] != (TYPE,):
            continue
        label = ".".join(block.labels)
        written = {
            key: source.text(block.attributes.get(key, ""), f"{label}.{key}")
            for key in ("application_id", "destination_stream_arn", "role_arn")
        }
        yield EventStream(
            label=label,
            application=written["application_id"],
            destination=destination_of(
                destination or written["destination_stream_arn"], f"{label}.destination_stream_arn"
            ),
            role=written["role_arn"],
        )


class _Declarations:
    """What the blocks of a source tell of references."""

    def __init__(self, blocks: list[HclBlock], given: Mapping[str, str]) -> None:
        self._resources = {b.labels: b for b in blocks if b.kind in {"resource", "data"}}
        self._variables = {b.labels[0]: b for b in blocks if b.kind == "variable" and b.labels}
        self._locals = {k: v for b in blocks if b.kind == "locals" for k, v in b.attributes.items()}
        providers = [b for b in blocks if b.kind == "provider" and b.labels == ("aws",)]
        region = [self.text(b.attributes["region"]) for b in providers if "region" in b.attributes]
        self._given = {**({REGION: region[0]} if region else {}), **given}

    def text(self, expression: str, place: str = "", depth: int = 0) -> str:
        """Return what an expression stands for, its references unresolved that are not known."""
        parts = hcl.quoted(expression)
        if parts is not None:
            return "".join(
                self._reference(text, depth) if is_reference else text
                for is_reference, text in parts
            )
        if _REFERENCE.fullmatch(expression):
            return self._reference(expression, depth)
        return unresolved(expression or place)

    def _reference(self, expression: str, depth: int) -> str:
        if not _REFERENCE.fullmatch(expression) or depth > _MAX_DEPTH:
            return unresolved(expression)
        kind, _, rest = expression.partition(".")
        if kind == "var" and rest in self._given:
            return self._given[rest]
        if kind == "var" and rest in self._variables:
            default = self._variables[rest].attributes.get("default", "")
            return self.text(default, expression, depth + 1)
        if kind == "local" and rest in self._locals:
            return self.text(self._locals[rest], expression, depth + 1)
        if kind == "data":
            return self._of_account(expression)
        return self._attribute(expression, depth)

    def _of_account(self, expression: str) -> str:
        """Return what the data sources of account, region and partition tell, if it is given."""
        keys = {
            ("aws_caller_identity", "account_id"): ACCOUNT,
            ("aws_region", "name"): REGION,
            ("aws_region", "id"): REGION,
            ("aws_region", "region"): REGION,
            ("aws_partition", "partition"): "AWS::Partition",
        }
        parts = expression.split(".")
        key = keys.get((parts[1], parts[-1]), "") if len(parts) > 1 else ""
        return self._given.get(key) or unresolved(key or expression)

    def _attribute(self, expression: str, depth: int) -> str:
        """Return an attribute of a resource that the source declares with a name of its own."""
        kind, label, attribute = (*expression.split("."), "", "")[:3]
        block = self._resources.get((kind, label.partition("[")[0]))
        written = block.attributes.get("name") if block else None
        name = self.text(written, expression, depth + 1) if written else None
        if attribute in {"name", "id"} and name is not None:
            return name
        if attribute != "arn":
            return unresolved(expression)
        if kind == "aws_iam_role" and name is not None and block is not None:
            account = self._given.get(ACCOUNT) or unresolved(ACCOUNT)
            path = self.text(block.attributes.get("path", '"/"'), expression, depth + 1)
            return f"arn:aws:iam::{account}:role{path}{name}"
        return arn_of_reference(expression, self._given, name)

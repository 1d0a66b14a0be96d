"""Find the event streams in a file, whichever tool it is of: told by its content, not its name."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from forwarder.errors import ConfigurationError
from forwarder.imports import cloudformation, hcl_streams, terraform
from forwarder.imports.event_stream import EventStream, destination_of, unresolved

_MAX_DEPTH = 100
_KEYS = ("ApplicationId", "DestinationStreamArn", "RoleArn")

KNOWN = (
    "the output of `aws pinpoint get-event-stream`, a CloudFormation template with an "
    "AWS::Pinpoint::EventStream, or Terraform's aws_pinpoint_event_stream (source, plan or state)"
)


def event_streams(
    text: str, given: Mapping[str, str], destination: str | None = None
) -> list[EventStream]:
    """Return the event streams that a text declares.

    ``given``: values of parameters and variables by name, among them ``AWS::Region`` and
    ``AWS::AccountId``. ``destination``: an ARN that stands in for those of the text. Raises
    ConfigurationError where it declares none, or says where none can be.
    """
    try:
        if hcl_streams.is_source(text):
            found = list(hcl_streams.event_streams(text, given, destination))
        else:
            documents = list(_documents(text))
            found = [s for one in documents for s in _of_document(one, given, destination)]
    except (AttributeError, KeyError, TypeError, IndexError, RecursionError) as error:
        what = f"has not the form that such files have ({type(error).__name__})"
        raise ConfigurationError([f"{what}; give {KNOWN}"]) from error
    if not found:
        raise ConfigurationError([f"holds no event stream; give {KNOWN}"])
    return found


def _documents(text: str) -> Iterator[object]:
    """Yield the documents of a text: JSON, one after the other as tools print them, or YAML."""
    text = text.removeprefix("\ufeff").strip()
    if text.startswith(("{", "[")):
        yield from _json_documents(text)
        return
    try:
        _refuse_depth(text)
        yield from yaml.load_all(text, Loader=_TagLoader)  # a safe loader that knows more tags
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        raise ConfigurationError([f"is neither JSON nor YAML{line}; give {KNOWN}"]) from error


def _json_documents(text: str) -> Iterator[object]:
    decoder, at = json.JSONDecoder(), 0
    while at < len(text):
        try:
            document, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            what = f"is no JSON (line {error.lineno}: {error.msg})"
            raise ConfigurationError([f"{what}; give {KNOWN}"]) from error
        yield document
        at += len(text[at:]) - len(text[at:].lstrip(" \t\r\n,"))


def _refuse_depth(text: str) -> None:
    """Look how deep a text is before it is composed, which recurses."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise ConfigurationError([f"is nested more than {_MAX_DEPTH} deep; give {KNOWN}"])


class _TagLoader(yaml.SafeLoader):
    """Reads CloudFormation's short forms, ``!Sub`` and the like, as the functions they are."""


def _function(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: object = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)  # noqa: S101  # there is no other kind
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}": value}


yaml.add_multi_constructor("!", _function, Loader=_TagLoader)


def _of_document(
    document: object, given: Mapping[str, str], destination: str | None
) -> Iterator[EventStream]:
    if isinstance(document, list):
        for one in document:
            yield from _of_document(one, given, destination)
    elif not isinstance(document, Mapping):
        return
    elif terraform.is_terraform(document):
        yield from terraform.event_streams(document, given, destination)
    elif cloudformation.is_template(document):
        yield from cloudformation.event_streams(document, given, destination)
    elif isinstance(document.get("EventStream"), Mapping):
        yield from _of_document(document["EventStream"], given, destination)
    elif "DestinationStreamArn" in document:
        application, arn, role = (
            str(document[key]) if document.get(key) else unresolved(key) for key in _KEYS
        )
        where = destination_of(destination or arn, "DestinationStreamArn")
        yield EventStream("", application, where, role)

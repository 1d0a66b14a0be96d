"""The JSON Schemas of both files, for editors: made from the fields that the loader reads by."""

import json
from typing import Any, cast

from forwarder.config.connection_fields import CONNECTION
from forwarder.config.worker_fields import WORKER
from forwarder.config.yaml.sections import Section
from forwarder.config.yaml.values import Schema

_DRAFT = "https://json-schema.org/draft/2020-12/schema"


def connection_schema() -> Schema:
    """Return the schema of a connection file; what files accept beyond it ``check`` judges."""
    about = "One destination, what is sent to it, and how: docs/configuration.md."
    return _schema(CONNECTION, "forwarder connection", about)


def worker_schema() -> Schema:
    """Return the schema of forwarder.yaml; what the file accepts beyond it ``check`` judges."""
    about = "What a worker reads, what a gateway serves, how they run: docs/configuration.md."
    schema = _schema(WORKER, "forwarder worker", about)
    kafka = cast("Any", schema["properties"])["kafka"]
    kafka["required"].remove("topics")  # which a gateway by itself does not read
    with_topics = {"properties": {"kafka": {"required": ["topics"]}}}
    return {**schema, "anyOf": [with_topics, {"required": ["gateway"]}]}


def schema_text(schema: Schema) -> str:
    """Return a schema as it is printed and stored."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _schema(section: Section, title: str, about: str) -> Schema:
    return {"$schema": _DRAFT, "title": title, "description": about, **section.schema()}

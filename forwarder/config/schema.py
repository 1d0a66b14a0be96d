"""The JSON Schema of connection files, for editors."""

import json

from forwarder.config.connection_fields import CONNECTION
from forwarder.config.yaml.values import Schema


def connection_schema() -> Schema:
    """Return the schema (draft 2020-12); what files accept beyond it ``check`` judges."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "forwarder connection",
        "description": "One destination, what is sent to it, and how: docs/configuration.md.",
        **CONNECTION.schema(),
    }


def connection_schema_text() -> str:
    """Return the schema as it is printed and stored."""
    return json.dumps(connection_schema(), indent=2, ensure_ascii=False) + "\n"

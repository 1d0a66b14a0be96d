"""What an editor that knows a JSON Schema says of a configuration file."""

import yaml
from jsonschema import Draft202012Validator


class PlainLoader(yaml.SafeLoader):
    """Reads values as an editor does: a time stays text."""


PlainLoader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if not pair[0].endswith(":timestamp")]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def complaints_of(schema: dict[str, object], text: str) -> list[str]:
    """Return where a file does not fit a schema, as JSON paths."""
    read = yaml.load(text, PlainLoader)  # noqa: S506  # a safe loader that knows one type less
    return [error.json_path for error in Draft202012Validator(schema).iter_errors(read)]

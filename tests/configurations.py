"""Configuration files for tests, and what loading them says."""

from collections.abc import Mapping
from pathlib import Path

from forwarder.config.loader import LoadedConfiguration, load_configuration
from forwarder.errors import ConfigurationError

ROOT = Path(__file__).parent.parent
WORKER = (ROOT / "config" / "forwarder.yaml").read_text()
EXAMPLE = (ROOT / "config" / "connections" / "example.yaml").read_text()
SMALL_WORKER = "kafka: {bootstrap_servers: [localhost:9092], topics: [raw-events]}\n"
SMALL = "name: acme\nsink:\n  type: kinesis\n  stream_name: acme\n  region: us-east-1\n"


class Folder:
    """A configuration folder that a test fills; the working directory is in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "connections").mkdir()
        self.write(SMALL_WORKER)
        self.connect(SMALL)

    def write(self, text: str) -> None:
        """Write forwarder.yaml."""
        (self.path / "forwarder.yaml").write_text(text)

    def connect(self, text: str, name: str = "acme") -> Path:
        """Write one connection file."""
        file = self.path / "connections" / f"{name}.yaml"
        file.write_text(text)
        return file

    def load(
        self, environ: Mapping[str, str] | None = None, *, offline: bool = False
    ) -> LoadedConfiguration:
        """Load it all, in an environment of its own."""
        return load_configuration("forwarder.yaml", environ=environ or {}, offline=offline)

    def faults(self, environ: Mapping[str, str] | None = None) -> list[str]:
        """Return every fault of a load that may go well."""
        try:
            self.load(environ)
        except ConfigurationError as error:
            return error.faults
        return []


def replaced(text: str, old: str, new: str) -> tuple[str, int]:
    """Return a text with the one line that begins with ``old`` replaced, and its number."""
    lines = text.splitlines()
    (index,) = [i for i, line in enumerate(lines) if line.strip().startswith(old)]
    indent = lines[index][: len(lines[index]) - len(lines[index].lstrip())]
    lines[index : index + 1] = [indent + line for line in new.splitlines()]
    return "\n".join(lines) + "\n", index + 1

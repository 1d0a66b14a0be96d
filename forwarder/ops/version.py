"""Which release this is, as installed."""

from importlib import metadata

DISTRIBUTION = "kafka-kinesis-forwarder"
"""What the package is called where packages are installed from; it is imported as ``forwarder``."""


def version() -> str:
    """Return the version that is installed; code that was only copied has none."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "(not installed)"

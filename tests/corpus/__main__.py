"""``python -m tests.corpus NAME`` runs one entry and prints what comes out of it."""

import asyncio
import sys
import tempfile
from pathlib import Path

from forwarder.ops import logs
from tests.corpus import CORPUS, outcome
from tests.corpus.reading import written


def main() -> None:
    """Print the outcome as JSON, on standard output."""
    logs.configure("error", "console", ())
    with tempfile.TemporaryDirectory() as out:
        found = asyncio.run(outcome(CORPUS / sys.argv[1], Path(out)))
    text = written(found) + "\n"
    sys.stdout.buffer.write(text.encode(errors="backslashreplace"))  # half a surrogate pair


if __name__ == "__main__":
    main()

"""``python -m tests.corpus NAME`` runs one entry and prints what comes out of it."""

import asyncio
import json
import sys
import tempfile
from pathlib import Path

from forwarder.ops import logs
from tests.corpus import CORPUS, outcome


def main() -> None:
    """Print the outcome as JSON, on standard output."""
    logs.configure("error", "console", ())
    with tempfile.TemporaryDirectory() as out:
        found = asyncio.run(outcome(CORPUS / sys.argv[1], Path(out)))
    text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    sys.stdout.buffer.write(text.encode(errors="backslashreplace"))  # half a surrogate pair


if __name__ == "__main__":
    main()

"""Look at where endpoints are kept, as a gateway would use it; nothing is made or changed."""

import os
from pathlib import Path

from forwarder.config.gateway import EndpointStoreSettings, StoreKind
from forwarder.ops.diagnosis import Finding, fail, note, ok

ANSWER_SECONDS = 5.0
"""How long a server may take to let somebody in, and for each answer."""


async def store_findings(settings: EndpointStoreSettings) -> list[Finding]:
    """Return whether a gateway could read and write endpoints. Caller: ``forwarder doctor``."""
    if settings.store is StoreKind.SQLITE:
        return [file_finding(Path(settings.path))]
    # 15 MiB and 60 ms that nobody with a file need spend.
    from forwarder.gateway.endpoints import postgres_checkup  # noqa: PLC0415

    return await postgres_checkup.findings(settings.dsn, ANSWER_SECONDS)


def file_finding(path: Path) -> Finding:
    """Say whether the file can be written, or made: with what SQLite puts beside it."""
    folder = path.parent
    if not folder.is_dir():
        return fail(f"{folder} is no folder, for {path.name}", "make it, or mount the volume there")
    if not os.access(folder, os.W_OK | os.X_OK):
        remedy = f"give this user the right to write in {folder}: SQLite keeps files beside its own"
        return fail(f"{path} cannot be kept", remedy)
    if not path.exists():
        return note(f"{path} is not there: a gateway makes it")
    if not os.access(path, os.R_OK | os.W_OK):
        return fail(f"{path} cannot be written", "give this user the right to read and write it")
    return ok(f"{path} can be written, for one gateway")

"""docs/metrics.md, made of the metrics' definitions: ``python -m forwarder.ops.metrics_page``."""

import sys

from forwarder.ops import catalogue, gateway_catalogue
from forwarder.ops.definition import Definition


def reference() -> str:
    """Return docs/metrics.md."""
    own = [it for it in gateway_catalogue.DEFINITIONS if it not in catalogue.DEFINITIONS]
    rows = [*_TABLE, *map(_row, catalogue.DEFINITIONS), *_GATEWAY, *_TABLE, *map(_row, own)]
    return "\n".join([*_HEAD, *rows, ""])


def _row(it: Definition) -> str:
    labels = ", ".join(f"`{label}`" for label in it.labels)
    return f"| `{it.name}` | {it.kind} | {labels} | {it.advice} |"


_HEAD = (
    "# Metrics",
    "",
    "Made from `catalogue.py` and `gateway_catalogue.py` of `forwarder/ops` by `make docs`.",
    "",
    "`GET /metrics` serves these, and `process_*` (memory, CPU, open files), in Prometheus's text",
    "format. Every worker reports what it owns: sum over workers. Counters start at zero with the",
    "process, and every series of a counter is there from the start; only what destinations answer",
    "(`code`) appears when it does. How the counts of what comes in and of what becomes of it add",
    "up is in [reliability.md](reliability.md#nothing-vanishes).",
    "",
)
_TABLE = (
    "| metric | kind | labels | what it tells, and what to do |",
    "|---|---|---|---|",
)
_GATEWAY = (
    "",
    "## Of the gateway",
    "",
    "Beside these a gateway has "
    + ", ".join(f"`{it.name}`" for it in gateway_catalogue.SHARED)
    + ".",
    "",
)

if __name__ == "__main__":
    sys.stdout.write(reference())

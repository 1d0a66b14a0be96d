"""What was measured, as text and as figures."""

from typing import Any

from tests.bench.compare import Found
from tests.bench.loads import Load

MIB = 1024 * 1024


def text(name: str, load: Load, found: Found) -> str:
    """Return a load's figures as lines, ratios first."""
    first = next(iter(found.workers))
    own = found.median(first)
    lines = [f"{name}: {load.title}"]
    others = [other for other in found.spent if other != first]
    lines += [f"  {own / found.median(other):6.2f} x {other}" for other in others]
    for who, spent in found.spent.items():
        each = " ".join(f"{one:.2f}" for one in spent)
        lines.append(f"  {who:24}{found.median(who):8.2f} µs an event ({each})")
    for who, one in found.workers.items():
        documents = load.delivered(load.uploads) * load.rounds / max(1, one.batches)
        lines.append(
            f"  {who:24}{documents:8.2f} events a document; ready in {one.start_seconds:.1f} s "
            f"({one.start_cpu:.1f} CPU-s); peak {one.peak_bytes / MIB:.0f} MiB; "
            f"rounds {' '.join(f'{seconds:.1f}' for seconds in one.seconds)} s"
        )
    return "\n".join(lines) + "\n\n"


def figures(load: Load, found: Found) -> dict[str, Any]:
    """Return a load's figures for a file."""
    return {
        "title": load.title,
        "spent": {who: [round(one, 3) for one in spent] for who, spent in found.spent.items()},
        "workers": {
            who: {
                "start_cpu": round(one.start_cpu, 2),
                "start_seconds": round(one.start_seconds, 2),
                "peak_mib": round(one.peak_bytes / MIB),
                "events_a_document": round(
                    load.delivered(load.uploads) * load.rounds / max(1, one.batches), 2
                ),
            }
            for who, one in found.workers.items()
        },
    }

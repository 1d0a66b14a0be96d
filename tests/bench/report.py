"""What was measured, as text and as figures."""

import platform
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from forwarder import native
from tests.bench.compare import Found
from tests.bench.loads import Load

WORKER = "worker"
PURE = "pure Python"
BEFORE = "before"

MIB = 1024 * 1024


def about() -> dict[str, Any]:
    """Return what the figures were measured on, and of what."""
    command = ["git", "log", "-1", "--format=%h %cs"]
    told = subprocess.run(command, check=False, capture_output=True, text=True).stdout.split()
    options = sysconfig.get_config_var("CONFIG_ARGS") or ""
    processor = "".join(
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    )
    names = processor[: len(processor) // max(1, _cores())] if processor else platform.machine()
    return {
        "commit": told[0] if told else "",
        "date": told[1] if told else "",
        "core": native.name(),
        "python": platform.python_version(),
        "optimized": "--enable-optimizations" in options,
        "processor": names,
        "cores": _cores(),
    }


def _cores() -> int:
    return Path("/proc/cpuinfo").read_text().count("\nprocessor") + 1


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
        resting = f"at rest {one.idle_share:.1%} of a core; a scrape {one.scrape_ms:.0f} ms; "
        lines.append(
            f"  {who:24}{documents:8.2f} events a document; ready in {one.start_seconds:.1f} s "
            f"({one.start_cpu:.1f} CPU-s); peak {one.peak_bytes / MIB:.0f} MiB; "
            f"{resting if load.connections > 1 else ''}"
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
                "idle_share": round(one.idle_share, 4),
                "scrape_ms": round(one.scrape_ms, 1),
                "events_a_document": round(
                    load.delivered(load.uploads) * load.rounds / max(1, one.batches), 2
                ),
            }
            for who, one in found.workers.items()
        },
    }

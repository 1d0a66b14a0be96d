"""One load, all that is measured of it: the worker, the floors, the plain alternative."""

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.acceptance.cluster import Cluster
from tests.bench import environments, whole
from tests.bench.loads import Load
from tests.bench.sink_process import SinkProcess
from tests.bench.topic import Topic, new_topic
from tests.bench.whole import Program, Run, Whole

PLAIN = Path(__file__).parent / "plain"
FLOORS = ("read", "json")
LONGEST = 900


class Found(NamedTuple):
    """What a load costs: CPU microseconds for each event of its uploads, the median of rounds."""

    workers: dict[str, Whole]
    """By the name of the program that ran."""
    spent: dict[str, list[float]]
    """CPU µs an event of each round, by who spent them: programs, floors, ``plain``."""

    def median(self, name: str) -> float:
        """Return the median of what somebody spent, in µs an event."""
        return statistics.median(self.spent[name])


class Services(NamedTuple):
    """What runs beside whoever is measured."""

    bootstrap: str
    folder: Path
    sink: SinkProcess


async def compare(  # noqa: PLR0913  # what is measured, with what
    name: str,
    load: Load,
    programs: Mapping[str, Program],
    services: Services,
    *,
    floors: Sequence[str] = FLOORS,
    plain: bool = True,
) -> Found:
    """Measure a load: every program on a topic of its own, the others on the last one's."""
    found = Found({}, {})
    events = load.uploads * load.events
    async with Cluster(services.bootstrap) as cluster:
        for number, (title, program) in enumerate(programs.items()):
            async with new_topic(cluster, f"{name}-{number}", load.partitions) as topic:
                await topic.write(map(load.rows, range(load.rounds + 1)), whole.begin_ms(load))
                place = services.folder / topic.name
                run = Run(load, topic, place, services.sink)
                measured = await whole.measure(run, program, load.workers)
                found.workers[title] = measured
                found.spent[title] = [spent / events * 1e6 for spent in measured.rounds]
                if number < len(programs) - 1:
                    continue
                for floor in floors:
                    command = [sys.executable, "-m", "tests.bench.floor", floor]
                    found.spent[floor] = _rounds(command, load, topic, events)
                if plain and load.has_plain:
                    script = str(PLAIN / "consume.py")
                    command = [environments.python(PLAIN / "requirements.txt"), script]
                    command += ["--url", services.sink.url, *["--alone"][: load.mode == "single"]]
                    found.spent["plain"] = _rounds(command, load, topic, events)
    return found


def _rounds(command: Sequence[str], load: Load, topic: Topic, events: int) -> list[float]:
    """Run a program that reads a topic and prints what each round took, the warm-up first."""
    sizes = ",".join(map(str, [load.warm, *[load.uploads] * load.rounds]))
    where = ["--bootstrap", topic.cluster.bootstrap, "--topic", topic.name]
    where += ["--partitions", str(load.partitions), "--rounds", sizes]
    answer = subprocess.run(
        [*command, *where], check=True, stdout=subprocess.PIPE, timeout=LONGEST
    ).stdout
    return [spent / events * 1e6 for spent in json.loads(answer)[1:]]

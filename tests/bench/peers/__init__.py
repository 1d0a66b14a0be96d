"""Other programs for streams, each in a virtual environment of its own, on the same topic."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.acceptance.cluster import Cluster
from tests.bench import environments, whole
from tests.bench.compare import Services
from tests.bench.loads import LOADS
from tests.bench.topic import new_topic
from tests.bench.whole import Program, Run

FOLDER = Path(__file__).parent
PEERS = {"Bytewax": "bytewax_flow", "Quix Streams": "quix_flow"}
LONGEST = 600


async def measured(services: Services) -> dict[str, float]:
    """Return CPU µs an event of this worker and of each peer; windows without a guarantee."""
    load = LOADS["1-event"]._replace(uploads=40_000, warm=20_000, rounds=1)
    async with (
        Cluster(services.bootstrap) as cluster,
        new_topic(cluster, "peers", load.partitions) as topic,
    ):
        await topic.write(map(load.rows, range(2)), whole.begin_ms(load))
        run = Run(load, topic, services.folder / topic.name, services.sink)
        own = await whole.measure(run, Program())
        found = {"this worker": own.rounds[0] / load.uploads * 1e6}
        for name, place in PEERS.items():
            lock = FOLDER / place / "requirements.txt"
            command = [environments.python(lock), str(FOLDER / place / "flow.py")]
            command += ["--bootstrap", services.bootstrap, "--topic", topic.name]
            command += ["--url", services.sink.url, "--warm", str(load.warm)]
            command += ["--uploads", str(load.total)]
            found[name] = _spent(command) / load.uploads * 1e6
    return found


def _spent(command: Sequence[str]) -> float:
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=LONGEST)
    return float(answer.stdout.splitlines()[-1])

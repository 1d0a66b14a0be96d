import os
import subprocess
import sys
from pathlib import Path

from tests.services.ministack import MiniStack

SCRIPT = Path(__file__).parents[2] / "deploy" / "compose" / "stream.py"
REGION = {"AWS_DEFAULT_REGION": "us-east-1"}


def run(command: str, ministack: MiniStack) -> str:
    environ = {"PATH": os.defpath, **REGION, **ministack.variables()}
    return subprocess.run(
        [sys.executable, str(SCRIPT), command],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout


def test_the_streams_of_the_compose_file_are_made_once_and_read_to_its_end(
    ministack: MiniStack,
) -> None:
    run("create", ministack)
    run("create", ministack)
    assert "" == run("read", ministack)
    kinesis = ministack.client("kinesis")
    for number in range(3):
        kinesis.put_record(
            StreamName="forwarder-demo", PartitionKey=f"device-{number}", Data=b'{"events":[]}'
        )
    kinesis.put_record(StreamName="pinpoint-demo", PartitionKey="e-1", Data=b"{}")
    assert 3 * '{"events":[]}\n' + "{}\n" == run("read", ministack)

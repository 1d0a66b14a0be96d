"""The fake AWS as a process: start it, tell it what to do wrong, end it."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

PATIENCE = 10.0
"""Seconds the fake may take to answer."""


class Aws:
    """What a row asks of a fake AWS that runs."""

    def __init__(self, url: str) -> None:
        """Take the address the fake listens on."""
        self.url = url

    @property
    def variables(self) -> Mapping[str, str]:
        """Return what a worker needs to find it, and to sign as its root."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }

    async def fault(self, **told: object) -> int:
        """Begin a fault of tests/fake_aws/faults.py; return its number."""
        return int((await asyncio.to_thread(self._post, "", told))["number"])

    async def end(self, number: int) -> None:
        """End a fault before its time."""
        await asyncio.to_thread(self._post, "/clear", {"number": number})

    async def make(self, **world: object) -> None:
        """Make streams, roles and users, by name."""
        await asyncio.to_thread(self._post, "/world", world)

    async def codes(self) -> set[str]:
        """Return every error code it has answered with, as the worker spells them."""
        state = await asyncio.to_thread(self._post, "/state", {})
        return {call["code"].removesuffix("Exception") for call in state["calls"]}

    def _post(self, path: str, told: Mapping[str, object]) -> dict[str, Any]:
        url, body = f"{self.url}/_control{path}", json.dumps(told).encode()
        with urlopen(Request(url, body), timeout=PATIENCE) as answer:  # noqa: S310  # loopback
            return dict(json.loads(answer.read()))


@contextmanager
def running(books: Path) -> Iterator[Aws]:
    """Run the fake; it writes what it stores into ``books``."""
    command = [sys.executable, "-m", "tests.fake_aws", "--port", "0", "--books", str(books)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield Aws(f"http://127.0.0.1:{int(process.stdout.readline())}")
        finally:
            process.kill()

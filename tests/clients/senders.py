"""Run real clients against a gateway's URL; each returns what the client itself was told."""

import asyncio
import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.clients import install, page
from tests.clients.story import Json
from tests.services.ministack import REGION

SECONDS = 120.0
"""Longest time that a client may take for all it has to send."""


class Caller(NamedTuple):
    """Where an app's events go, and what its server-side callers sign with."""

    url: str
    app: str
    access_key_id: str = "AKIAEXAMPLE"
    secret_access_key: str = "a-secret"


def boto(caller: Caller, **config: Any) -> Any:  # noqa: ANN401  # boto3 makes its clients at run time
    """Return boto3's client of Pinpoint; ``config`` as botocore's Config takes it."""
    session = boto3.Session(
        aws_access_key_id=caller.access_key_id,
        aws_secret_access_key=caller.secret_access_key,
        region_name=REGION,
    )
    return session.client("pinpoint", endpoint_url=caller.url, config=Config(**config))


def send_with_boto(caller: Caller, requests: Sequence[Json]) -> list[Json]:
    """Send a story with boto3; return each answer, or the error's code and message."""
    client = boto(caller)
    told = []
    for request in requests:
        try:
            answer = client.put_events(ApplicationId=caller.app, EventsRequest=request)
        except ClientError as error:
            told.append(dict(error.response["Error"]))
        else:
            told.append(answer["EventsResponse"])
    return told


async def send_with_cli(caller: Caller, requests: Sequence[Json], folder: Path) -> list[Json]:
    """Send a story with the AWS CLI, one process for each request; return what it printed."""
    told = []
    command = str(await asyncio.to_thread(install.aws_cli))
    for number, request in enumerate(requests):
        file = folder / f"events-{number}.json"
        file.write_text(json.dumps(request))
        arguments = ["pinpoint", "put-events", "--application-id", caller.app]
        arguments += ["--events-request", f"file://{file}"]
        printed = await run([command, *arguments], cli_environment(caller, folder))
        told.append(json.loads(printed)["EventsResponse"])
    return told


def cli_environment(caller: Caller, folder: Path) -> dict[str, str]:
    """Return the variables with which every program of AWS's Python SDK finds the gateway."""
    return _plain(folder) | {
        "AWS_ENDPOINT_URL_PINPOINT": caller.url,
        "AWS_ACCESS_KEY_ID": caller.access_key_id,
        "AWS_SECRET_ACCESS_KEY": caller.secret_access_key,
        "AWS_DEFAULT_REGION": REGION,
    }


async def send_with_sdk(caller: Caller, requests: Sequence[Json], folder: Path) -> list[Json]:
    """Send a story with the AWS SDK for JavaScript; return its answers, or errors."""
    place = await asyncio.to_thread(install.node_clients)
    keys = [caller.access_key_id, caller.secret_access_key]
    command = ["node", str(place / "sdk.mjs"), caller.url, caller.app, *keys]
    printed = await run(command, _plain(folder), json.dumps(requests).encode())
    return [json.loads(line) for line in printed.splitlines()]


class AmplifyApp:
    """An app in Node that reports with aws-amplify; an async context manager."""

    def __init__(self, url: str, app: str, api_key: str, folder: Path) -> None:
        """Prepare; the app has docs/pinpoint.md's wrapper of fetch."""
        self._app = app
        self._wrapper = page.fetch_wrapper(url, api_key)
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        """Start the app."""
        place = await asyncio.to_thread(install.installed_node_clients)
        wrapper = self._folder / "wrapper.mjs"
        wrapper.write_text(self._wrapper)
        with (self._folder / "amplify.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                "node",
                str(place / "amplify.mjs"),
                str(wrapper),
                self._app,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=_plain(self._folder),
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the app."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()

    async def do(self, action: str, argument: object = True) -> None:  # noqa: FBT002  # JSON's true
        """Let the app do one thing, and wait until its call has returned."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({action: argument}).encode() + b"\n")
        await process.stdin.drain()
        async with asyncio.timeout(SECONDS):
            line = await process.stdout.readline()
        told = json.loads(line or b'{"failed": "the app has ended"}')
        assert told["failed"] is None, told

    async def record(
        self,
        name: str,
        attributes: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Record an event."""
        given = {"name": name, "attributes": attributes, "metrics": metrics}
        await self.do("record", {key: value for key, value in given.items() if value is not None})


async def run(command: Sequence[str], variables: Mapping[str, str], given: bytes = b"") -> str:
    """Run a program to its end; return what it printed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(variables),
    )
    try:
        async with asyncio.timeout(SECONDS):
            printed, complaints = await process.communicate(given)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, f"{command[0]}: {complaints.decode()}"
    return printed.decode()


def _plain(folder: Path) -> dict[str, str]:
    """Return an environment without the caller's own AWS configuration."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    return own | {"HOME": str(folder), "AWS_EC2_METADATA_DISABLED": "true"}

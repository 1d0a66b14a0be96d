"""MiniStack, an AWS emulator that checks signatures and policies, on loopback.

It pins a botocore of its own and so lives in a virtual environment of its own, in a folder that
git ignores. Root of account 000000000000 is test/test; an account's number is an access key of
its root too. ``MiniStack`` works without pytest: the demo uses it.
"""

import contextlib
import fcntl
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Self

import botocore.session
import pytest
from localstack_client import config as localstack

from tests.services.kafka import MissingToolError, free_port, skip_or_fail

REQUIREMENTS = Path(__file__).parent / "ministack-requirements.txt"
CACHE = Path(__file__).parents[2] / ".cache" / "ministack"
REGION = "us-east-1"
HOME_ACCOUNT = "000000000000"
CUSTOMER_ACCOUNT = "111122223333"
ROOT_SECRET = "test"  # the emulator's own default
START_SECONDS = 30.0
STOP_SECONDS = 10.0
READ_ROUNDS = 10_000
"""A bound on reading a shard to its end."""


class Keys(NamedTuple):
    """Access keys of the emulator."""

    access_key_id: str
    secret_access_key: str


ROOT = Keys("test", ROOT_SECRET)


class Stored(NamedTuple):
    """A record of a stream as it was read back."""

    partition_key: str
    sequence_number: str
    value: bytes


def environment() -> Path:
    """Return the emulator's Python, making its virtual environment the first time (10 s)."""
    CACHE.mkdir(parents=True, exist_ok=True)
    stamp = CACHE / "requirements.txt"
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_bytes() != REQUIREMENTS.read_bytes():
            stamp.unlink(missing_ok=True)
            install(CACHE / "venv")
            shutil.copyfile(REQUIREMENTS, stamp)
    return CACHE / "venv" / "bin" / "python"


def install(target: Path) -> None:
    """Make a virtual environment with exactly the pinned packages."""
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(target)], check=True, timeout=120)
    command = [str(target / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    command += ["--disable-pip-version-check", "--require-hashes", "-r", str(REQUIREMENTS)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if answer.returncode != 0:
        text = f"the AWS emulator could not be installed: {answer.stderr[-600:]}"
        raise MissingToolError(text)


class MiniStack:
    """One emulator process with nothing in it at first; every test may add streams and roles."""

    def __init__(self) -> None:
        """Prepare; nothing runs yet."""
        self.port = 0
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    @property
    def pid(self) -> int | None:
        """Return the process id, None while it is not running."""
        return self._process.pid if self._process else None

    def endpoint(self, service: str = "kinesis") -> str:
        """Return a service's URL, resolved as people's own programs resolve LocalStack's."""
        url: str | None = localstack.get_service_endpoint(
            service, localstack_host=f"127.0.0.1:{self.port}"
        )
        assert url is not None
        return url

    def start(self) -> None:
        """Start on a free port and wait until it answers."""
        python = environment()
        self._folder = Path(tempfile.mkdtemp(prefix="ministack-"))
        self.port = free_port()
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [str(python), "-m", "ministack"],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                env=self._variables(self._folder),
                start_new_session=True,
            )
        self._await_healthy(self._folder / "log")

    def stop(self) -> None:
        """End the process and remove what it left."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(STOP_SECONDS)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _variables(self, folder: Path) -> dict[str, str]:
        # Nothing of the caller's: AWS variables would change who the emulator's root is.
        return {
            "AUTH": "true",
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(self.port),
            "HOME": str(folder),
            "LOG_LEVEL": "WARNING",
            "PATH": os.defpath,
            "TMPDIR": str(folder),
        }

    def _await_healthy(self, log: Path) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                break
            with contextlib.suppress(OSError):
                if self._healthy():
                    return
            time.sleep(0.05)
        tail = log.read_text(errors="replace")[-2000:]
        self.stop()
        text = f"the AWS emulator did not start:\n{tail}"
        raise RuntimeError(text)

    def _healthy(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)
        with contextlib.closing(connection):
            connection.request("GET", "/_ministack/health")
            return connection.getresponse().status == http.client.OK

    def client(self, service: str, keys: Keys = ROOT) -> Any:  # noqa: ANN401  # made at run time
        """Return a blocking client of the library that AWS ships."""
        return session().create_client(
            service,
            region_name=REGION,
            endpoint_url=self.endpoint(service),
            aws_access_key_id=keys.access_key_id,
            aws_secret_access_key=keys.secret_access_key,
        )

    def variables(self, keys: Keys = ROOT) -> dict[str, str]:
        """Return what a process needs in its environment to talk to this emulator."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint(),
            "AWS_ACCESS_KEY_ID": keys.access_key_id,
            "AWS_SECRET_ACCESS_KEY": keys.secret_access_key,
        }

    def make_stream(self, name: str, account: str = CUSTOMER_ACCOUNT, shards: int = 2) -> None:
        """Create a stream in an account."""
        kinesis = self.client("kinesis", root_of(account))
        kinesis.create_stream(StreamName=name, ShardCount=shards)
        kinesis.get_waiter("stream_exists").wait(
            StreamName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 20}
        )

    def make_delivery_stream(self, name: str, account: str = CUSTOMER_ACCOUNT) -> None:
        """Create a delivery stream in an account, into a bucket of the same name."""
        self.client("s3", root_of(account)).create_bucket(Bucket=name)
        role = f"arn:aws:iam::{account}:role/archive"
        self.client("firehose", root_of(account)).create_delivery_stream(
            DeliveryStreamName=name,
            ExtendedS3DestinationConfiguration={
                "RoleARN": role,
                "BucketARN": f"arn:aws:s3:::{name}",
            },
        )

    def objects(self, bucket: str, account: str = CUSTOMER_ACCOUNT) -> list[bytes]:
        """Read every object of a bucket, in no order; a delivery stream makes one a record."""
        s3 = self.client("s3", root_of(account))
        found = [
            one
            for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
            for one in page.get("Contents", ())
        ]
        return [s3.get_object(Bucket=bucket, Key=one["Key"])["Body"].read() for one in found]

    def make_role(
        self,
        name: str,
        actions: Sequence[str] = ("kinesis:PutRecord",),
        external_id: str | None = None,
        account: str = CUSTOMER_ACCOUNT,
    ) -> str:
        """Create a role that the home account may assume; return its ARN."""
        iam = self.client("iam", root_of(account))
        trust = json.dumps(trust_policy(external_id))
        made = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)
        self.set_role_policy(name, actions, account)
        return str(made["Role"]["Arn"])

    def set_role_policy(
        self, name: str, actions: Sequence[str], account: str = CUSTOMER_ACCOUNT
    ) -> None:
        """Let a role do these actions and nothing else."""
        self.client("iam", root_of(account)).put_role_policy(
            RoleName=name, PolicyName="put", PolicyDocument=json.dumps(policy(actions))
        )

    def set_trust(
        self, name: str, external_id: str | None, account: str = CUSTOMER_ACCOUNT
    ) -> None:
        """Change the ExternalId that a role asks for."""
        self.client("iam", root_of(account)).update_assume_role_policy(
            RoleName=name, PolicyDocument=json.dumps(trust_policy(external_id))
        )

    def make_user(
        self,
        name: str,
        actions: Sequence[str] = ("kinesis:PutRecord",),
        account: str = CUSTOMER_ACCOUNT,
    ) -> Keys:
        """Create a user with a policy and return its access keys."""
        iam = self.client("iam", root_of(account))
        iam.create_user(UserName=name)
        iam.put_user_policy(
            UserName=name, PolicyName="put", PolicyDocument=json.dumps(policy(actions))
        )
        made = iam.create_access_key(UserName=name)["AccessKey"]
        return Keys(made["AccessKeyId"], made["SecretAccessKey"])

    def read(self, stream: str, account: str = CUSTOMER_ACCOUNT) -> list[Stored]:
        """Read every record of a stream, in order within each shard."""
        return [record for shard in self.shards(stream, account).values() for record in shard]

    def shards(self, stream: str, account: str = CUSTOMER_ACCOUNT) -> dict[str, list[Stored]]:
        """Read every record of a stream by shard."""
        kinesis = self.client("kinesis", root_of(account))
        listed = kinesis.list_shards(StreamName=stream)["Shards"]
        names = [shard["ShardId"] for shard in listed]
        return {name: list(_shard(kinesis, stream, name)) for name in names}


def _shard(kinesis: Any, stream: str, shard: str) -> Iterator[Stored]:  # noqa: ANN401
    position = kinesis.get_shard_iterator(
        StreamName=stream, ShardId=shard, ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    for _ in range(READ_ROUNDS):
        answer = kinesis.get_records(ShardIterator=position)
        for record in answer["Records"]:
            value = record["Data"]
            yield Stored(record["PartitionKey"], record["SequenceNumber"], value)
        position = answer.get("NextShardIterator")
        if position is None or not answer["Records"]:
            return
    text = f"{stream} {shard} has no end"
    raise RuntimeError(text)


def root_of(account: str) -> Keys:
    """Return the keys of an account's root."""
    return ROOT if account == HOME_ACCOUNT else Keys(account, ROOT_SECRET)


def policy(actions: Sequence[str]) -> dict[str, object]:
    """Return a policy that allows these actions everywhere."""
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    return {"Version": "2012-10-17", "Statement": [statement]}


def trust_policy(external_id: str | None) -> dict[str, object]:
    """Return a trust policy for the home account, with the ExternalId it asks for."""
    statement: dict[str, object] = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{HOME_ACCOUNT}:root"},
        "Action": "sts:AssumeRole",
    }
    if external_id is not None:
        statement["Condition"] = {"StringEquals": {"sts:ExternalId": external_id}}
    return {"Version": "2012-10-17", "Statement": [statement]}


@cache
def session() -> Any:  # noqa: ANN401  # the library is not typed
    """Return one session, whose making reads 100 ms of service models."""
    return botocore.session.Session()


@pytest.fixture(scope="session")
def ministack() -> Iterator[MiniStack]:
    """Run one AWS emulator for the whole session."""
    try:
        environment()
    except MissingToolError as missing:
        skip_or_fail(str(missing))
        raise
    with MiniStack() as emulator:
        yield emulator

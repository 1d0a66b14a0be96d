"""A credential process is bounded, leaves nothing behind, and whoever waits for it is told."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from botocore.exceptions import CredentialRetrievalError

from forwarder.aws.credentials import RoleError
from forwarder.aws.session import AwsSession
from forwarder.aws.time_limits import TimeLimits
from forwarder.config.credentials import AssumedRole, DefaultCredentials
from forwarder.kafka import msk
from forwarder.model import OutcomeKind
from tests.services.fake_kinesis import LOADER, FakeClock

KEYS = '{"Version": 1, "AccessKeyId": "AKIAX", "SecretAccessKey": "s"}'
LEAVES = "sleep 777 & echo $! > child"
DAEMON = (
    f"{sys.executable} -c 'import os, time; os.setsid(); "
    'open("child", "w").write(str(os.getpid())); time.sleep(777)\' & '
    "while [ ! -s child ]; do sleep 0.01; done"
)


class Machine:
    """A machine whose AWS profile names a program, which runs in a folder of the test's."""

    def __init__(self, folder: Path, limits: TimeLimits) -> None:
        self.folder = folder
        self.config = folder / "config"
        self.clock = FakeClock()
        self.aws = AwsSession(self.clock, LOADER, limits=limits)
        self.chain = self.aws.make_keyring(DefaultCredentials(), "eu-west-1", "acme")

    def program(self, script: str, config: str = "[default]\ncredential_process = {}\n") -> None:
        path = self.folder / "program"
        path.write_text(f"#!/bin/sh\ncd {self.folder}\n{script}\n")
        path.chmod(0o755)
        self.config.write_text(config.format(path))

    async def keys(self) -> str:
        self.clock.now += 60
        await self.chain.renew(self.chain.generation)
        async with asyncio.timeout(30):
            found = await self.chain.get_frozen_credentials()
        return str(found.access_key)

    async def child(self) -> int:
        path = self.folder / "child"
        await until(lambda: path.exists() and path.read_text().strip() != "")
        return int(path.read_text())

    def runs(self) -> int:
        return len((self.folder / "runs").read_text().splitlines())


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limits: TimeLimits) -> Machine:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return Machine(tmp_path, limits)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110  # what another process does sets no event
            await asyncio.sleep(0.01)


def is_running(process: int) -> bool:
    """Tell whether a process is there and no zombie, which a container may not collect."""
    command = ["/bin/sh", "-c", f"ps -o stat= -p {process}"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    return told.stdout.strip()[:1] not in {"", "Z"}


def descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


@pytest.mark.parametrize("script", [LEAVES, DAEMON], ids=["a child", "a daemon"])
@pytest.mark.parametrize("limits", [TimeLimits(pipes=0.1)])
async def test_what_a_program_leaves_running_holds_no_descriptor(
    machine: Machine, script: str
) -> None:
    machine.program(f"echo '{KEYS}'")
    await machine.keys()
    before = descriptors()
    machine.program(f"{script}\necho '{KEYS}'")
    assert "AKIAX" == await machine.keys()
    child = await machine.child()
    await until(lambda: descriptors() == before)
    if script == LEAVES:
        await until(lambda: not is_running(child))
    else:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("end", ["exit 1", "exec sleep 60", "exec cat /dev/zero", "echo no json"])
@pytest.mark.parametrize("limits", [TimeLimits(pipes=0.1, program=1.0)])
async def test_a_program_that_fails_takes_with_it_what_it_has_started(
    machine: Machine, end: str
) -> None:
    machine.program(f"{LEAVES}\n{end}")
    before = descriptors()
    with pytest.raises((CredentialRetrievalError, ValueError)):
        await machine.keys()
    child = await machine.child()
    await until(lambda: not is_running(child))
    await until(lambda: descriptors() == before)


async def test_what_its_child_goes_on_writing_is_bounded(machine: Machine) -> None:
    machine.program(f"cat /dev/zero & echo $! > child\necho '{KEYS}'")
    with pytest.raises(CredentialRetrievalError, match="it wrote more than"):
        await machine.keys()
    child = await machine.child()
    await until(lambda: not is_running(child))


async def test_a_program_may_leave_a_child_that_holds_none_of_its_outputs(machine: Machine) -> None:
    machine.program(f"sleep 777 >/dev/null 2>&1 & echo $! > child\necho '{KEYS}'")
    assert "AKIAX" == await machine.keys()
    child = await machine.child()
    assert is_running(child)
    os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("limits", [TimeLimits(program=5.0)])
async def test_a_program_reads_nothing_of_the_worker_s_input(machine: Machine) -> None:
    machine.program(f"cat > taken\necho '{KEYS}'")
    read, write = os.pipe()
    usual = os.dup(0)
    os.dup2(read, 0)
    try:
        os.write(write, b"a record\n")
        assert "AKIAX" == await machine.keys()
        assert b"a record\n" == os.read(0, 100)
    finally:
        os.dup2(usual, 0)
        for opened in (read, write, usual):
            os.close(opened)
    assert "" == (machine.folder / "taken").read_text()


@pytest.mark.parametrize("limits", [TimeLimits(program=0.2)])
async def test_a_program_that_another_profile_names_is_bounded_too(machine: Machine) -> None:
    role = "[default]\nrole_arn = arn:aws:iam::111122223333:role/r\nsource_profile = base\n"
    machine.program("exec sleep 5", role + "[profile base]\ncredential_process = {}\n")
    with pytest.raises(CredentialRetrievalError, match="it ran for longer than"):
        await machine.keys()


def test_a_program_s_time_is_over_before_that_of_whoever_waits_for_it() -> None:
    limits = TimeLimits()
    assert limits.program + limits.pipes + limits.kill < limits.search
    assert limits.search < min(limits.call, msk.SIGN_SECONDS)


async def test_all_who_wait_for_a_program_are_told_what_came_of_one_run(machine: Machine) -> None:
    machine.program("echo x >> runs; sleep 0.2; exit 1")
    told = await asyncio.gather(
        *(machine.chain.get_frozen_credentials() for _ in range(20)), return_exceptions=True
    )
    assert [CredentialRetrievalError] * 20 == [type(error) for error in told]
    assert 1 == machine.runs()
    with pytest.raises(CredentialRetrievalError):
        await machine.keys()
    assert 2 == machine.runs()


async def test_all_who_wait_for_keys_to_be_renewed_share_one_run(machine: Machine) -> None:
    # Keys that are about to expire are renewed whenever they are asked for.
    soon = KEYS.replace("}", ', "Expiration": "\'$(date -u -d "+1 min" +%FT%TZ)\'"}')
    machine.program(f"echo x >> runs; sleep 0.1; echo '{soon}'")
    await machine.keys()
    before = machine.runs()
    found = await asyncio.gather(*(machine.chain.get_frozen_credentials() for _ in range(20)))
    assert {"AKIAX"} == {keys.access_key for keys in found}
    assert before + 1 == machine.runs()


async def test_whoever_gives_up_waiting_takes_the_search_from_nobody(machine: Machine) -> None:
    machine.program(f"while [ ! -e go ]; do sleep 0.01; done; echo '{KEYS}'")
    given_up = asyncio.create_task(machine.chain.get_frozen_credentials())
    waits = asyncio.create_task(machine.chain.get_frozen_credentials())
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.wait([given_up])
    (machine.folder / "go").touch()
    assert "AKIAX" == (await waits).access_key


@pytest.mark.parametrize("limits", [TimeLimits(program=700.0, search=700.0)])
async def test_closing_ends_a_program_under_way(machine: Machine) -> None:
    machine.program("echo $$ > child; exec sleep 777")
    waits = asyncio.create_task(machine.chain.get_frozen_credentials())
    process = await machine.child()
    await machine.aws.close()
    await until(waits.done)
    await until(lambda: not is_running(process))


@pytest.mark.parametrize("limits", [TimeLimits(program=0.3, assume=0.05)])
async def test_a_role_is_told_of_the_program_that_hangs(machine: Machine) -> None:
    machine.program("exec sleep 60")
    role = AssumedRole("arn:aws:iam::111122223333:role/r", None)
    keys = machine.aws.make_keyring(role, "eu-west-1", "acme")
    with pytest.raises(RoleError) as told:
        await keys.get_frozen_credentials()
    assert (OutcomeKind.CONFIGURATION, "NoCredentials") == (
        told.value.outcome.kind,
        told.value.outcome.code,
    )
    assert "credential_process" in told.value.outcome.remedy
    await keys.close()
    await machine.aws.close()

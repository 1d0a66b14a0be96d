"""Access keys that are rotated: read again when their files change and when AWS rejects them."""

import asyncio
import os
from pathlib import Path

import pytest
import structlog

from forwarder.aws.static_keys import KeyRotation, StaticKeys
from forwarder.config.credentials import AccessKeys
from forwarder.config.key_rotation import reread_keys
from forwarder.config.loader import load_connection
from forwarder.ops import logs
from tests.services.fake_kinesis import FakeClock

CONNECTION = """\
name: acme
credentials: {{access_key_id: "{id}", secret_access_key: "{secret}"}}
sink: {{type: kinesis, stream_name: {stream}, region: us-east-1}}
"""
BY_FILE = {"id": "${file:secrets/id}", "secret": "${file:secrets/secret}", "stream": "s"}


class Kept:
    """A connection file, the secrets it takes its keys from, and the keyring made of them."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.file = folder / "acme.yaml"
        self.secrets = folder / "secrets"
        self.secrets.mkdir()
        self.connect(**BY_FILE)
        self.write("AKIAOLD")
        given = load_connection(self.file).connection.credentials
        assert isinstance(given, AccessKeys)
        self.reread = 0
        self.keys = StaticKeys(given, "acme", self.clock, KeyRotation(self._read, logs.hide))

    def _read(self, keys: AccessKeys, name: str) -> AccessKeys:
        self.reread += 1
        return reread_keys(keys, name)

    def connect(self, **values: str) -> None:
        self.file.write_text(CONNECTION.format(**values))

    def write(self, name: str, secret: str = "") -> None:
        """Replace both secrets, as an orchestrator does: by other files under the same names."""
        for path, text in (("id", name), ("secret", secret or f"secret-of-{name}")):
            new = self.secrets / "new"
            new.write_text(text + "\n")
            os.replace(new, self.secrets / path)  # noqa: PTH105  # in one step, as it happens

    async def sign(self) -> str:
        keys = await self.keys.get_frozen_credentials()
        assert keys.secret_key in {f"secret-of-{keys.access_key}", "half"}
        return str(keys.access_key)

    async def sign_later(self, seconds: float) -> str:
        self.clock.now += seconds
        return await self.sign()


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    monkeypatch.setattr(logs, "_REDACTION", logs.Redaction())
    return Kept(tmp_path)


async def test_a_file_that_changed_is_noticed_within_seconds(kept: Kept) -> None:
    assert "AKIAOLD" == await kept.sign()
    kept.write("AKIANEW")
    assert "AKIAOLD" == await kept.sign_later(4.9), "looked at every 5 seconds at most"
    with structlog.testing.capture_logs() as logged:
        assert "AKIANEW" == await kept.sign_later(0.2)
    assert ["credentials.rotated"] == [line["event"] for line in logged]
    assert "AKIA" not in str(logged)
    assert 1 == kept.keys.generation


async def test_files_that_did_not_change_are_not_read_again(kept: Kept) -> None:
    for _ in range(5):
        assert "AKIAOLD" == await kept.sign_later(10)
    assert 0 == kept.reread


async def test_rejected_keys_are_read_again_at_once(kept: Kept) -> None:
    kept.write("AKIANEW")
    assert await kept.keys.renew(0)
    assert "AKIANEW" == await kept.sign()
    assert await kept.keys.renew(0), "replaced since, whoever asks"


async def test_rejected_keys_that_are_still_the_same_are_not_tried_again(kept: Kept) -> None:
    assert not await kept.keys.renew(0)
    kept.write("AKIANEW")
    assert not await kept.keys.renew(0), "they were read a moment ago"
    kept.clock.now += 5
    assert await kept.keys.renew(0)


async def test_half_a_rotation_is_mended_by_the_other_half(kept: Kept) -> None:
    kept.write("AKIANEW", "half")
    assert "AKIANEW" == await kept.sign_later(5.1)
    kept.write("AKIANEW")
    assert await kept.keys.renew(1)
    assert "secret-of-AKIANEW" == (await kept.keys.get_frozen_credentials()).secret_key


async def test_another_reference_in_the_connection_file_counts_too(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ID", "AKIAENV")
    monkeypatch.setenv("SECRET", "secret-of-AKIAENV")
    kept.connect(id="${ID}", secret="${SECRET}", stream="s")
    assert "AKIAENV" == await kept.sign_later(5.1)
    kept.connect(**BY_FILE)
    assert "AKIAOLD" == await kept.sign_later(5.1)
    kept.write("AKIANEW")
    assert "AKIANEW" == await kept.sign_later(5.1)


async def test_a_changed_variable_is_read_once_keys_are_rejected(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ID", "AKIAENV")
    monkeypatch.setenv("SECRET", "secret-of-AKIAENV")
    kept.connect(id="${ID}", secret="${SECRET}", stream="s")
    assert "AKIAENV" == await kept.sign_later(5.1)
    monkeypatch.setenv("ID", "AKIANEXT")
    monkeypatch.setenv("SECRET", "secret-of-AKIANEXT")
    assert await kept.keys.renew(kept.keys.generation)
    assert "AKIANEXT" == await kept.sign()


@pytest.mark.parametrize(
    "content",
    [
        "name: [",
        CONNECTION.format(**{**BY_FILE, "stream": "another"}),
        CONNECTION.format(**BY_FILE).replace("acme", "other"),
        "name: acme\nsink: {type: kinesis, stream_name: s, region: us-east-1}\n",
    ],
    ids=["broken", "another stream", "another connection", "no keys any more"],
)
async def test_a_file_that_is_not_the_same_connection_any_more_changes_nothing(
    kept: Kept, content: str
) -> None:
    kept.write("AKIANEW")
    kept.file.write_text(content)
    assert "AKIAOLD" == await kept.sign_later(5.1)
    assert not await kept.keys.renew(0)


async def test_a_file_that_is_gone_for_a_while_changes_nothing(kept: Kept) -> None:
    (kept.secrets / "secret").unlink()
    assert "AKIAOLD" == await kept.sign_later(5.1)
    kept.write("AKIANEW")
    assert "AKIANEW" == await kept.sign_later(5.1)


@pytest.mark.parametrize("name", ["acme.yaml", "secrets/id"])
async def test_a_file_that_becomes_a_pipe_keeps_no_thread_waiting(
    kept: Kept, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    path.unlink()
    os.mkfifo(path)
    try:
        async with asyncio.timeout(10):
            assert "AKIAOLD" == await kept.sign_later(6)
    finally:
        # A thread that waits would keep the tests from their end.
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))


async def test_rotated_keys_are_masked_in_the_log_like_those_before(kept: Kept) -> None:
    kept.write("AKIANEW")
    assert await kept.keys.renew(0)
    line = logs._REDACTION(None, "", {"said": "AKIANEW and secret-of-AKIANEW"})  # noqa: SLF001  # the one in use
    assert {"said": "**** and ****"} == line


async def test_keys_that_nobody_wrote_anywhere_stay_as_they_are() -> None:
    keys = StaticKeys(AccessKeys("AKIA", "secret-of-AKIA"), "acme", FakeClock())
    assert not await keys.renew(0)
    assert "AKIA" == (await keys.get_frozen_credentials()).access_key
    await keys.close()

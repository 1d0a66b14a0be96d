"""Access keys of a connection, looked for again where they are written once they are rotated."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import structlog
from botocore.credentials import ReadOnlyCredentials

from forwarder.aws.credentials import RENEW_SECONDS
from forwarder.clock import Clock
from forwarder.config.credentials import AccessKeys, KeyOrigin

log = structlog.get_logger()

CHECK_FILES_SECONDS = 5.0
"""Seconds between two looks whether a file has changed."""

_Seen = tuple[tuple[int, int, int] | None, ...]


class KeyRotation(NamedTuple):
    """How keys are found again. Given by the composition root, which knows files and logs.

    ``reread`` is called in a thread with the keys as they are and the connection's name, and
    returns what is written now: the same keys where nothing else can be read. It does not raise.
    ``hide`` is called in the loop with new secrets, before anything is signed with them: no log
    line may show them.
    """

    reread: Callable[[AccessKeys, str], AccessKeys]
    hide: Callable[[Iterable[str]], None]


NO_ROTATION = KeyRotation(lambda keys, _: keys, lambda _: None)
"""For commands that end soon: keys stay as they were configured."""


class StaticKeys:
    """Access keys, read again when their files change and when AWS rejects them.

    What cannot be read, or is no longer of the same connection, leaves the keys as they are:
    half-written files and faults in a file are no reason to stop what works.
    """

    def __init__(
        self, keys: AccessKeys, name: str, clock: Clock, rotation: KeyRotation = NO_ROTATION
    ) -> None:
        """Take resolved keys of the connection ``name``."""
        self.generation = 0
        self._name = name
        self._clock = clock
        self._rotation = rotation
        self._initial = keys
        self._keys = _frozen(keys)
        self._fingerprints = file_fingerprints(keys.origin)
        self._look_at = clock.steady() + CHECK_FILES_SECONDS
        self._renewable_at = 0.0
        self._reading = asyncio.Lock()

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """Return the keys as they were last read."""
        now = self._clock.steady()
        if self._initial.origin is not None and now >= self._look_at:
            self._look_at = now + CHECK_FILES_SECONDS
            if (
                await asyncio.to_thread(file_fingerprints, self._initial.origin)
                != self._fingerprints
            ):
                async with self._reading:
                    await self._read()
        return self._keys

    async def renew(self, generation: int) -> bool:
        """Read rejected keys again; False: they are still the same."""
        async with self._reading:
            if generation != self.generation:
                return True
            now = self._clock.steady()
            if self._initial.origin is None or now < self._renewable_at:
                return False
            self._renewable_at = now + RENEW_SECONDS
            return await self._read()

    async def close(self) -> None:
        """Do nothing: nothing runs in the background."""

    async def _read(self) -> bool:
        before = self._initial
        # First: what is written while the files are read shows in the next look.
        self._fingerprints = await asyncio.to_thread(file_fingerprints, before.origin)
        found = self._initial = await asyncio.to_thread(self._rotation.reread, before, self._name)
        if found.origin != before.origin:
            self._fingerprints = await asyncio.to_thread(file_fingerprints, found.origin)
        if found == before:
            return False
        self._rotation.hide(found.secrets)
        self._keys = _frozen(found)
        self.generation += 1
        log.info("credentials.rotated", connection=self._name)
        return True


def file_fingerprints(origin: KeyOrigin | None) -> _Seen:
    """Return what tells two contents of the files apart; None for one that is not there."""
    return tuple(map(_fingerprint, origin.files if origin else ()))


def _fingerprint(path: str) -> tuple[int, int, int] | None:
    with contextlib.suppress(OSError):
        found = Path(path).stat()
        return found.st_mtime_ns, found.st_size, found.st_ino
    return None


def _frozen(keys: AccessKeys) -> ReadOnlyCredentials:
    return ReadOnlyCredentials(keys.access_key_id, keys.secret_access_key, None)

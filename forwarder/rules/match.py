"""Route uploads to the lanes whose connections want them."""

from collections.abc import Sequence
from sys import getsizeof

from forwarder.config.connection import Match
from forwarder.formats import rawjson
from forwarder.formats.contract import Upload
from forwarder.formats.memo import Memo
from forwarder.formats.mparticle import identity
from forwarder.formats.rawjson import ABSENT

_MEMO = 4096
_LANE_BYTES = 9
"""Bytes of a lane's place in a list that grew; its number is one object for all answers."""


class Router:
    """Finds the lanes of an upload; remembers its answers by the values they depend on."""

    def __init__(self, matches: Sequence[Match]) -> None:
        """Take one condition per lane; lanes are named by their index."""
        self._matches = matches
        self._numbered = list(enumerate(matches))
        self._everything = all(m == Match() for m in matches)
        self._platforms = any(m.platform is not None for m in matches)
        self._keys = any(m.api_key is not None for m in matches)
        self._memo: Memo[tuple[bytes, ...], list[int]] = Memo(_MEMO)

    def route(self, uploads: Sequence[Upload]) -> tuple[list[list[Upload]], list[Upload]]:
        """Return the uploads of every lane, in order, and those no lane wants."""
        if self._everything:
            return [list(uploads) for _ in self._matches], [] if self._matches else list(uploads)
        routed: list[list[Upload]] = [[] for _ in self._matches]
        unmatched: list[Upload] = []
        for upload in uploads:
            lanes = self._lanes(upload)
            if not lanes:
                unmatched.append(upload)
            for lane in lanes:
                routed[lane].append(upload)
        return routed, unmatched

    def misses(self, upload: Upload) -> list[tuple[int, str, str]]:
        """Return which parts of each lane's match an upload misses, with the value it has.

        A platform or an application may be long, an API key is nobody's to see: it is left out.
        """
        environment, package, platform, key, keys = self._told(upload)
        env, app, kind = (rawjson.text_of(t) or "" for t in (environment, package, platform))
        api_keys = _texts([key]) | _texts(_array(keys))
        found: list[tuple[int, str, str]] = []
        for lane, match in enumerate(self._matches):
            parts = (
                ("environment", env, match.environment is None or env in match.environment),
                ("application", app, match.application is None or app in match.application),
                ("platform", kind, match.platform is None or kind.lower() in match.platform),
                ("api_key", "", match.api_key is None or not match.api_key.isdisjoint(api_keys)),
            )
            found += [(lane, name, value) for name, value, meets in parts if not meets]
        return found

    def _told(self, upload: Upload) -> tuple[bytes, ...]:
        """Return what of an upload any match looks at."""
        platform = key = keys = b""
        if self._platforms:
            platform = identity.member(bytes(upload.fields.get("device_info", b"")), ("platform",))
        if self._keys:
            key = bytes(upload.fields.get("api_key", ABSENT))
            keys = bytes(upload.fields.get("api_keys", ABSENT))
        return upload.environment, upload.package, platform, key, keys

    def _lanes(self, upload: Upload) -> list[int]:
        told = self._told(upload)
        lanes = self._memo.get(told)
        if lanes is None:
            lanes = self._find(*told)
            size = sum(map(getsizeof, told)) + _LANE_BYTES * len(lanes)
            self._memo.keep(told, lanes, size)
        return lanes

    def _find(
        self, environment: bytes, package: bytes, platform: bytes, key: bytes, keys: bytes
    ) -> list[int]:
        env, app, kind = (rawjson.text_of(t) or "" for t in (environment, package, platform))
        api_keys = _texts([key]) | _texts(_array(keys))
        return [
            lane
            for lane, match in self._numbered
            if (match.environment is None or env in match.environment)
            and (match.application is None or app in match.application)
            and (match.platform is None or kind.lower() in match.platform)
            and (match.api_key is None or not match.api_key.isdisjoint(api_keys))
        ]


def _array(raw: bytes) -> list[bytes]:
    return [bytes(element) for element in rawjson.elements(raw)] if raw[:1] == b"[" else []


def _texts(values: Sequence[bytes]) -> set[str]:
    return {text for value in values if (text := rawjson.text_of(value)) is not None}

"""Route uploads to the lanes whose connections want them."""

from collections.abc import Sequence
from sys import getsizeof

from forwarder.config.connection import Match
from forwarder.formats import rawjson
from forwarder.formats.contract import InputFormat, Upload
from forwarder.formats.memo import Memo

_MEMO = 4096
_LANE_BYTES = 9
"""Bytes of a lane's place in a list that grew; its number is one object for all answers."""


_Told = tuple[bytes, bytes, tuple[bytes, ...], tuple[bytes, ...]]
"""What of an upload any match looks at: environment, platform, applications, API keys."""


class Router:
    """Finds the lanes of an upload; remembers its answers by the values they depend on."""

    def __init__(self, matches: Sequence[Match], form: InputFormat, topic: str) -> None:
        """Compile one condition per lane; a lane's name here is its index.

        ``form`` is what the uploads of ``topic`` are of.
        """
        self._matches = matches
        self._applications = form.applications
        self._platform = form.platform
        self._api_keys = form.api_keys
        self._topic = topic
        self._numbered = [
            (lane, match)
            for lane, match in enumerate(matches)
            if match.topic is None or topic in match.topic
        ]
        self._everything = all(m == Match() for m in matches)
        taken = [match for _, match in self._numbered]
        self._platforms = any(m.platform is not None for m in taken)
        self._keys = any(m.api_key is not None for m in taken)
        self._apps = any(m.application is not None for m in taken)
        self._memo: Memo[_Told, list[int]] = Memo(_MEMO)

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
        env, kind, apps, api_keys = _texts_of(self._told(upload))
        named = ", ".join(filter(None, apps))
        found: list[tuple[int, str, str]] = []
        for lane, match in enumerate(self._matches):
            parts = (
                ("topic", self._topic, match.topic is None or self._topic in match.topic),
                ("environment", env, match.environment is None or env in match.environment),
                (
                    "application",
                    named,
                    match.application is None or not match.application.isdisjoint(apps),
                ),
                ("platform", kind, match.platform is None or kind.lower() in match.platform),
                ("api_key", "", match.api_key is None or not match.api_key.isdisjoint(api_keys)),
            )
            found += [(lane, name, value) for name, value, meets in parts if not meets]
        return found

    def _told(self, upload: Upload) -> _Told:
        """Return what of an upload any match looks at."""
        return (
            upload.environment,
            self._platform(upload) if self._platforms else b"",
            self._applications(upload) if self._apps else (),
            self._api_keys(upload) if self._keys else (),
        )

    def _lanes(self, upload: Upload) -> list[int]:
        told = self._told(upload)
        lanes = self._memo.get(told)
        if lanes is None:
            lanes = self._find(told)
            size = sum(map(getsizeof, (*told, *told[2], *told[3]))) + _LANE_BYTES * len(lanes)
            self._memo.keep(told, lanes, size)
        return lanes

    def _find(self, told: _Told) -> list[int]:
        env, kind, apps, api_keys = _texts_of(told)
        return [
            lane
            for lane, match in self._numbered
            if (match.environment is None or env in match.environment)
            and (match.application is None or not match.application.isdisjoint(apps))
            and (match.platform is None or kind.lower() in match.platform)
            and (match.api_key is None or not match.api_key.isdisjoint(api_keys))
        ]


def _texts_of(told: _Told) -> tuple[str, str, list[str], set[str]]:
    """Return the texts of environment, platform, applications and API keys."""
    env, kind = (rawjson.text_of(token) or "" for token in told[:2])
    apps = [rawjson.text_of(token) or "" for token in told[2]]
    keys = {text for key in told[3] if (text := rawjson.text_of(key)) is not None}
    return env, kind, apps, keys

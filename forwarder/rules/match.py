"""Route uploads to the lanes whose connections want them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from sys import getsizeof

from forwarder.config.connection import Match
from forwarder.formats import rawjson
from forwarder.formats.contract import InputFormat, Upload
from forwarder.formats.memo import Memo

_MEMO = 16_384
_LANE_BYTES = 9
"""Bytes of a lane's place in a list that grew; its number is one object for all answers."""


_Told = tuple[bytes, bytes, tuple[bytes, ...], tuple[bytes, ...]]
"""What of an upload any match looks at: environment, platform, applications, API keys."""


class Router:
    """Finds the lanes of an upload; remembers its answers by the values they depend on."""

    def __init__(self, matches: Sequence[Match], form: InputFormat, topic: str) -> None:
        """Compile one condition per lane; a lane's name here is its index.

        ``form`` is what the uploads of ``topic`` are of. ``looks_inside``, for reading only: some
        match compares what only the context of an upload tells.
        """
        self._matches = matches
        self._applications = form.applications
        self._platform = form.platform
        self._api_keys = form.api_keys
        self._topic = topic
        taken = {
            lane: match
            for lane, match in enumerate(matches)
            if match.topic is None or topic in match.topic
        }
        self._index = _Index(taken)
        self._everything = all(m == Match() for m in matches)
        self._platforms = any(m.platform is not None for m in taken.values())
        self._keys = any(m.api_key is not None for m in taken.values())
        self.looks_inside = self._platforms or self._keys
        self._apps = any(m.application is not None for m in taken.values())
        self._memo: Memo[_Told, list[int]] = Memo(_MEMO)

    def route(self, uploads: list[Upload]) -> tuple[dict[int, list[Upload]], list[Upload]]:
        """Return by lane the uploads it wants, in order and one at least, and those none wants.

        Lanes that want them all may share the list that was given.
        """
        if self._everything:
            if not self._matches or not uploads:
                return {}, uploads
            return dict.fromkeys(range(len(self._matches)), uploads), []
        routed: dict[int, list[Upload]] = {}
        unmatched: list[Upload] = []
        told, known, wanted_by = self._told, self._memo.get, routed.get
        for upload in uploads:
            values = told(upload)
            lanes = known(values)
            if lanes is None:
                lanes = self._find(values)
            for lane in lanes:
                if (wanted := wanted_by(lane)) is not None:
                    wanted.append(upload)
                else:
                    routed[lane] = [upload]
            if not lanes:
                unmatched.append(upload)
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
        keys: tuple[bytes, ...] = ()
        if self._keys:  # there already, if the decoder has come upon them
            keys = self._api_keys(upload) if upload.api_keys is None else upload.api_keys
        return (
            upload.environment,
            self._platform(upload) if self._platforms else b"",
            self._applications(upload) if self._apps else (),
            keys,
        )

    def _find(self, told: _Told) -> list[int]:
        """Find the lanes, and remember them."""
        lanes = self._index.find(*_texts_of(told))
        size = sum(map(getsizeof, (*told, *told[2], *told[3]))) + _LANE_BYTES * len(lanes)
        return self._memo.keep(told, lanes, size)


class _Index:
    """The lanes by a value that their match asks for: by that of which the fewest lanes ask.

    So an answer looks at the lanes that may want an upload, however many there are.
    """

    def __init__(self, matches: Mapping[int, Match]) -> None:
        """Enter each lane under the values of one part of its match, or among ``_others``."""
        asked = Counter(
            (part, value)
            for match in matches.values()
            for part, values in _parts(match).items()
            for value in values
        )
        self._others: list[int] = []
        self._lanes: dict[tuple[str, str], list[int]] = {}
        self._matches = matches
        for lane, match in matches.items():
            parts = _parts(match)
            if not parts:
                self._others.append(lane)
                continue
            costs = {
                part: max([asked[part, value] for value in values], default=0)
                for part, values in parts.items()
            }
            best = min(costs, key=costs.__getitem__)
            for value in parts[best]:
                self._lanes.setdefault((best, value), []).append(lane)

    def find(self, env: str, kind: str, apps: Sequence[str], api_keys: set[str]) -> list[int]:
        """Return the lanes that want what has these values, in order."""
        kind = kind.lower()
        told = {("environment", env), ("platform", kind)}
        told |= {("application", app) for app in apps}
        told |= {("api_key", key) for key in api_keys}
        likely = {lane for one in told for lane in self._lanes.get(one, ())}
        matches = self._matches
        return sorted(
            lane
            for lane in likely.union(self._others)
            if ((match := matches[lane]).environment is None or env in match.environment)
            and (match.application is None or not match.application.isdisjoint(apps))
            and (match.platform is None or kind in match.platform)
            and (match.api_key is None or not match.api_key.isdisjoint(api_keys))
        )


def _parts(match: Match) -> dict[str, frozenset[str]]:
    """Return by name the parts of a match that ask for certain values of an upload."""
    parts = {
        "api_key": match.api_key,
        "application": match.application,
        "platform": match.platform,
        "environment": match.environment,
    }
    return {name: values for name, values in parts.items() if values is not None}


def _texts_of(told: _Told) -> tuple[str, str, list[str], set[str]]:
    """Return the texts of environment, platform, applications and API keys."""
    env, kind = (rawjson.text_of(token) or "" for token in told[:2])
    apps = [rawjson.text_of(token) or "" for token in told[2]]
    keys = {text for key in told[3] if (text := rawjson.text_of(key)) is not None}
    return env, kind, apps, keys

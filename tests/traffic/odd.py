"""Uploads that users really send and programs break on: each is valid, and every event is found.

Contexts that gather until no record holds them, ids that mean none, people without an mpid on one
device, sessions without a name, uploads without events. ``malformed`` has what is no upload.
"""

import json
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

NOTIFICATION_BYTES = 200_000
"""Of one upload: the sixth makes more of them than a record of 1 MiB holds."""

PEOPLE = 3
"""Users of one placeholder id, and of one kind of trouble."""

SESSION_NAMES: tuple[dict[str, Any], ...] = (
    {"session_id": 11},
    {"session_id": 0},
    {"session_id": "11", "session_uuid": "0C2F-AA"},
    {"session_id": -1, "session_uuid": "00000000-0000-0000-0000-000000000000"},
    {"session_id": "", "session_uuid": "0c2f-ee"},
    {"session_id": None, "session_uuid": "0C2F-EE"},
    {},
)
"""How senders name a session, or none."""

NOBODY: tuple[dict[str, Any], ...] = (
    {"mpid": 0, "mp_deviceid": "00000000-0000-0000-0000-000000000000"},
    {"mpid": "null", "device_info": {"ios_advertising_id": "unknown"}},
    {"mpid": " ", "mp_deviceid": "undefined", "device_info": {"android_uuid": "9774d56d682e549c"}},
)
"""Ids that name neither a user nor a device."""


class Odd(NamedTuple):
    """One record of the input topic, keyed by device, with its time in milliseconds."""

    key: bytes
    value: bytes
    timestamp_ms: int


class _Turn(NamedTuple):
    """Which upload this is of its kind, and what chance there is."""

    number: int
    rng: random.Random

    @property
    def user(self) -> int:
        """Return whose turn it is."""
        return self.number % PEOPLE


def odd(seed: int, count: int, start_ms: int, span_ms: int = 60_000) -> Iterator[Odd]:
    """Yield ``count`` uploads, every kind in turn, spread evenly over ``span_ms``."""
    rng = random.Random(seed)  # noqa: S311  # repeatable, not secret
    for index in range(count):
        number, kind = divmod(index, len(KINDS))
        make = KINDS[kind]
        name = f"odd-{make.__name__}-{number}"
        upload = make(_Turn(number, rng), name)
        platform = {"platform": ("iOS", "web")[kind % 2]}
        upload["device_info"] = platform | upload.get("device_info", {})
        upload["timestamp_unixtime_ms"] = time = start_ms + span_ms * index // count
        yield Odd(make.__name__.encode(), json.dumps(upload).encode(), time)


def _event(name: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401  # any JSON value
    data = {"event_name": "odd", "source_message_id": name} | more
    return {"event_type": "custom_event", "data": data}


def notified(turn: _Turn, name: str) -> dict[str, Any]:
    """Tell of consents, which are appended for as long as the window is open."""
    filling = turn.rng.randbytes(NOTIFICATION_BYTES // 2).hex()
    return {
        "mpid": 7_000 + turn.user,
        "events": [_event(f"{name}-{i}") for i in range(3)],
        "system_notifications": [{"type": "gdpr_change", "purpose": filling}],
    }


def deleted(turn: _Turn, name: str) -> dict[str, Any]:
    """Delete attributes by the hundred, others every time."""
    return {
        "mpid": 7_100 + turn.user,
        "events": [_event(name)],
        "deleted_user_attributes": [f"{name}-{i}-{'x' * 80}" for i in range(300)],
    }


def unheard_of(turn: _Turn, name: str) -> dict[str, Any]:
    """Bring a large key of its own every time: nothing but the window's end ends them."""
    return {
        "mpid": 7_200 + turn.user,
        "events": [_event(name)],
        f"x_{name}": turn.rng.randbytes(40_000).hex(),
    }


def attributed(turn: _Turn, name: str) -> dict[str, Any]:
    """Replace large attributes by others as large."""
    return {
        "mpid": 7_300 + turn.user,
        "events": [_event(name)],
        "user_attributes": {f"a{i}": turn.rng.randbytes(500).hex() for i in range(100)},
    }


def placeholder(turn: _Turn, name: str) -> dict[str, Any]:
    """Be one of several people with the id of those who do not want to be tracked."""
    return {
        "application_info": {"package": "com.acme.shop"},
        "device_info": {
            "ios_advertising_id": "00000000-0000-0000-0000-000000000000",
            "ios_idfv": "0C2F0000-0000-4000-8000-000000000001",
        },
        "user_identities": {"customer_id": f"person-{turn.user}"},
        "events": [_event(name)],
    }


def nobody(turn: _Turn, name: str) -> dict[str, Any]:
    """Name neither a user nor a device."""
    return {**NOBODY[turn.user], "events": [_event(name)]}


def session(turn: _Turn, name: str) -> dict[str, Any]:
    """Name the session, one way or another or not at all."""
    names = SESSION_NAMES[turn.number % len(SESSION_NAMES)]
    return {"mpid": 7_400, "events": [_event(name, **names)]}


def eventless(turn: _Turn, _: str) -> dict[str, Any]:
    """Tell attributes and nothing else, to one whose windows are large."""
    return {
        "mpid": 7_000 + turn.user,
        "user_attributes": {"visits": turn.number},
        "system_notifications": [{"purpose": turn.rng.randbytes(20_000).hex()}],
        "events": [],
    }


def many(turn: _Turn, name: str) -> dict[str, Any]:
    """Send a day's events at once."""
    return {
        "mpid": 7_500 + turn.user,
        "events": [_event(f"{name}-{i}", note="n" * 1_000) for i in range(80)],
        "system_notifications": [{"purpose": turn.rng.randbytes(5_000).hex()}],
    }


KINDS: tuple[Callable[[_Turn, str], dict[str, Any]], ...] = (
    notified,
    session,
    placeholder,
    deleted,
    nobody,
    unheard_of,
    eventless,
    attributed,
    many,
)

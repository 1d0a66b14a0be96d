"""What a deploy may change: releases of the connection files, each made from the one before.

Two lanes never change: ``everything`` in batches and ``sessions`` of phones. ``changing`` gets
another filter, length or mode, ``comes`` is added and removed, and a lane that is renamed counts
``named-1``, ``named-2`` and so on.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

REGION = "us-east-1"
MAX_AGE = 20
"""Seconds that ``everything`` gathers."""

STEADY = ("everything", "sessions")
CHANGING, COMES = "changing", "comes"

Content = dict[str, Any]

VARIANTS: Mapping[str, Content] = {
    "wide": {"batching": {"max_age": "10s"}},
    "narrow": {
        "settings": {"send_screen_views": False, "send_lifecycle_events": False},
        "batching": {"max_age": "10s"},
    },
    "short": {"batching": {"max_age": "4s"}},
    "by session": {
        "settings": {"wait_for_complete_batch": True},
        "batching": {
            "session_timeout": "12s",
            "session_grace": "2s",
            "session_max": "60s",
            # For windows of before that are collected again.
            "max_age": "10s",
        },
    },
    "phones": {"match": {"platform": ["ios", "android"]}, "batching": {"max_age": "8s"}},
}
"""What ``changing`` may be."""

LONGEST = 60
"""Seconds that a window of ``changing`` may be open at most, in any variant."""


@dataclass(frozen=True)
class Release:
    """The connections of one release, and what of the program it runs."""

    number: int = 0
    variant: str = "wide"
    deliver_from_ms: int | None = None
    comes: bool = False
    named: int = 1
    gone: tuple[str, ...] = ()
    retired: tuple[str, ...] = ()
    previous: bool = False
    """True: an older version of the program."""

    @property
    def renamed(self) -> str:
        """Return today's name of the lane that is renamed."""
        return f"named-{self.named}"

    def connections(self, streams: str) -> dict[str, Content]:
        """Return the content of every connection file; ``streams`` begins the streams' names."""
        found = {name: _steady(name) for name in STEADY}
        found[CHANGING] = dict(VARIANTS[self.variant])
        if self.deliver_from_ms is not None:
            found[CHANGING]["deliver_from"] = _iso(self.deliver_from_ms)
        found[self.renamed] = {"batching": {"max_age": "6s"}, "settings": dict(FEW)}
        if self.comes:
            found[COMES] = {"batching": {"max_age": "15s"}, "settings": dict(FEW)}
        return {
            name: {"name": name, "sink": _sink(streams, name, content), **content}
            for name, content in found.items()
        }


FEW = {"send_custom_events": False, "send_screen_views": False}


def _steady(name: str) -> Content:
    if name == "sessions":
        return {
            "match": {"platform": ["ios", "android"]},
            "settings": {
                "wait_for_complete_batch": True,
                "include_location_information": False,
                "send_screen_views": False,
                "int64_as_string": True,
            },
            "batching": {"session_timeout": "30s", "session_grace": "3s", "session_max": "3m"},
        }
    return {
        "settings": {
            "send_validation_results": True,
            "include_user_attribute_change_events": True,
            "include_user_identity_change_events": True,
        },
        "batching": {"max_age": f"{MAX_AGE}s"},
    }


def _sink(streams: str, name: str, content: Content) -> Content:
    # Both actions: single puts for what waits for whole sessions.
    single = "wait_for_complete_batch" in content.get("settings", {})
    return {
        "type": "kinesis",
        "stream_name": f"{streams}-{name}",
        "region": REGION,
        "put": "record" if single else "auto",
    }


def _iso(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")


def change(now: Release, dice: random.Random, now_ms: int, *, previous: bool) -> Release:
    """Return the next release: one or two changes; ``previous``: it may still run older code.

    Only as long as the one before does: older code does not read what today's has written.
    """
    after = replace(now, number=now.number + 1, previous=False, deliver_from_ms=None)
    for kind in dice.sample(sorted(CHANGES), dice.choice((1, 1, 2))):
        after = CHANGES[kind](after, dice)
    if after.variant == now.variant and dice.random() < 0.25:  # one such deploy in four
        after = replace(after, deliver_from_ms=now_ms)
    # What went with the deploy before is given up for good with this one.
    after = replace(after, retired=tuple(sorted({*now.retired, *now.gone})))
    return replace(after, previous=previous and now.previous and dice.random() < 0.7)


def final(now: Release) -> Release:
    """Return the release that waits for nothing: all there, what is gone retired."""
    gone = tuple(sorted({*now.retired, *now.gone}))
    return replace(
        now, number=now.number + 1, comes=True, retired=gone, deliver_from_ms=None, previous=False
    )


def _vary(now: Release, dice: random.Random) -> Release:
    others = sorted(VARIANTS.keys() - {now.variant})
    return replace(now, variant=dice.choice(others))


def _toggle(now: Release, _: random.Random) -> Release:
    return replace(now, comes=not now.comes)


def _rename(now: Release, _: random.Random) -> Release:
    # A name that was given up, even one taken back half-way, is never used again.
    used = [int(name.removeprefix("named-")) for name in now.gone]
    return replace(now, named=max(now.named, *used, 0) + 1, gone=(*now.gone, now.renamed))


def taken_back(before: Release, after: Release) -> Release:
    """Return the release that undoes ``after``; a new name it brought is given up for good.

    Its connections, not its program: there is no way back to older code.
    """
    gone = before.gone if after.named == before.named else (*before.gone, after.renamed)
    return replace(before, number=after.number + 1, gone=gone, previous=after.previous)


CHANGES: dict[str, Callable[[Release, random.Random], Release]] = {
    "vary": _vary,
    "toggle": _toggle,
    "rename": _rename,
}


def told(before: Release, after: Release) -> str:
    """Return in words what a release changes."""
    words = []
    if before.variant != after.variant:
        words.append(f"changing: {before.variant} -> {after.variant}")
    if before.comes != after.comes:
        words.append("comes added" if after.comes else "comes removed")
    if before.named != after.named:
        words.append(f"{before.renamed} -> {after.renamed}")
    if after.deliver_from_ms is not None:
        words.append("changing: deliver_from now")
    if after.retired != before.retired:
        words.append(f"retired {', '.join(sorted({*after.retired} - {*before.retired}))}")
    if after.previous != before.previous:
        words.append("the previous version" if after.previous else "today's version")
    return "; ".join(words) or "nothing"

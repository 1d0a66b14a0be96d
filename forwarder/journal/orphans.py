"""Lanes that no worker knows any more: which hold the watermark, and when they are dropped (L1)."""

from collections.abc import Collection, Mapping

import msgspec

from forwarder.journal.state import LaneState


class OrphanPolicy(msgspec.Struct, frozen=True):
    """When an unknown lane is dropped: ``ttl_ms`` after it was last seen, ``retired`` at once."""

    ttl_ms: int = 86_400_000
    retired: frozenset[str] = frozenset()

    def left_ms(self, name: str, lane: LaneState, now_ms: int) -> int:
        """Return how long an unknown lane is still kept; below zero: no longer."""
        return -1 if name in self.retired else lane.seen + self.ttl_ms - now_ms


def expired_orphans(
    lanes: Mapping[str, LaneState], configured: Collection[str], rules: OrphanPolicy, now_ms: int
) -> set[str]:
    """Return the unknown lanes that the next base leaves out."""
    unknown = lanes.keys() - set(configured)
    return {name for name in unknown if rules.left_ms(name, lanes[name], now_ms) < 0}


def holding_watermark(
    lanes: Mapping[str, LaneState], configured: Collection[str], rules: OrphanPolicy, now_ms: int
) -> dict[str, int]:
    """Return the unknown lanes below every other need, and for how many ms they are kept."""
    others = [lane.need[0] for name, lane in lanes.items() if name in configured]
    lowest = min(others, default=None)
    return {
        name: max(0, rules.left_ms(name, lane, now_ms))
        for name, lane in lanes.items()
        if name not in configured and (lowest is None or lane.need[0] < lowest)
    }

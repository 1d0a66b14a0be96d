"""The rules by which window keys are derived, by their stored names (L2).

A name is never given another meaning: what changes the keys gets a new one, and the rule of before
is kept for replays below the switch.
"""

from forwarder.collect.replay_filter import ReplayFilter
from forwarder.config.connection import BatchMode
from forwarder.formats.contract import Upload
from forwarder.formats.mparticle import former_keys

BY_DEVICE = "device-2"
BY_SESSION = "session-2"

SESSION_RULES = frozenset({BY_SESSION, former_keys.BY_SESSION})
"""The rules that need the names of sessions."""

_SUCCESSORS = {former_keys.BY_DEVICE: BY_DEVICE, former_keys.BY_SESSION: BY_SESSION}
"""Rules of before -> today's, which does the same with an upload that they have keyed."""


def keying_rule(mode: BatchMode) -> str:
    """Return the rule by which a mode derives window keys."""
    return BY_SESSION if mode is BatchMode.SESSION else BY_DEVICE


def replayed(replay: ReplayFilter, upload: Upload, today: str) -> tuple[str, Upload]:
    """Return the rule for an upload of a replay, and the upload as it is keyed for that rule.

    Nearly always it is the only rule there is.
    """
    if len(replay.keying) == 1:
        rule = replay.keying[0][0]
    else:
        rule = replay.rule_at((upload.offset, upload.start), today)
    successor = _SUCCESSORS.get(rule)
    return (rule, upload) if successor is None else (successor, former_keys.keyed(upload))

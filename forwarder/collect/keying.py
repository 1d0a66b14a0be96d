"""The rules by which window keys are derived, by their stored names (L2).

A name is never given another meaning: what changes the keys gets a new one, and the rule of before
is kept for replays below the switch.
"""

from collections.abc import Iterable, Mapping

from forwarder.collect.replay_filter import ReplayFilter
from forwarder.config.connection import BatchMode
from forwarder.formats.contract import FormerRule, Upload

BY_DEVICE = "device-2"
BY_SESSION = "session-2"
"""Today's rules: a window for each ``Upload.owner``, or for each owner and session. Rules that a
format had before are its own (``InputFormat.former_rules``)."""


def keying_rule(mode: BatchMode) -> str:
    """Return the rule by which a mode derives window keys."""
    return BY_SESSION if mode is BatchMode.SESSION else BY_DEVICE


def need_sessions(rules: Iterable[str], former: Mapping[str, FormerRule]) -> bool:
    """Tell whether one of these rules needs the names of sessions."""
    return any(rule == BY_SESSION or (rule in former and former[rule].by_session) for rule in rules)


def replayed(
    replay: ReplayFilter, upload: Upload, today: str, former: Mapping[str, FormerRule]
) -> tuple[str, Upload]:
    """Return the rule for an upload of a replay, and the upload as it is keyed for that rule.

    Of a former rule it is the rule of today that does the same with an upload keyed so. Nearly
    always it is the only rule there is.
    """
    if len(replay.keying) == 1:
        rule = replay.keying[0][0]
    else:
        rule = replay.rule_at((upload.offset, upload.start), today)
    before = former.get(rule)
    if before is None:
        return rule, upload
    return BY_SESSION if before.by_session else BY_DEVICE, before.keyed(upload)

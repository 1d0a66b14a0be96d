"""What is left of input topics that the group has read and that ``kafka.topics`` names no more.

Nobody opens their partitions: what they hold is neither read nor delivered, and the outbox's
retention deletes it. So a worker refuses to start while anything is left, unless
``journal.retired_topics`` says that it is given up: the workers that run meanwhile have all they
need to finish it, and a topic that was left out by mistake is noticed at the deploy that did it.
What Kafka does not tell keeps nobody: the topics that are configured may flow, and the other one
may have been finished long ago.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from forwarder.admin.contract import GroupSurvey
from forwarder.admin.status import left_out
from forwarder.errors import ForwarderError, StartupError
from forwarder.ops.diagnosis import Finding, fail, note

Document = dict[str, Any]

TRIES = 5
"""How often a topic that cannot be looked at is tried before a worker starts without knowing."""

REMEDY = (
    "put it back into kafka.topics until `forwarder status` shows LAG 0, HELD 0 and BEHIND 0 for "
    "it, or name it in journal.retired_topics, and what is left is given up"
)


UNKNOWN = (
    "see whether the leaders of its outbox and state topics are up, and grant Read on them; once "
    "it is finished, delete them, or name the topic in journal.retired_topics"
)


class LeftTopic(msgspec.Struct):
    """What is left of one topic. ``faults``: why partitions of it could not be looked at."""

    topic: str
    batches: int = 0
    exact: bool = True
    oldest_seconds: float = 0.0
    connections: set[str] = msgspec.field(default_factory=set)
    held: int = 0
    unsettled: int = 0
    faults: list[str] = msgspec.field(default_factory=list)

    def is_unfinished(self) -> bool:
        """Tell whether anything is known to be left."""
        return bool(self.batches or self.held or self.unsettled)

    def finding(self, *, retired: bool) -> Finding:
        """Return it for ``forwarder doctor``; ``retired``: it is given up."""
        if retired:
            return note(f"{self.text()}; given up by journal.retired_topics")
        if self.is_unfinished():
            return fail(f"kafka.topics names no more what is not finished: {self.text()}", REMEDY)
        return note(f"{self.text()}; {UNKNOWN}")

    def text(self) -> str:
        """Return what is left for people; empty: nothing."""
        parts = []
        if self.batches:
            more = "" if self.exact else "+"
            names = ", ".join(sorted(self.connections))
            age = f"the oldest {self.oldest_seconds:.0f} s old"
            parts.append(f"{self.batches}{more} batches not delivered to {names} ({age})")
        if self.held:
            parts.append(f"{self.held} saved windows")
        if self.unsettled:
            parts.append(f"{self.unsettled} records not read, or in windows that were not saved")
        if self.faults:
            parts.append(f"what cannot be looked at: {self.faults[0]}")
        return f"topic {self.topic}: {'; '.join(parts)}" if parts else ""


def left_topics(partitions: Sequence[Document]) -> list[LeftTopic]:
    """Add the partitions of ``forwarder status`` up, those of topics that are not configured."""
    found: defaultdict[str, LeftTopic] = defaultdict(lambda: LeftTopic(""))
    for one in (partition for partition in partitions if not partition["configured"]):
        rest = found[one["topic"]]
        rest.topic = one["topic"]
        if "read" not in one:
            rest.faults.append(one["refusal"])
            continue
        if one["refusal"] is not None and one["input_exists"]:
            rest.faults.append(one["refusal"])
        rest.held += one["held_windows"]
        rest.unsettled += one["lag_commit"]
        for lane in one["connections"]:
            rest.batches += lane["batches_behind"]
            rest.exact = rest.exact and lane["exact"]
            rest.oldest_seconds = max(rest.oldest_seconds, lane["seconds_behind"])
            if lane["batches_behind"]:
                rest.connections.add(lane["connection"])
    return [found[topic] for topic in sorted(found)]


class LeftTopicsReport(NamedTuple):
    """What a start has to say: topics given up of which a journal is there, and what is unknown."""

    retired: list[str]
    unknown: list[Finding]


class LeftTopicsCheck:
    """Decides whether a worker may start, by what is left of topics that are not configured.

    Caller: ``forwarder run``, until it passes, and then as long as something is unknown.
    """

    def __init__(self, keying_rules: Mapping[str, str], retired: Sequence[str]) -> None:
        """Create; ``retired``: the topics that are given up."""
        self._keying_rules = keying_rules
        self._retired = frozenset(retired)
        self._tries = 0

    async def check(self, survey: GroupSurvey, now_ms: int) -> LeftTopicsReport:
        """Return what is given up, by name and without a look at it, and what is not known.

        Raises StartupError where something is left that is not given up, ForwarderError to be
        asked again.
        """
        kept = {partition.topic for partition in await survey.left_out()}
        listed = await left_out(survey, self._keying_rules, now_ms, without=self._retired)
        found = [rest for rest in left_topics(listed) if rest.text()]
        unknown = [rest for rest in found if rest.faults]
        self._tries += 1
        if unknown and self._tries < TRIES:
            raise ForwarderError(unknown[0].text())
        if any(rest.is_unfinished() for rest in found):
            what = "; ".join(rest.text() for rest in found)
            text = f"kafka.topics names no more what is not finished: {what}"
            raise StartupError(text, REMEDY)
        return LeftTopicsReport(
            retired=sorted(kept & self._retired),
            unknown=[fail(rest.text(), UNKNOWN) for rest in unknown],
        )

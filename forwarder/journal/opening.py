"""From what an opening found to what the new owner starts with (O2 to O6)."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum

import msgspec
from msgspec.structs import replace

from forwarder.errors import RefusedError
from forwarder.journal.commit import CommitMetadata, decode_metadata
from forwarder.journal.fold import fold_records
from forwarder.journal.state import LaneState, LookBack, PartitionState
from forwarder.model import Commit, DuplicateWindow

INPUT_ID = "input_id"
"""The field of the state that holds the id Kafka gave the input topic; of bases only."""


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What an opening found; everything in it was read after the former owner was fenced.

    ``commit`` is None if the group has never committed this partition. ``state`` holds the
    (offset, value) of every committed record in [``ptr``, end), unless they were taken one by
    one. ``state_start``, ``state_end``,
    ``outbox_start``, ``outbox_end`` are log start and read_committed end, ``input_start`` and
    ``input_end`` those of the input partition. ``first`` is where collecting begins when there
    is neither commit nor state (``start`` resolved once). ``input_id``: the id Kafka gave the
    input topic, empty where there is none. ``number``: of the partition, for what is said.
    ``outbox_end`` lies below the log's if the last batch the commit knows of is gone.
    ``outbox_used``: there are batches in the outbox; asked only without commit and state.
    """

    commit: Commit | None
    state: Sequence[tuple[int, bytes]] = ()
    state_start: int
    state_end: int
    outbox_start: int
    outbox_end: int
    first: int
    input_start: int
    input_end: int
    input_id: str = ""
    number: int = 0
    outbox_used: bool = False


class StartOrigin(Enum):
    """Whose word decided where collecting goes on."""

    FIRST_START = "first_start"
    STATE = "state"
    OPERATOR = "operator"


class Opening(msgspec.Struct):
    """What the owner starts with.

    ``seek``: the lowest offset that a lane needs; ``begin``: where reading begins, below ``seek``
    for duplicates alone. ``stopped``: lanes that cannot go on, and why. ``unfed``: those of them
    whose input is gone; they are left as stored, like lanes that are not configured.
    """

    state: PartitionState
    origin: StartOrigin
    seek: int
    begin: int
    new: list[str]
    unknown: list[str]
    stopped: dict[str, RefusedError]
    unfed: frozenset[str]


def decide_stored(
    found: Restored, group: str, topic: str, keying_rules: Mapping[str, str], now_ms: int
) -> Opening:
    """Decide as ``decide_start`` does, where the state's records stand in what was found."""
    state = fold_records(found.state, group, topic)
    return decide_start(found, state, topic, keying_rules, now_ms)


def decide_start(  # noqa: PLR0913  # what decides, each given once
    found: Restored,
    stored: PartitionState,
    topic: str,
    keying_rules: Mapping[str, str],
    now_ms: int,
    *,
    duplicates_ms: int = 0,
) -> Opening:
    """Decide from what was found where every lane stands; raises RefusedError (O3, O6, L3).

    ``stored`` is what the state's records say together, and stays as it is: the opening has a state
    of its own. The two share what may be large, entries and windows. ``keying_rules`` names the
    configured lanes and the keying rule of each; ``duplicates_ms`` is how far apart duplicates are
    looked for, 0: not at all.
    """
    said = decode_metadata(found.commit)
    if said and said.ptr is not None:
        _check_state(found, topic, said, stored)
    if stored.base_offset is None:
        _check_first(found, topic)
    origin, begin = _origin(found, said, stored)
    _check_outbox(found, topic, max(stored.obend, said.outbox if said else 0))
    _check_input_id(found, topic, origin, stored)
    state = _own_state(stored, found.input_id)
    if begin is not None:
        apply_operator_move(state, begin)
    for name, rule in keying_rules.items():
        _apply_configured(state, name, rule, found.outbox_end, now_ms)
    _apply_window(state, duplicates_ms, keying_rules)
    needs = {name: state.lanes[name].need[0] for name in keying_rules}
    if said and said.n == state.n:
        skip_empty_outbox(found, said.outbox, state)
    unfed = _unfed(found, topic, needs)
    fed = [need for name, need in needs.items() if name not in unfed]
    seek = min(fed or needs.values(), default=state.read)
    _check_input(found, topic, seek, max(seek, state.read))
    reach = min([_seen_from(state, name) for name in needs if needs[name] == seek], default=seek)
    return Opening(
        state=state,
        origin=origin,
        seek=seek,
        begin=max(min(reach, seek), min(found.input_start, seek)),
        new=[name for name in keying_rules if name not in stored.lanes],
        unknown=sorted(stored.lanes.keys() - keying_rules.keys()),
        stopped=_expired(found, topic, state, keying_rules) | unfed,
        unfed=frozenset(unfed),
    )


def accept_loss(found: Restored, topic: str, connection: str = "", begin: str = "") -> str:
    """Return the command that goes on without what was lost."""
    more = f" --connection {connection}" if connection else ""
    more += f" --from {begin}" if begin else ""
    return f"`forwarder accept-loss --topic {topic} --partition {found.number}{more}`"


def _check_state(found: Restored, topic: str, said: CommitMetadata, state: PartitionState) -> None:
    ptr = said.ptr or 0
    if ptr < found.state_start:
        what = f"the state begins at offset {found.state_start}, its newest base was at {ptr}"
    elif ptr > found.state_end:
        what = f"the state ends at offset {found.state_end}, its newest base was at {ptr}"
    elif state.n < said.n and state.base_offset is None:
        what = f"the state is empty, tick {said.n} was committed"
    elif state.n < said.n:
        what = f"the state ends with tick {state.n}, tick {said.n} was committed"
    else:
        return
    raise RefusedError(
        what,
        "the state topic was deleted or has lost records: restore it, or go on without them "
        f"with {accept_loss(found, topic)}",
    )


def _check_outbox(found: Restored, topic: str, ended: int) -> None:
    """Refuse an outbox that is shorter than it was: its addresses would be used again (O6)."""
    if ended > found.outbox_end:
        what = f"the outbox ends at offset {found.outbox_end}, but ended at {ended} before"
        raise RefusedError(
            what,
            "the outbox topic was deleted or has lost records: restore it, or go on without "
            f"them with {accept_loss(found, topic)}",
        )


def _check_input_id(
    found: Restored, topic: str, origin: StartOrigin, stored: PartitionState
) -> None:
    """Refuse an input topic that is another one under the same name, however long it is."""
    known = stored.extra.get(INPUT_ID, "")
    if origin is StartOrigin.STATE and found.input_id and known not in {"", found.input_id}:
        what = (
            f"topic {topic} was deleted and created again: its id was {known}, is {found.input_id}"
        )
        raise RefusedError(what, _anew(found, topic))


def _anew(found: Restored, topic: str) -> str:
    return (
        "what it holds now are other records under the offsets of old: say where to begin, with "
        f"the workers stopped by `forwarder reset --to earliest` (or latest), or with "
        f"{accept_loss(found, topic)}"
    )


def _origin(
    found: Restored, said: CommitMetadata | None, stored: PartitionState
) -> tuple[StartOrigin, int | None]:
    """Return whose word decides where collecting goes on; the offset, if it is not the state's."""
    if found.commit and said is None:
        return StartOrigin.OPERATOR, found.commit.offset
    if stored.base_offset is not None:
        return StartOrigin.STATE, None
    if found.commit and said and said.ptr is None:
        return StartOrigin.FIRST_START, found.commit.offset
    return StartOrigin.FIRST_START, found.first


def _own_state(stored: PartitionState, input_id: str) -> PartitionState:
    """Return a state that can be changed without the stored one; it notes the input topic's id."""
    return replace(
        stored,
        lanes={name: copy.copy(lane) for name, lane in stored.lanes.items()},
        unwritten=set(stored.unwritten),
        extra={**stored.extra, INPUT_ID: input_id} if input_id else dict(stored.extra),
    )


def lost_state_evidence(found: Restored) -> str:
    """Return the evidence that a partition without a state once had one; empty if there is none."""
    if not found.outbox_used and found.state_start == 0:
        return ""
    used = "its outbox holds batches" if found.outbox_used else "its state topic was cut"
    # An offset alone says where to collect from, but of no cursor what is still to be delivered.
    if found.commit:
        return f"the group has an offset and no state for this partition, but {used}"
    return f"the group has neither an offset nor a state for this partition, but {used}"


def _check_first(found: Restored, topic: str) -> None:
    """Refuse to take for a first start what has lost its state (O2)."""
    if what := lost_state_evidence(found):
        why = "the state is lost"
        if found.commit is None:
            why += " and the group's offsets were deleted or expired"
        raise RefusedError(
            what,
            f"{why}: say from where to collect with "
            f"{accept_loss(found, topic, begin='T')}, T being earliest, latest or an offset",
        )


def apply_operator_move(state: PartitionState, offset: int) -> None:
    """Obey an offset set from outside: everything begins there, cursors stay (O2)."""
    state.read = state.base_read = offset
    state.base_held = set()
    state.base_offset = None
    for lane in state.lanes.values():
        lane.need, lane.read = (offset, 0), offset
        lane.closed, lane.held = {}, {}
        lane.keying = lane.keying[-1:]
        lane.seen_from = None
    if (known := state.look_back) is not None:
        window = DuplicateWindow(known.windows[-1].window_ms, offset)
        state.look_back = LookBack(known.n, offset, offset, [window])


def _apply_window(state: PartitionState, window_ms: int, configured: Iterable[str]) -> None:
    """Look for duplicates so far apart from where reading goes on.

    What lies below is judged as it was. A longer window looks back on no more than the one before
    did, and finds all it can once it has gone on for as long as it is.
    """
    known, read = state.look_back, state.read
    if known is None:
        for name in configured:  # of before it was switched off, or an older release had it
            state.lanes[name].seen_from = None
        if window_ms:
            windows = [DuplicateWindow(0, 0), DuplicateWindow(window_ms, read)]
            state.look_back = LookBack(state.n, read, read, windows)
    elif known.windows[-1].window_ms != window_ms:
        # The first holds for what is looked back on, too, wherever it is said to begin.
        first, *later = known.windows
        before = [first, *(one for one in later if one.start < read)]
        windows = [*before, DuplicateWindow(window_ms, read)]
        state.look_back = replace(known, windows=windows)


def _seen_from(state: PartitionState, name: str) -> int:
    """Return what a lane's positions from its ``need`` on look back to for duplicates."""
    known, lane = state.look_back, state.lanes[name]
    if known is None:
        return lane.need[0]
    return known.seen_from if lane.seen_from is None else max(lane.seen_from, known.since)


def _apply_configured(
    state: PartitionState, name: str, rule: str, outbox_end: int, now_ms: int
) -> None:
    """Let a configured lane have its place: a new one at the end, one with another rule keyed so.

    What changes is written by the next tick.
    """
    lane = state.lanes.get(name)
    if lane is None:
        here = (state.read, 0)
        lane = LaneState(need=here, read=state.read, cursor=(outbox_end, 0), seen=now_ms)
        lane.keying = [(rule, here)]
    elif not lane.keying or lane.keying[-1][0] != rule:
        lane.keying = [*lane.keying, (rule, (lane.read, 0))]
    else:
        return
    state.lanes[name] = lane
    state.unwritten.add(name)


def skip_empty_outbox(found: Restored, end: int, state: PartitionState) -> None:
    """Let lanes that delivered everything up to the outbox's ``end`` begin where it begins now.

    The marker behind the last batch takes up an offset: without this, a lane of a partition
    that was quiet for longer than the outbox is kept would seem to have missed batches.
    """
    for lane in state.lanes.values():
        if 0 < end <= lane.cursor[0] < found.outbox_start:
            lane.cursor = (found.outbox_start, 0)


def _unfed(found: Restored, topic: str, needs: Mapping[str, int]) -> dict[str, RefusedError]:
    """Return the lanes whose input is gone, unless it is gone for all of them."""
    lost = {name: need for name, need in needs.items() if need < found.input_start}
    if len(lost) == len(needs):
        return {}
    return {name: _deleted(found, topic, need, name) for name, need in lost.items()}


def _deleted(found: Restored, topic: str, need: int, connection: str = "") -> RefusedError:
    return RefusedError(
        f"records {need} to {found.input_start - 1} of the input were deleted before they were "
        "collected",
        "the topic's retention is shorter than the worker was away, or somebody cut it: restore "
        f"them, or go on without them with {accept_loss(found, topic, connection)}",
    )


def _check_input(found: Restored, topic: str, seek: int, read: int) -> None:
    if seek < found.input_start:
        raise _deleted(found, topic, seek)
    if read > found.input_end:
        # Also where the replay still finds its records: others would come under offsets of old.
        what = f"the input ends at offset {found.input_end}, but was read up to {read} before"
        raise RefusedError(
            what, f"the topic was recreated or has lost records; {_anew(found, topic)}"
        )


def _expired(
    found: Restored, topic: str, state: PartitionState, rules: Mapping[str, str]
) -> dict[str, RefusedError]:
    stopped = {}
    for name in rules:
        cursor = state.lanes[name].cursor
        if cursor < (found.outbox_start, 0):
            stopped[name] = RefusedError(
                f"the outbox begins at offset {found.outbox_start}, batches from {cursor[0]} on "
                "expired before they were delivered",
                "outbox_retention is shorter than the destination was away, or somebody cut the "
                "outbox; the lane stays stopped on this partition until the gap is accepted with "
                f"{accept_loss(found, topic, name)}",
            )
    return stopped

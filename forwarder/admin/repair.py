"""What was lost, and the base with which a partition opens again once somebody accepts that.

Nothing here guesses: what can be read is kept, a lane that lost nothing keeps its place, and
where two ways on are both a loss, the operator's choice decides.
"""

from collections.abc import Mapping
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from forwarder.admin import salvage
from forwarder.admin.salvage import Salvaged
from forwarder.errors import RefusedError
from forwarder.journal import opening
from forwarder.journal import state as states
from forwarder.journal import tick as ticks
from forwarder.journal.commit import CommitMetadata, decode_metadata, encode_metadata
from forwarder.journal.fold import fold_records
from forwarder.journal.opening import Restored
from forwarder.journal.state import LaneState, PartitionState, StateHeader
from forwarder.model import Address, Commit


class LossKind(StrEnum):
    """What was lost."""

    STATE = "state"
    OUTBOX = "outbox"
    BATCHES = "batches"
    RECORDS = "records"
    INPUT = "input"


class Resend(StrEnum):
    """Where lanes go on in the outbox if their state or the outbox's end was lost."""

    KNOWN = "known"
    """At the cursor that is known, at the outbox's start where none is: loses nothing stored."""
    ALL = "all"
    NONE = "none"


class Loss(msgspec.Struct, frozen=True):
    """One loss: which lanes have it (none: all of the partition), and what accepting it costs."""

    kind: LossKind
    connections: tuple[str, ...]
    what: str
    given_up: str


class RepairCase(msgspec.Struct, frozen=True):
    """Whose partition it is, and what was found.

    ``found.state`` holds every readable record of the state's log, not only those from ``ptr``
    on. ``keying_rules`` names the configured lanes and the keying rule of each.
    """

    group: str
    topic: str
    found: Restored
    keying_rules: Mapping[str, str]
    now_ms: int


class LossDecision(msgspec.Struct, frozen=True):
    """What the operator decided.

    ``connection``: accept only what this lane lost. ``begin``: offset at which collecting goes
    on where the input was replaced or the state is lost; None: not said.
    """

    connection: str | None = None
    begin: int | None = None
    resend: Resend = Resend.KNOWN


class RepairPlan(msgspec.Struct):
    """What would be accepted. No losses: there is nothing to accept.

    ``undecided``: why nothing can be written before the operator has chosen; else empty.
    """

    losses: list[Loss]
    state: PartitionState
    undecided: str = ""


class RepairedSnapshot(msgspec.Struct, frozen=True):
    """A new base, and the commit that belongs to it once it lies at ``ptr``.

    ``stopped``: since when the input is not collected, as the last commit said.
    """

    values: list[bytes]
    offset: int
    n: int
    stopped: int = 0

    def commit(self, ptr: int) -> Commit:
        """Return the commit to store with it."""
        return Commit(
            self.offset, encode_metadata(CommitMetadata(self.n, ptr, stopped=self.stopped))
        )


def plan_repair(case: RepairCase, choice: LossDecision) -> RepairPlan:
    """Find every loss and the state that goes on without what is lost.

    Raises RefusedError for what no acceptance mends (a later release, another group's state), and
    where one connection was named, but all of the partition is concerned.
    """
    found = case.found
    said = decode_metadata(found.commit)
    saved = salvage.salvage(found.state, case.group, case.topic)
    plan = RepairPlan([], saved.state or PartitionState())
    _state(case, choice, said, saved, plan)
    if said and said.n == saved.n and not plan.losses:
        opening.skip_empty_outbox(found, said.outbox, plan.state)
    if not plan.undecided:
        _outbox(case, choice, said, plan)
        _input(case, choice, said, plan)
    if choice.connection is not None and plan.losses:
        what = f"the partition as a whole lost something: {plan.losses[0].what}"
        raise RefusedError(what, "accept that first, without --connection")
    if not plan.undecided:
        _records(case, choice, plan)
        _batches(case, choice, plan)
    return plan


def build_snapshot(case: RepairCase, plan: RepairPlan) -> RepairedSnapshot:
    """Return the new base of a decided plan; its tick follows every one ever committed."""
    state = plan.state
    n, look_back = state.n + 1, state.look_back
    look_back = look_back and replace(look_back, n=n)
    head = StateHeader(states.BASE, n, case.group, case.topic, state.read, state.obend, look_back)
    lanes = {name: states.lane_in_base(lane) for name, lane in state.lanes.items()}
    values = states.encode(head, state.extra, lanes)
    offset = ticks.lowest_watermark(state.lanes.values(), state.read)
    said = decode_metadata(case.found.commit)
    return RepairedSnapshot(values, offset, n, said.stopped if said else 0)


# --------------------------------------------------------------------------------- the state


def _state(
    case: RepairCase,
    choice: LossDecision,
    said: CommitMetadata | None,
    saved: Salvaged,
    plan: RepairPlan,
) -> None:
    """Accept a state that is gone, or that ends before the last commit."""
    commit, since = case.found.commit, said.n if said else 0
    if why := _why_lost(case, said, saved):
        reached = plan.state.n
        plan.state.n = max(saved.n, reached, since)
        if saved.state is None:
            _lost(case, choice, saved, plan, why)
        else:
            _older(case, choice, saved, plan, why, reached if reached < since else None)
    first = said is not None and said.ptr is None and not saved.records
    if commit is not None and (said is None or first) and not plan.undecided:
        opening.apply_operator_move(plan.state, commit.offset)


def _why_lost(case: RepairCase, said: CommitMetadata | None, saved: Salvaged) -> str:
    """Return why an opening would not take the state as it stands; empty if it would."""
    found = case.found
    ptr = said.ptr if said else None
    if ptr is not None and ptr < found.state_start:
        return f"the state begins at {found.state_start}, its newest base was at {ptr}"
    if ptr is not None and ptr > found.state_end:
        return f"the state ends at {found.state_end}, its newest base was at {ptr}"
    try:
        records = [stored for stored in found.state if stored[0] >= (ptr or 0)]
        folded = fold_records(records, case.group, case.topic)
    except RefusedError as refusal:
        return saved.fault or refusal.what
    if said is not None and ptr is not None and folded.n < said.n:
        return f"the state ends with tick {folded.n}, tick {said.n} was committed"
    if ptr is None and folded.base_offset is None:
        return opening.lost_state_evidence(found)
    return ""


def _older(  # noqa: PLR0913, PLR0917  # what is known, each given once
    case: RepairCase,
    choice: LossDecision,
    saved: Salvaged,
    plan: RepairPlan,
    why: str,
    reached: int | None,
) -> None:
    """Go on with the newest state that can be read; ``reached``: its tick, if later ones are gone.

    It is true of an earlier moment: everything after it comes again, and nothing is lost.
    """
    if saved.complete and reached is None:
        plan.losses.append(Loss(LossKind.STATE, (), why, "nothing: a later base holds all of it"))
        return
    read = plan.state.read
    text = f"where everything stood later: records from {read} on are collected again"
    plan.losses.append(Loss(LossKind.STATE, (), why, f"{text}, so that their events come twice"))
    for name, lane in plan.state.lanes.items():
        salvage.apply_hint(lane, saved.hints.get(name))
        _resume(lane, case.found, choice.resend)


def _lost(
    case: RepairCase, choice: LossDecision, saved: Salvaged, plan: RepairPlan, why: str
) -> None:
    """Begin anew at the committed offset, with the cursors that can still be read."""
    found, state = case.found, plan.state
    begin = choice.begin
    if begin is None and found.commit is not None:
        begin = found.commit.offset
    given_up = _LOST.format(begin="T" if begin is None else begin, lanes=_cursors(saved))
    plan.losses.append(Loss(LossKind.STATE, (), why, given_up))
    if begin is None:
        plan.undecided = "no offset is committed: say from where to collect"
        return
    state.read, state.obend = begin, found.outbox_end
    for name in sorted(saved.hints.keys() | case.keying_rules.keys()):
        lane = LaneState(cursor=(found.outbox_start, 0), seen=case.now_ms)
        salvage.apply_hint(lane, saved.hints.get(name))
        rule = case.keying_rules.get(name)
        lane.keying = [(rule, (begin, 0))] if rule else lane.keying[-1:]
        lane.need, lane.read = (begin, 0), begin
        _resume(lane, found, choice.resend)
        state.lanes[name] = lane


_LOST = (
    "the events that only saved windows held, and where every window ended: what was collected "
    "from record {begin} on comes twice; cursors that can still be read: {lanes}"
)


def _cursors(saved: Salvaged) -> str:
    known = (f"{name} at {hint.cursor[0]}" for name, hint in saved.hints.items() if hint.cursor)
    return ", ".join(sorted(known)) or "none"


# -------------------------------------------------------------------------------- the outbox


def _outbox(
    case: RepairCase, choice: LossDecision, said: CommitMetadata | None, plan: RepairPlan
) -> None:
    """Accept an outbox that ends before the place where it once ended."""
    found, state = case.found, plan.state
    end, ended = found.outbox_end, max(state.obend, said.outbox if said else 0)
    if ended > end:
        names = sorted(name for name, lane in state.lanes.items() if lane.cursor < (ended, 0))
        what = f"the outbox ends at {end}, but ended at {ended} before"
        waiting = ", ".join(f"{name} from {state.lanes[name].cursor[0]}" for name in names)
        given_up = f"stored batches from {end} to {ended}, undelivered ones of: "
        plan.losses.append(Loss(LossKind.OUTBOX, (), what, given_up + (waiting or "no connection")))
        for lane in state.lanes.values():
            _resume(lane, found, choice.resend)
        state.obend = end
    for lane in state.lanes.values() if plan.losses else ():
        _within(lane, (end, 0))


def _resume(lane: LaneState, found: Restored, resend: Resend) -> None:
    if resend is Resend.ALL:
        lane.cursor, lane.acked = (found.outbox_start, 0), frozenset()
    elif resend is Resend.NONE:
        lane.cursor, lane.acked = (found.outbox_end, 0), frozenset()


def _within(lane: LaneState, end: Address) -> None:
    lane.cursor = min(lane.cursor, end)
    lane.acked = frozenset(a for a in lane.acked if lane.cursor <= a < end)


def _batches(case: RepairCase, choice: LossDecision, plan: RepairPlan) -> None:
    """Accept that batches expired before they were delivered."""
    start = (case.found.outbox_start, 0)
    for name in _concerned(case, choice, plan.state):
        lane = plan.state.lanes[name]
        if lane.cursor < start:
            what = f"the outbox begins at {start[0]}, the cursor of {name} is at {lane.cursor[0]}"
            given_up = f"undelivered batches of {name} stored from {lane.cursor[0]} to {start[0]}"
            plan.losses.append(Loss(LossKind.BATCHES, (name,), what, given_up))
            lane.cursor = start
            lane.acked = frozenset(a for a in lane.acked if a >= start)


# --------------------------------------------------------------------------------- the input


def _input(
    case: RepairCase, choice: LossDecision, said: CommitMetadata | None, plan: RepairPlan
) -> None:
    """Accept an input that is another log under the same name, or was cut short."""
    found, state = case.found, plan.state
    why = _replaced(case, said, plan)
    if found.input_id and (why or plan.losses):
        state.extra[opening.INPUT_ID] = found.input_id
    if not why:
        return
    windows = sum(len(lane.held) for lane in state.lanes.values())
    given_up = f"{windows} saved windows, and every event not yet in the outbox"
    plan.losses.append(Loss(LossKind.INPUT, (), why, given_up))
    if choice.begin is None:
        plan.undecided = "the input was replaced or cut short: say from where to collect"
        return
    opening.apply_operator_move(state, min(max(choice.begin, found.input_start), found.input_end))


def _replaced(case: RepairCase, said: CommitMetadata | None, plan: RepairPlan) -> str:
    found, state = case.found, plan.state
    furthest = max([state.read, *(state.lanes[n].need[0] for n in _known(case, state))])
    if furthest > found.input_end:
        return f"the input ends at {found.input_end}, but was read up to {furthest} before"
    known = state.extra.get(opening.INPUT_ID, "")
    moved = found.commit is not None and said is None
    if found.input_id and not moved and known not in {"", found.input_id}:
        return f"topic {case.topic} was deleted and created again: it has another id"
    return ""


def _records(case: RepairCase, choice: LossDecision, plan: RepairPlan) -> None:
    """Accept that records were deleted before they were collected."""
    found, state = case.found, plan.state
    start = found.input_start
    for name in _concerned(case, choice, state):
        lane = state.lanes[name]
        if lane.need[0] < start:
            what = f"the input begins at {start}, {name} still needs {lane.need[0]}"
            given_up = f"events of {name} in records {lane.need[0]} to {start - 1}"
            plan.losses.append(Loss(LossKind.RECORDS, (name,), what, given_up))
            lane.need, lane.read = (start, 0), max(lane.read, start)
            state.read = max(state.read, start)
    begun = found.commit is not None or state.base_offset is not None
    if begun and choice.connection is None and state.read < start:
        what = f"the input begins at {start}, the partition was read up to {state.read}"
        given_up = f"records {state.read} to {start - 1}"
        plan.losses.append(Loss(LossKind.RECORDS, (), what, given_up))
        state.read = start


def _known(case: RepairCase, state: PartitionState) -> list[str]:
    return [name for name in case.keying_rules if name in state.lanes]


def _concerned(case: RepairCase, choice: LossDecision, state: PartitionState) -> list[str]:
    names = _known(case, state)
    return names if choice.connection is None else [n for n in names if n == choice.connection]


def check_opens(case: RepairCase, written: RepairedSnapshot) -> opening.Opening:
    """Return the opening that would find what is about to be written.

    Raises RefusedError where it would still refuse: then nothing must be written.
    """
    at = case.found.state_end
    records = [(at + i, value) for i, value in enumerate(written.values)]
    found = msgspec.structs.replace(
        case.found,
        commit=written.commit(at),
        state=records,
        state_end=at + len(records) + 1,
    )
    return opening.decide_stored(found, case.group, case.topic, case.keying_rules, case.now_ms)

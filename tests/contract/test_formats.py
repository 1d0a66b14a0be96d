"""What collecting may rely on, asked of every format; a format joins by a ``Sender`` of its own."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder import app
from forwarder.collect.keying import BY_DEVICE, BY_SESSION
from forwarder.collect.pipeline import compile_lanes
from forwarder.collect.replay_filter import ReplayFilter
from forwarder.config.connection import Batching, Connection, Match, Settings
from forwarder.config.settings import INPUT_FORMATS, JournalSettings, LimitSettings
from forwarder.config.targets import SINK_FORMATS, FileTarget, KinesisTarget, PartitionKey
from forwarder.errors import StartupError
from forwarder.formats import rawjson
from forwarder.formats.contract import (
    Formats,
    Reject,
)
from forwarder.formats.ids import IdSource
from forwarder.formats.registry import BUILT_IN
from forwarder.journal.memory import MemoryJournals
from forwarder.model import CloseReason, HeldWindow, Reason
from tests import toy_format
from tests.builders import NOW, START, Rec, finished, merged
from tests.doubles import LoopClock, Notes
from tests.format_senders import (
    DROPPING,
    PARTITION,
    SENDERS,
    Sender,
    collected,
    connection,
    decoded,
    decoder,
    maker,
    pipeline,
)

pytestmark = pytest.mark.usefixtures("core")


@pytest.fixture(params=SENDERS)
def sender(request: pytest.FixtureRequest) -> Sender:
    """Return each format's sender in turn."""
    found: Sender = SENDERS[request.param]
    return found


every_format = pytest.mark.parametrize("name", SENDERS)


# --------------------------------------------------------------------------- the registry


def test_a_configuration_may_name_every_format_there_is_and_no_other() -> None:
    assert set(BUILT_IN.inputs) == set(INPUT_FORMATS)
    assert {name for _, name in BUILT_IN.documents} == set(SINK_FORMATS)
    assert {name for name, _ in BUILT_IN.documents} == set(INPUT_FORMATS)
    assert [*BUILT_IN.inputs] == [form.name for form in BUILT_IN.inputs.values()]


def test_documents_that_cannot_be_made_of_a_topics_uploads_end_the_start() -> None:
    odd = Connection("acme", FileTarget("out", format="toy"))
    with pytest.raises(StartupError, match=r"acme: sink\.format toy cannot be made of mparticle"):
        compile_lanes([odd], "mparticle", toy_format.FORMATS)


def test_topics_of_several_formats_have_lanes_of_their_own_in_one_worker() -> None:
    """A connection is compiled for each format that is read, once for all topics of it."""
    pairs = {("mparticle", "toy"): toy_format.ToyDocuments, ("toy", "toy"): toy_format.ToyDocuments}
    chosen = Connection("acme", FileTarget("out", format="toy"))
    plan = app.WorkerPlan(
        "g",
        [chosen],
        JournalSettings(),
        LimitSettings(),
        {"a": "mparticle", "b": "toy", "c": "toy"},
        formats=Formats(inputs=toy_format.FORMATS.inputs, documents=pairs),
    )
    found = app.make_context(plan, {}, MemoryJournals(), LoopClock(), Notes()).lanes
    assert ["mparticle", "toy"] == [found[topic].form.name for topic in ("a", "b")]
    assert found["b"] is found["c"]
    assert ["acme"] == [lane.name for lane in found["a"].lanes]


# --------------------------------------------------------------------------- decoding


def test_an_upload_has_its_events_byte_for_byte_in_their_places(sender: Sender) -> None:
    sent = [sender.event(n, session=f"s{n % 2}") for n in range(5)]
    upload = decoded(sender, sender.record(*sent))
    assert (7, 0, START, START) == (upload.offset, upload.start, upload.time, upload.clock)
    assert (["tap"] * 5, 5) == (upload.types, len(upload.sessions))
    assert sent == [bytes(one) for one in rawjson.split_values(upload.body)]
    assert upload.sessions[0] == upload.sessions[2] != upload.sessions[1]
    assert not any(one in upload.context for one in sent)


def test_sessions_are_named_only_where_somebody_needs_them(sender: Sender) -> None:
    value = sender.record(sender.event(1, session="s"))
    assert [] == decoded(sender, value, sessions=False).sessions
    assert [b""] == decoded(sender, sender.record(sender.event(1))).sessions


def test_an_upload_without_events_is_one_all_the_same(sender: Sender) -> None:
    upload = decoded(sender, sender.record())
    assert ([], [], b"") == (upload.types, upload.sessions, upload.body)


def test_what_is_read_depends_on_the_record_alone(sender: Sender) -> None:
    value = sender.record(sender.event(1, session="s"), tag="t")
    used = decoder(sender)
    used.decode(sender.record(sender.event(2), device="other"), 1, START, START)
    again = used.decode(value, 7, START, START)
    assert not isinstance(again, Reject)
    assert decoded(sender, value) == again[0]


def test_devices_and_users_are_told_apart(sender: Sender) -> None:
    one, other, guest = (
        decoded(sender, sender.record(device=device, user=user))
        for device, user in (("d1", "u1"), ("d2", "u1"), ("d1", "u2"))
    )
    assert one.device == guest.device != other.device
    assert 3 == len({one.owner, other.owner, guest.owner})


def test_what_is_no_upload_is_rejected_with_a_bounded_reason(sender: Sender) -> None:
    for value in sender.broken:
        found = decoder(sender).decode(value, 7, START, START)
        assert isinstance(found, Reject)
        assert found.reason in Reason
        assert "\n" not in found.error


@every_format
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_nothing_that_comes_in_raises(name: str, data: st.DataObject) -> None:
    sender = SENDERS[name]
    whole = sender.record(sender.event(1), sender.event(2, session="secret-value"), tag="t")
    at = data.draw(st.integers(0, len(whole)))
    cut = whole[:at] + data.draw(st.binary(max_size=4)) + whole[at + data.draw(st.integers(0, 9)) :]
    value = data.draw(st.one_of(st.just(cut), st.binary(max_size=40)))
    found = decoder(sender).decode(value, 7, START, START)
    if isinstance(found, Reject):
        assert "secret-value" not in found.error
    else:
        starts = [one.start for one in found]
        taken = [max(len(one.types), 1) for one in found]
        assert starts == [sum(taken[:at]) for at in range(len(found))]
    sender.form.record_time(value)


def test_what_a_match_looks_at_is_read_as_json(sender: Sender) -> None:
    upload = decoded(sender, sender.record(sender.event(1)))
    assert b'"production"' == upload.environment
    assert "ios" == json.loads(sender.form.platform(upload)).lower()
    named = sender.form.applications(upload)
    assert upload.application == named[0]
    assert "shop" in map(json.loads, named)
    assert [*sender.api_keys] == [json.loads(key) for key in sender.form.api_keys(upload)]


# --------------------------------------------------------------------------- contexts


def test_a_context_and_its_shape_belong_together(sender: Sender) -> None:
    reads = decoder(sender)
    for tag in ("", "t"):
        upload = decoded(sender, sender.record(tag=tag))
        assert upload.shape == sender.form.shape(upload.context) == reads.shape(upload.context)
        assert reads.shape(upload.context) is reads.shape(upload.context[:-1] + upload.context[-1:])


def test_contexts_are_merged_as_their_shapes_say(sender: Sender) -> None:
    plain, newer, tagged, more = (
        decoded(sender, sender.record(tag=tag, user=user))
        for tag, user in (("", "u1"), ("", "u2"), ("a", "u1"), ("b", "u1"))
    )
    merge = sender.form.merge
    assert plain.shape.plain
    assert tagged.shape.plain != sender.accumulates
    for old in (plain, newer):
        assert (newer.context, newer.shape) == merge(old.context, newer.context)
    both, shape = merge(tagged.context, more.context)
    assert (both, shape) == merge(tagged.context, more.context)
    assert shape == sender.form.shape(both)
    assert len(both) <= len(tagged.context) + len(more.context)
    kept, _ = merge(both, plain.context)
    assert sender.form.shape(kept).plain != sender.accumulates  # what has accumulated stays


# --------------------------------------------------------------------------- filters


def test_a_filter_keeps_runs_in_their_places_and_counts_the_rest(sender: Sender) -> None:
    sent = [sender.event(n, sender.view if n in {0, 3} else "tap") for n in range(6)]
    upload = decoded(sender, sender.record(*sent))
    counts: dict[tuple[str, str], int] = {}
    narrow = sender.form.event_filter("lane", Settings(**DROPPING))
    ((_, pieces),), failed = narrow.sift([upload], counts)
    assert ([], {("lane", "send_screen_views"): 2}) == (failed, counts)
    kept = {
        start + i: bytes(one)
        for offset, start, count, time, body in pieces
        for i, one in enumerate(rawjson.split_values(body))
        if (offset, time) == (7, START) and count == len(rawjson.split_values(body))
    }
    assert {n: sent[n] for n in (1, 2, 4, 5)} == kept
    assert "send_screen_views" in narrow.reasons
    assert not narrow.keeps_all(upload)


def test_a_filter_that_keeps_all_says_so(sender: Sender) -> None:
    upload = decoded(sender, sender.record(sender.event(1), sender.event(2)))
    wide = sender.form.event_filter("lane", Settings())
    ((_, pieces),), _ = wide.sift([upload], {})
    assert wide.keeps_all(upload)
    assert upload.body == b",".join(piece[4] for piece in pieces)


def test_filters_that_keep_the_same_have_one_rule_and_others_another(sender: Sender) -> None:
    make = sender.form.event_filter
    assert make("a", Settings()).rule == make("b", Settings()).rule
    assert make("a", Settings()).rule != make("a", Settings(**DROPPING)).rule


def test_an_upload_of_which_nothing_is_kept_may_become_a_piece_without_events(
    sender: Sender,
) -> None:
    upload = decoded(sender, sender.record(sender.event(1, sender.view)))
    for empty_too, expected in ((True, [(7, 0, 0, START, b"")]), (False, [])):
        chosen = Settings(**DROPPING, send_batches_without_events=empty_too)
        made = sender.form.event_filter("lane", chosen)
        assert empty_too == made.empty_too
        assert expected == made.sift([upload], {})[0][0][1]


def test_a_stored_piece_is_judged_as_the_upload_it_was(sender: Sender) -> None:
    upload = decoded(sender, sender.record(sender.event(1), sender.event(2, sender.view)))
    held = HeldWindow(
        key=upload.owner,
        device=upload.device,
        session=b"",
        pieces=[(7, 3, 2, START, upload.body)],
        context=upload.context,
        identities_ms=START,
        newest_ms=START,
        to=(7, 4),
        opened=START,
        last_activity=START,
        deadline=NOW,
        reason=CloseReason.AGE,
    )
    again = decoder(sender).from_piece(held.pieces[0], held)
    assert (7, 3, START) == (again.offset, again.start, again.time)
    assert (upload.device, upload.types, upload.body) == (again.device, again.types, again.body)
    narrow = sender.form.event_filter("lane", Settings(**DROPPING))
    assert [1] == [piece[2] for piece in narrow.sift([again], {})[0][0][1]]


def test_a_letter_is_an_upload_again(sender: Sender) -> None:
    upload = decoded(sender, sender.record(sender.event(1, session="s"), sender.event(2), tag="t"))
    again = decoded(sender, sender.form.upload(upload.body, upload.context))
    assert (upload.types, upload.sessions, upload.body) == (again.types, again.sessions, again.body)
    assert (upload.device, upload.owner, upload.context) == (
        again.device,
        again.owner,
        again.context,
    )


# --------------------------------------------------------------------------- documents


@every_format
@settings(max_examples=100, deadline=None)
@given(count=st.integers(0, 5), tag=st.text("abc", max_size=5))
def test_a_document_is_as_long_as_its_frame_says_and_holds_its_events(
    name: str, count: int, tag: str
) -> None:
    sender = SENDERS[name]
    count = 1 if connection(sender).has_one_event_documents else count
    sent = [sender.event(n) for n in range(count)]
    upload = decoded(sender, sender.record(*sent, tag=tag))
    made = maker(sender)
    frame = made.frame(upload.context, START, START)
    ids = IdSource(PARTITION, connection(sender), made.version).derive(
        upload.device, (7, 0), (7, count), count, START
    )
    events = upload.body
    if made.render is not None:
        events = b",".join([made.render(frame, one) for one in sent])
    document = made.document(frame, events, ids)
    assert frame.size + len(events) == len(document)
    assert document == maker(sender).document(frame, events, ids)
    text, *rest = sender.read(document)
    assert [sent, [tag] if tag else []] == rest
    known = made.recognize(document)
    assert known is not None
    assert (text or known.id, frame.user, count) == known
    assert text in {ids.text, ""}


def test_what_is_no_document_is_not_recognized(sender: Sender) -> None:
    for value in (*sender.broken, b"[" * 100_000, sender.record(sender.event(1))):
        assert maker(sender).recognize(value) is None


@pytest.mark.parametrize("limit", [1_024, 5_000, 1_048_576])
def test_small_contexts_and_events_fit_without_another_look(sender: Sender, limit: int) -> None:
    made = maker(sender, limit)
    upload = decoded(sender, sender.record())
    frame = made.frame(upload.context, 10**15, 10**15)
    assert made.least <= frame.limit <= limit
    if len(upload.context) <= made.small_context_bytes:
        assert frame.size <= made.least // 2
        assert made.small_events_bytes <= frame.room
    assert frame.room == frame.limit - frame.size


def test_a_context_of_which_all_is_sent_is_not_pruned(sender: Sender) -> None:
    made = maker(sender, include_mp_deviceid=True, include_consent_state=True)
    context = decoded(sender, sender.record(tag="t")).context
    assert made.prune(context, 1 << 20) is context


def test_what_is_pruned_makes_the_same_document(sender: Sender) -> None:
    made = maker(sender)
    context = decoded(sender, sender.record(tag="t")).context
    pruned = made.prune(context, 0)
    assert made.prune(pruned, 0) == pruned
    whole, less = (made.frame(one, START, START) for one in (context, pruned))
    assert whole == less


# --------------------------------------------------------------------------- replays


def test_uploads_are_keyed_as_before_for_all_lanes_at_once(sender: Sender) -> None:
    for rule, former in sender.form.former_rules.items():
        assert rule not in {BY_DEVICE, BY_SESSION}
        one, other = (
            decoded(sender, sender.record(sender.event(1, session="s"), user=user))
            for user in ("u1", "u2")
        )
        before = former.keyed(one)
        assert before is former.keyed(one)
        assert (one.offset, one.body, one.types) == (before.offset, before.body, before.types)
        # Both formats told people on one device apart only later.
        assert before.owner == former.keyed(other).owner
        assert one.owner != other.owner


@pytest.mark.parametrize("by_session", [False, True])
def test_a_replay_below_the_switch_takes_up_what_the_former_rule_left(
    sender: Sender, *, by_session: bool
) -> None:
    rules = [n for n, f in sender.form.former_rules.items() if f.by_session == by_session]
    if not rules:  # a format of which nothing is stored under another rule
        assert {} == sender.form.former_rules
        return
    (rule,) = rules
    today = BY_SESSION if by_session else BY_DEVICE
    replay = ReplayFilter((0, 0), 2, {}, {}, [(rule, (0, 0)), (today, (2, 0))])
    chosen = connection(sender, wait_for_complete_batch=by_session)
    fed = pipeline(sender, chosen, read=2, replays={"lane": replay})
    values = [
        sender.record(sender.event(n, session="s"), user=user)
        for n, user in enumerate(("u1", "u2", "u1", "u2"))
    ]
    records = [Rec(at, START + at, value) for at, value in enumerate(values)]
    out = merged([fed.collect(records, NOW), *finished(fed)])
    # The first two shared a window then, and would be two today.
    assert [2, 1, 1] == [batch.count for batch in out.batches]
    assert ((0, 0), (1, 0)) == (out.batches[0].first, out.batches[0].last)


# --------------------------------------------------------------------------- the whole pipeline


@every_format
@settings(max_examples=40, deadline=None)
@given(
    shape=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 3)), min_size=1, max_size=12),
    limit=st.sampled_from([0, 1_200, 4_000]),
    mode=st.sampled_from([{}, {"wait_for_complete_batch": True}, {"send_as_batch": False}]),
)
def test_every_event_is_in_one_document_that_fits(
    name: str, shape: list[tuple[int, int]], limit: int, mode: dict[str, Any]
) -> None:
    sender = SENDERS[name]
    values, expected = list[bytes](), dict[bytes, str]()
    for at, (count, device) in enumerate(shape):
        sent = [sender.event(10 * at + n, session=f"s{n % 2}") for n in range(count)]
        values.append(sender.record(*sent, device=f"d{device}", tag="t" * (at % 3)))
        expected |= dict.fromkeys(sent, f"d{device}")
    found = list[bytes]()
    latest: dict[bytes, tuple[int, int]] = {}
    for batch in collected(sender, connection(sender, limit, **mode), values):
        text, events, _ = sender.read(batch.payload)
        assert text in {batch.id, ""}
        assert batch.count == len(events)
        assert not limit or len(batch.payload) <= limit
        assert 1 == len({expected[one] for one in events})
        assert batch.first <= batch.last
        if not mode:
            assert latest.get(batch.key, (-1, -1)) < batch.first
        latest[batch.key] = batch.last
        found += events
    assert sorted(expected) == sorted(found)


def test_the_same_input_gives_the_same_batches(sender: Sender) -> None:
    values = [sender.record(sender.event(n), device=f"d{n % 3}", tag="t") for n in range(9)]
    once, again = (collected(sender, connection(sender), values) for _ in range(2))
    assert once == again
    single = connection(sender).has_one_event_documents
    assert (9 if single else 3) == len({batch.id for batch in once})


def test_a_session_is_one_document_and_its_end_closes_it(sender: Sender) -> None:
    begin, end = sender.form.session_start, sender.form.session_end
    values = [
        sender.record(sender.event(1, begin, "a"), sender.event(2, "tap", "a")),
        sender.record(sender.event(3, end, "a"), sender.event(4, begin, "b")),
        sender.record(sender.event(5, "tap", "b")),
    ]
    chosen = connection(sender, wait_for_complete_batch=True, batching=Batching(session_grace_ms=0))
    found = collected(sender, chosen, values)
    if chosen.has_one_event_documents:
        assert [(1, CloseReason.SINGLE)] * 5 == [(batch.count, batch.reason) for batch in found]
        return
    assert [(3, CloseReason.SESSION_END), (2, CloseReason.END)] == [
        (batch.count, batch.reason) for batch in found
    ]


@pytest.mark.parametrize(
    ("match", "wanted"),
    [
        (Match(), True),
        (Match(environment=frozenset({"production"}), application=frozenset({"shop"})), True),
        (Match(platform=frozenset({"ios"}), api_key=frozenset({"k0", "k1"})), True),
        (Match(environment=frozenset({"development"})), False),
        (Match(application=frozenset({"other"})), False),
        (Match(platform=frozenset({"android"})), False),
        (Match(api_key=frozenset({"k2"})), False),
    ],
)
def test_a_match_looks_at_an_upload_of_any_format(
    sender: Sender, match: Match, *, wanted: bool
) -> None:
    chosen = connection(sender, match=match)
    wanted = wanted and (match.api_key is None or bool(sender.api_keys))
    assert wanted == bool(collected(sender, chosen, [sender.record(sender.event(1))]))


def test_what_does_not_fit_alone_becomes_an_upload_of_its_own(sender: Sender) -> None:
    large = sender.event(1, session="x" * 3_000)
    fed = pipeline(sender, connection(sender, 1_024))
    values = [sender.record(large, sender.event(2))]
    out = merged([fed.collect([Rec(0, START, values[0])], NOW), *finished(fed)])
    (letter,) = out.dead_letters
    assert (Reason.EVENT_TOO_LARGE, 1) == (letter.reason, letter.events)
    assert large == decoded(sender, letter.value).body
    assert [1] == [batch.count for batch in out.batches]


def test_the_partition_key_may_be_the_user(sender: Sender) -> None:
    upload = decoded(sender, sender.record(user="u" * 9))
    made = maker(sender)
    user = made.frame(upload.context, START, START).user
    target = KinesisTarget("s", "us-east-1", PartitionKey.MPID, 2_000, format=sender.form.name)
    chosen = Connection("lane", target)
    frame = sender.documents(chosen, target.record_limit).frame(upload.context, START, START)
    assert 2_000 - (len(user.encode()) or 32) == frame.limit

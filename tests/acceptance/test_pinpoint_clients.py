"""Real clients report to a gateway, and what reaches the streams is what they have sent.

One performance for all of these tests, which judge what arrived by what was on the wire.
"""

import asyncio
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta

import pytest

from tests.acceptance.pinpoint_performance import (
    ENVELOPE,
    FINISHED,
    GOLDEN,
    MP_USERS,
    PINPOINT_DATA,
    Performance,
    events_of,
    perform,
)
from tests.acceptance.pinpoint_scene import KEYED, SIGNED, PinpointScene
from tests.athena import Athena
from tests.clients import install
from tests.pinpoint_oracle import Json, judge
from tests.services.kafka import MissingToolError
from tests.services.ministack import CUSTOMER_ACCOUNT, MiniStack

DAYS_WITH_USERS = 12
ARRIVED = re.compile(rb'("arrival_timestamp":)\d{13}')
DATED = re.compile(rb'((?:CreationDate|EffectiveDate)\\?":\\?")[\d:.TZ-]{24}')


@pytest.fixture(scope="module")
def performance(
    kafka: str, ministack: MiniStack, tmp_path_factory: pytest.TempPathFactory
) -> Performance:
    folder = tmp_path_factory.mktemp("clients")
    try:
        install.installed_node_clients()
        node = True
    except MissingToolError:
        node = False
    scene = PinpointScene.make(kafka, folder, f"t-{folder.name.replace('_', '-')}", ministack)
    try:
        return asyncio.run(perform(scene, ministack, node=node))
    finally:
        scene.close()


def test_javascript_clients_were_there(performance: Performance) -> None:
    if not performance.told["sdk"]:
        install.node_clients()  # skips, or fails in CI, and says what is missing


def test_every_client_was_told_that_its_events_are_accepted(performance: Performance) -> None:
    for client in ("boto", "cli", "sdk"):
        for answer in performance.told[client]:
            results = answer.get("EventsResponse", answer)["Results"]
            for item in results.values():
                told = Counter(one["StatusCode"] for one in item["EventsItemResponse"].values())
                assert told.keys() <= {202, 400}
                assert {"StatusCode": 202, "Message": "Accepted"} == item["EndpointItemResponse"]
    assert [400, 400] == [*performance.account.refused.values()]
    lost = [exchange for exchange in performance.exchanges if not exchange.delivered]
    assert {"/v1", "/v2"} == {exchange.target[:3] for exchange in lost}


def test_what_is_refused_is_refused_for_itself_and_told_why(performance: Performance) -> None:
    (item,) = performance.told["boto"][-1]["Results"].values()
    told = list(item["EventsItemResponse"].values())
    assert [202, 400, 400, 202] == [one["StatusCode"] for one in told]
    assert all("should be less than" in one["Message"] for one in told[1:3])


@pytest.mark.parametrize(("stream", "app"), [("events", SIGNED), ("keyed", KEYED)])
def test_a_stream_has_a_record_of_each_of_its_apps_events_and_no_other(
    performance: Performance, stream: str, app: str
) -> None:
    wanted = performance.account.wanted(app)
    if performance.told["sdk"]:
        assert {"events": 1000, "keyed": 120}[stream] < len(wanted)
    verdict = judge(performance.account, wanted, performance.reported(stream))
    assert not verdict.faults, verdict.text()
    assert 0 == verdict.repeats


def test_a_records_partition_key_is_its_endpoint(performance: Performance) -> None:
    for record in [*performance.streams["events"], *performance.streams["keyed"]]:
        assert json.loads(record.value)["client"]["client_id"] == record.partition_key


def test_the_bucket_has_the_streams_records_byte_for_byte_one_a_line(
    performance: Performance,
) -> None:
    assert Counter(performance.values("events")) == Counter(performance.bucket)


def test_golden_records_are_in_the_bucket_byte_for_byte(performance: Performance) -> None:
    wanted = (PINPOINT_DATA / "records.ndjson").read_bytes().splitlines()
    ours = tuple(b'"client_id":"%b"' % name.encode() for name in GOLDEN["BatchItem"])
    found = [line for line in performance.bucket if any(one in line for one in ours)]
    for chosen, name in ((ARRIVED, rb"\1ARRIVAL"), (DATED, rb"\1CREATED")):
        found = [chosen.sub(name, line) for line in found]
    for one, other in zip(sorted(wanted), sorted(found), strict=True):
        assert one.decode() == other.decode()


def test_records_of_other_systems_pass_as_they_are(performance: Performance) -> None:
    there = performance.values("events")
    assert [1] * len(FINISHED) == [there.count(record) for record in FINISHED]


def test_what_aws_clients_write_today_becomes_the_record_it_claims_to_be(
    performance: Performance,
) -> None:
    (found,) = [one for one in performance.values("events") if b'"other-4"' in one]
    record = json.loads(found)
    endpoint = record.pop("endpoint")
    assert ("user-4", "other-4") == (endpoint["User"]["UserId"], endpoint["Id"])
    assert CUSTOMER_ACCOUNT == record.pop("awsAccountId", CUSTOMER_ACCOUNT)
    assert ENVELOPE["record"] == record
    assert [*ENVELOPE["record"]] == [*record]


def test_what_happens_to_be_no_event_of_an_app_goes_nowhere(performance: Performance) -> None:
    assert [] == performance.letters
    for stream in ("events", "keyed"):
        assert b"_test.event_stream" not in b"".join(performance.values(stream))


def test_every_event_is_in_one_document_of_mparticles_format(performance: Performance) -> None:
    found = Counter(
        (event["event_type"], event["data"]["timestamp_unixtime_ms"])
        for value in performance.values("documents")
        for event in events_of(value)
    )
    reported = [event.record for event in performance.account.wanted()]
    others = [*map(json.loads, FINISHED), ENVELOPE["record"]]
    wanted = Counter(map(as_mparticle, [*reported, *others]))
    assert wanted == found
    ids = [
        event["data"]["event_id"]
        for value in performance.values("documents")
        for event in events_of(value)
    ]
    assert len(ids) == len({*ids})


def as_mparticle(record: Json) -> tuple[str, int]:
    """Return an event's type in mParticle's format, and its time."""
    kind = record["event_type"]
    types = {
        "_session.start": "session_start",
        "_session.stop": "session_end",
        "_monetization.purchase": "commerce_event",
        "pageView": "screen_view",
    }
    found = types.get(kind)
    if kind.startswith("_userauth."):
        found = "custom_event" if kind.endswith("auth_fail") else "profile"
    elif kind.startswith(("_campaign.", "_journey.")):
        found = "push_reaction" if kind.endswith("opened_notification") else "push_message"
    elif kind.startswith("_session."):
        found = found or "application_state_transition"
    return found or "custom_event", record["event_timestamp"]


def test_uploads_of_mparticles_sdk_arrive_in_documents_once(performance: Performance) -> None:
    found = Counter(
        json.dumps(event, sort_keys=True)
        for value in performance.values("uploads")
        for event in events_of(value)
    )
    sent = performance.uploads()
    assert MP_USERS == len(sent)
    wanted = Counter(json.dumps(event, sort_keys=True) for one in sent for event in one["events"])
    assert wanted == found


def test_uploads_of_mparticles_sdk_become_records_of_pinpoints_format(
    performance: Performance,
) -> None:
    found = Counter[int]()
    for value in performance.values("records"):
        record = json.loads(value)
        assert "mp" == record["application"]["app_id"]
        assert "3.1" == record["event_version"]
        found[record["event_timestamp"]] += 1
    sent = performance.uploads()
    wanted = Counter(
        event["data"]["timestamp_unixtime_ms"] for one in sent for event in one["events"]
    )
    assert wanted == found
    kinds = Counter(json.loads(value)["event_type"] for value in performance.values("records"))
    assert MP_USERS == kinds["_session.start"] == kinds["_session.stop"]


# What people compute from the bucket.


@pytest.fixture(scope="module")
def athena(performance: Performance, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Athena]:
    opened = Athena(
        [b"%b\n" % one for one in performance.bucket], tmp_path_factory.mktemp("athena")
    )
    yield opened
    opened.close()


@pytest.fixture
def sent(performance: Performance) -> list[Json]:
    """Return what has to be in the bucket, as records without what the service chose."""
    reported = [event.record for event in performance.account.wanted(SIGNED)]
    return [*reported, *map(json.loads, FINISHED), ENVELOPE["record"]]


def day(record: Json) -> date:
    return datetime.fromtimestamp(record["event_timestamp"] // 1000, UTC).date()


def of_kind(records: Iterable[Json], *kinds: str) -> list[Json]:
    return [record for record in records if record["event_type"].startswith(kinds)]


def client(record: Json) -> str:
    found: str = record["client"]["client_id"]
    return found


def active(records: Iterable[Json]) -> dict[date, set[str]]:
    """Return who began a session, by day."""
    found = defaultdict(set)
    for record in of_kind(records, "_session.start"):
        found[day(record)].add(client(record))
    return found


def test_daily_active_users(athena: Athena, sent: list[Json]) -> None:
    wanted = [(SIGNED, at, len(users)) for at, users in sorted(active(sent).items())]
    assert DAYS_WITH_USERS <= len(wanted)
    assert wanted == athena.run("dau")


def test_sessions_by_platform(athena: Athena, sent: list[Json]) -> None:
    counts = Counter(
        (str(day(one)), one["device"]["platform"].get("name"))
        for one in of_kind(sent, "_session.start")
    )
    wanted = {(SIGNED, *key, count) for key, count in counts.items()}
    assert wanted == {*athena.run("sessions")}
    assert any(platform is None for _, platform in counts)


def test_length_of_sessions(athena: Athena, sent: list[Json]) -> None:
    names, took = defaultdict(set), Counter[date]()
    for one in of_kind(sent, "_session.stop"):
        names[day(one)].add(one["session"]["session_id"])
        took[day(one)] += one["session"]["stop_timestamp"] - one["session"]["start_timestamp"]
    wanted = [(SIGNED, at, len(names[at]), took[at] // 1000) for at in sorted(names)]
    assert wanted == [(app, at.date(), *rest) for app, at, *rest in athena.run("session_length")]


def test_new_users(athena: Athena, sent: list[Json]) -> None:
    first: dict[str, date] = {}
    for at, users in sorted(active(sent).items()):
        for user in users:
            first.setdefault(user, at)
    wanted = [(SIGNED, at, count) for at, count in sorted(Counter(first.values()).items())]
    assert wanted == athena.run("new_users")


def test_retention(athena: Athena, sent: list[Json]) -> None:
    users = active(sent)
    wanted = [
        (
            SIGNED,
            at,
            len(original),
            *(len(original & users.get(at + timedelta(days=n), set())) for n in (1, 3, 7)),
        )
        for at, original in sorted(users.items())
    ]
    found = athena.run("retention")
    assert wanted == found
    assert all(any(row[place] for row in found) for place in (3, 4, 5))


def test_revenue_and_paying_users(athena: Athena, sent: list[Json]) -> None:
    revenue: defaultdict[tuple[date, str], float] = defaultdict(float)
    payers = defaultdict(set)
    for one in of_kind(sent, "_monetization.purchase"):
        key = day(one), one["attributes"]["_currency"]
        price, quantity = one["metrics"]["_item_price"], one["metrics"]["_quantity"]
        revenue[key] += float(price) * int(quantity)
        payers[key].add(client(one))
    found = athena.run("revenue")
    assert [(SIGNED, *key, len(payers[key])) for key in sorted(revenue)] == [
        (*row[:3], row[4]) for row in found
    ]
    assert [pytest.approx(revenue[key]) for key in sorted(revenue)] == [row[3] for row in found]
    assert {"EUR", "USD"} == {currency for _, currency in revenue}


def test_how_often_each_event_was_reported(athena: Athena, sent: list[Json]) -> None:
    others = ("_session.", "_campaign.", "_journey.", "_SMS.", "_email.")
    counts, users = Counter[str](), defaultdict(set)
    for one in sent:
        kind = one["event_type"]
        if not kind.startswith(others):
            counts[kind] += 1
            users[kind].add(client(one))
    wanted = {(SIGNED, kind, count, len(users[kind])) for kind, count in counts.items()}
    assert wanted == {*athena.run("custom_events")}


def test_what_became_of_campaigns(athena: Athena, sent: list[Json]) -> None:
    found = of_kind(sent, "_campaign.")
    counts = Counter((one["attributes"]["campaign_id"], one["event_type"]) for one in found)
    wanted = {(*key, count, count) for key, count in counts.items()}
    assert wanted == {*athena.run("campaigns")}


def test_journeys_tell_of_their_endpoints(athena: Athena, performance: Performance) -> None:
    wanted = [
        event
        for event in performance.account.wanted(SIGNED)
        if event.record["event_type"].startswith("_journey.")
    ]
    rows = {
        (
            event.record["event_type"],
            event.endpoint_id,
            event.record["attributes"]["journey_id"],
            event.endpoint["ChannelType"],
            event.endpoint["Address"],
            event.endpoint["Demographic"]["Platform"],
        )
        for event in wanted
    }
    found = athena.run("journeys")
    assert len(wanted) == len(found)
    assert rows == {(row[0], row[2], row[3], *row[5:8]) for row in found}
    assert {(CUSTOMER_ACCOUNT, None)} == {row[8:] for row in found}


def test_texts_by_what_became_of_them(athena: Athena, sent: list[Json]) -> None:
    counts = Counter[tuple[str, str, str]]()
    prices: dict[tuple[str, str, str], float | None] = {}
    for one in of_kind(sent, "_SMS."):
        told = one["attributes"]
        kind = "journey" if "journey_id" in told else "transactional"
        key = told["record_status"], told["iso_country_code"], kind
        counts[key] += 1
        price = one.get("metrics", {}).get("price_in_millicents_usd")
        prices[key] = price if price is None else (prices.get(key) or 0) + price
    wanted = [(*key, count, prices[key]) for key, count in sorted(counts.items())]
    assert 3 == len(wanted)
    assert wanted == athena.run("texts")


def test_e_mails_with_what_their_facets_tell(athena: Athena, sent: list[Json]) -> None:
    wanted = []
    for one in of_kind(sent, "_email."):
        if "facets" in one:
            event = one["facets"]["email_channel"]["mail_event"]
            mail, took = event["mail"], event.get("delivery", {}).get("processing_time_millis")
            tags = {**one["client_context"]["custom"], **one["attributes"]}
            rest = mail["destination"], mail["common_headers"]["subject"], took, tags
            wanted.append((client(one), one["event_type"], mail["message_id"], *rest))
    assert 2 == len(wanted)
    assert wanted == [(*row[1:4], *row[5:]) for row in athena.run("emails")]


def test_the_table_reads_every_record(athena: Athena, sent: list[Json]) -> None:
    assert [(len(sent),)] == athena.execute("SELECT count(*) FROM all_events")
    broken = "event_type IS NULL OR event_timestamp IS NULL OR application.app_id IS NULL"
    assert [(0,)] == athena.execute(f"SELECT count(*) FROM all_events WHERE {broken}")  # noqa: S608

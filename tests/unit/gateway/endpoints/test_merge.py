"""The rules of UpdateEndpoint, against an oracle that shares no code with them."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.config.gateway import GatewayLimits
from forwarder.gateway.endpoints.contract import EndpointUpdate, Merged
from forwarder.gateway.endpoints.dates import iso_date
from forwarder.gateway.endpoints.merge import cohort, make_merge, user_id

ARRIVAL = 1_767_225_600_000
ARRIVAL_DATE = "2026-01-01T00:00:00.000Z"
NEW = {
    "ApplicationId": "a1",
    "Attributes": {},
    "CohortId": "96",
    "CreationDate": ARRIVAL_DATE,
    "Demographic": {},
    "EffectiveDate": ARRIVAL_DATE,
    "EndpointStatus": "ACTIVE",
    "Id": "e-1",
    "Location": {},
    "Metrics": {},
    "OptOut": "NONE",
    "User": {},
}
LARGE = GatewayLimits()
SMALL = GatewayLimits(endpoint_bytes=600, endpoint_attributes=3, attribute_values=2)

Members = dict[str, Any]

keys = st.sampled_from(["k1", "k2", "k3"])
values = st.lists(st.sampled_from(["v1", "v2"]), max_size=2)
attributes = st.dictionaries(keys, st.none() | values, max_size=3)
texts = st.none() | st.sampled_from(["x", "y"])
updates = st.fixed_dictionaries(
    {},
    optional={
        "Address": texts,
        "Attributes": attributes | st.none(),
        "Demographic": st.dictionaries(st.sampled_from(["Make", "Locale"]), texts) | st.none(),
        "Location": st.dictionaries(st.sampled_from(["City", "Country"]), texts),
        "Metrics": st.dictionaries(keys, st.none() | st.sampled_from([1, 2.5])),
        "OptOut": st.sampled_from(["ALL", "NONE"]),
        "User": st.fixed_dictionaries({}, optional={"UserId": texts, "UserAttributes": attributes}),
        "EffectiveDate": st.integers(ARRIVAL, ARRIVAL + 3).map(iso_date),
        "Id": st.just("forged"),
        "CohortId": st.just("forged"),
        "ApplicationId": st.just("forged"),
        "CreationDate": st.just("forged"),
    },
)


def merged(
    stored: bytes | None,
    members: Members,
    at: int = ARRIVAL,
    limits: GatewayLimits = LARGE,
) -> Merged:
    return make_merge(limits)("a1", "e-1", stored, EndpointUpdate(members, at))


def after(*steps: Members) -> Members:
    stored = None
    for number, members in enumerate(steps):
        stored = merged(stored, members, ARRIVAL + number).endpoint
    assert stored is not None
    content: Members = orjson.loads(stored)
    return content


def leaves(members: Members) -> dict[tuple[str, ...], Any]:
    """Take members apart into paths and values, as the rules see them: what merges as a whole."""
    found: dict[tuple[str, ...], Any] = {}
    for name, value in members.items():
        if name in {"Demographic", "Location", "Attributes", "Metrics"}:
            found |= {(name, key): it for key, it in (value or {}).items()}
        elif name == "User":
            for key, it in value.items():
                if key == "UserAttributes":
                    found |= {(name, key, inner): each for inner, each in (it or {}).items()}
                else:
                    found[name, key] = it
        elif name not in {"Id", "CohortId", "ApplicationId", "CreationDate", "EffectiveDate"}:
            found[name,] = value
    return found


def expected(*steps: Members) -> dict[tuple[str, ...], Any]:
    """Return the leaves of an endpoint after these updates: the rules, written another way."""
    state: dict[tuple[str, ...], Any] = {("EndpointStatus",): "ACTIVE", ("OptOut",): "NONE"}
    newest = ""
    for members in steps:
        date = members.get("EffectiveDate")
        if date is not None and date < newest:
            continue
        before = dict(state)
        for path, value in leaves(members).items():
            is_map = path[0] in {"Attributes", "Metrics"} or len(path) == 3
            if is_map and (value is None or value == []):
                state.pop(path, None)
            elif value is not None:
                state[path] = value
        if date is not None:
            newest = date
        elif before != state or not newest:
            newest = iso_date(ARRIVAL + steps.index(members))
    return state


def test_an_update_that_says_nothing_creates_what_get_endpoint_answers() -> None:
    assert NEW == after({})


def test_of_an_endpoint_that_exists_it_changes_nothing() -> None:
    stored = merged(None, {"Address": "x"}).endpoint
    assert Merged(stored, changed=False) == merged(stored, {}, ARRIVAL + 5)


@given(st.lists(updates, min_size=1, max_size=5))
def test_given_members_replace_and_absent_ones_stay(steps: list[Members]) -> None:
    numbered = [dict(members, RequestId=str(number)) for number, members in enumerate(steps)]
    assert expected(*numbered) == leaves(after(*numbered))


@given(st.lists(updates, max_size=3), updates)
def test_the_same_update_again_changes_nothing(steps: list[Members], last: Members) -> None:
    stored = merged(None, {}).endpoint
    for members in steps:
        stored = merged(stored, members).endpoint
    once = merged(stored, last)
    assert Merged(once.endpoint, changed=False) == merged(once.endpoint, last, ARRIVAL + 9)


@given(st.lists(updates, max_size=3), updates, st.integers(1, 1000))
def test_an_update_older_than_what_is_stored_changes_nothing(
    steps: list[Members], late: Members, by: int
) -> None:
    stored = merged(None, {}).endpoint
    for members in steps:
        stored = merged(stored, members).endpoint
    newest = orjson.loads(stored)["EffectiveDate"]
    milliseconds = ARRIVAL + int(newest[-4:-1])
    late["EffectiveDate"] = iso_date(milliseconds - by)
    assert Merged(stored, changed=False) == merged(stored, late)


@given(updates, updates, updates)
def test_updates_of_different_members_come_out_alike_in_any_order(
    one: Members, other: Members, first: Members
) -> None:
    taken = leaves(one).keys()
    for members in (one, other, first):
        members.pop("EffectiveDate", None)
    apart = {name: it for name, it in other.items() if name not in one}
    assert taken.isdisjoint(leaves(apart))
    stored = merged(None, first).endpoint
    forth = merged(merged(stored, one).endpoint, apart).endpoint
    back = merged(merged(stored, apart).endpoint, one).endpoint
    assert forth == back


@given(updates)
def test_the_stores_own_members_cannot_be_given(members: Members) -> None:
    content = after(members, members)
    assert ("a1", "e-1", "96") == tuple(content[it] for it in ("ApplicationId", "Id", "CohortId"))
    assert ARRIVAL_DATE == content["CreationDate"]


def test_an_update_without_a_date_is_dated_by_its_arrival_and_never_old() -> None:
    far = iso_date(ARRIVAL + 10**12)
    assert (
        ARRIVAL_DATE[:-2] + "1Z" == after({"EffectiveDate": far}, {"Address": "x"})["EffectiveDate"]
    )


def test_an_update_that_says_nothing_new_leaves_even_the_date() -> None:
    stored = merged(None, {"Attributes": {"k": ["v"]}}).endpoint
    assert not merged(stored, {"Attributes": {"k": ["v"]}}, ARRIVAL + 1000).changed
    assert merged(stored, {"EffectiveDate": iso_date(ARRIVAL + 1)}).changed


@pytest.mark.parametrize(
    "members",
    [
        {"Attributes": {f"k{number}": ["v"] for number in range(4)}},
        {"Metrics": {f"k{number}": 1.0 for number in range(4)}},
        {"User": {"UserAttributes": {f"k{number}": ["v"] for number in range(4)}}},
        {"Attributes": {"k": ["1", "2", "3"]}},
        {"User": {"UserAttributes": {"k": ["1", "2", "3"]}}},
        {"Address": "x" * 600},
    ],
)
def test_what_passes_a_limit_is_refused_and_nothing_of_it_is_kept(members: Members) -> None:
    assert not merged(None, members).fault
    stored = merged(None, {"OptOut": "ALL"}).endpoint
    refused = merged(stored, members | {"OptOut": "NONE"}, limits=SMALL)
    assert "should be no more than" in refused.fault
    assert Merged(stored, changed=False, fault=refused.fault) == refused
    assert Merged(b"", changed=False, fault=refused.fault) == (
        merged(None, members | {"OptOut": "NONE"}, limits=SMALL)
    )


def test_what_is_above_a_limit_that_was_lowered_may_stay_and_shrink() -> None:
    stored = merged(
        None, {"Attributes": {f"k{number}": ["v" * 99] for number in range(9)}}
    ).endpoint
    shrunk = merged(stored, {"Attributes": {"k1": None}}, limits=SMALL)
    assert (True, "") == (shrunk.changed, shrunk.fault)
    assert merged(stored, {"Attributes": {"k10": ["v"]}}, limits=SMALL).fault
    assert "" == merged(stored, {"OptOut": "ALL", "Attributes": {"k2": []}}, limits=SMALL).fault


def test_counts_stand_at_their_limit() -> None:
    assert (
        ""
        == merged(
            None, {"Attributes": {"1": ["a", "b"], "2": ["v"], "3": ["v"]}}, limits=SMALL
        ).fault
    )


def test_numbers_come_out_as_they_came_in() -> None:
    stored = merged(None, {"Metrics": {"int": 1, "real": 1.0}, "Location": {"Latitude": 47.3}})
    assert b'"Metrics":{"int":1,"real":1.0}' in stored.endpoint
    assert b'"Location":{"Latitude":47.3}' in stored.endpoint


def test_cohorts_are_a_checksum_of_the_id() -> None:
    assert ("96", "0") == (cohort("e-1"), cohort(""))
    assert {str(number) for number in range(100)} == {cohort(str(each)) for each in range(2000)}


def test_a_users_id_is_found_in_what_is_stored() -> None:
    assert "" == user_id(merged(None, {}).endpoint)
    assert "ü" == user_id(merged(None, {"User": {"UserId": "ü"}}).endpoint)


def test_a_date_before_1970_is_older_than_any_that_is_stored() -> None:
    stored = merged(None, {"Address": "x"}).endpoint
    for date in ("1969-12-31T23:59:59.999Z", "0001-01-01T00:00:00Z"):
        assert not merged(stored, {"Address": "y", "EffectiveDate": date}).changed


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("2026-01-01T01:00:00+0100", "2026-01-01T00:00:00.000Z"),
        ("2025-12-31T23:59:59.9", "2025-12-31T23:59:59.900Z"),
        ("1767225600001", "2026-01-01T00:00:00.001Z"),
        ("not a date", ARRIVAL_DATE),
        ("-1", "1969-12-31T23:59:59.999Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z"),
        ("0001-01-01T00:00:00+01:00", ARRIVAL_DATE),
        ("9" * 18, ARRIVAL_DATE),
        (5, ARRIVAL_DATE),
        (None, ARRIVAL_DATE),
    ],
)
def test_dates_are_kept_as_one_form_of_them(sent: object, kept: str) -> None:
    assert kept == after({"EffectiveDate": sent})["EffectiveDate"]

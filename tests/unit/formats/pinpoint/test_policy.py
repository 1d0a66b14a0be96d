"""What settings take out of records: of all kinds, and of both forms of an endpoint."""

import json
from typing import Any

import pytest
from hypothesis import given, settings

from forwarder.config.connection import Settings
from forwarder.formats import rawjson
from forwarder.formats.pinpoint.policy import RecordPolicy
from tests.unit.formats.pinpoint.samples import ENDPOINT, EVENT, FINISHED, Json, compact, record
from tests.unit.formats.pinpoint.test_decode import LIKE
from tests.unit.formats.pinpoint.test_documents import collected, made

APP = {**FINISHED, "event_type": "tap", "endpoint": ENDPOINT, "client_context": {"custom": {}}}
RECORDS = {
    "of a gateway": record(EVENT),
    "of a campaign": record({**EVENT, "EventType": "_campaign.send"}),
    "finished": compact(APP),
    "a finished campaign": compact(FINISHED),
}
every_form = pytest.mark.parametrize("value", RECORDS.values(), ids=RECORDS)


def endpoint_of(content: Json) -> Json:
    """Return a record's endpoint, in whichever form it is there."""
    if "endpoint" in content:
        found: Json = content["endpoint"]
        return found
    told: Json = json.loads(content["client_context"]["custom"]["endpoint"])
    return told


def without(*names: str) -> Json:
    return {key: value for key, value in ENDPOINT.items() if key not in names}


@every_form
def test_without_a_setting_nothing_is_taken_out(value: bytes) -> None:
    assert ENDPOINT == endpoint_of(made(value))


@every_form
def test_no_location_is_sent_where_none_may_be(value: bytes) -> None:
    content = made(value, include_location_information=False)
    assert without("Location") == endpoint_of(content)
    assert {**made(value), **_ends(content)} == content


@every_form
def test_without_metadata_only_the_app_is_named(value: bytes) -> None:
    content = made(value, include_metadata=False)
    assert without("Demographic") == endpoint_of(content)
    assert {"platform": {}} == content["device"]
    assert {"app_id", "package_name", "sdk"} >= content["application"].keys()
    assert {} == content["application"]["sdk"]
    rest = {"device", "application", *_ends(content)}
    assert {k: v for k, v in made(value).items() if k not in rest} == {
        k: v for k, v in content.items() if k not in rest
    }


@every_form
def test_without_identities_nobody_is_named(value: bytes) -> None:
    content = made(value, include_user_identities=False)
    expected = without("Address")
    expected["User"] = {"UserAttributes": ENDPOINT["User"]["UserAttributes"]}
    assert expected == endpoint_of(content)


def test_without_identities_no_cognito_identity_is_told() -> None:
    client = {"client_id": "e-1", "cognito_id": "us-east-1:x"}
    content = made(compact({**APP, "client": client}), include_user_identities=False)
    assert {"client_id": "e-1"} == content["client"]


@every_form
def test_a_part_of_an_endpoint_may_be_excluded_in_either_form(value: bytes) -> None:
    paths = ("endpoint.Demographic.Make", "endpoint.Location", "endpoint.none")
    expected = without("Location")
    expected["Demographic"] = {k: v for k, v in ENDPOINT["Demographic"].items() if k != "Make"}
    assert expected == endpoint_of(made(value, metadata_field_exclusion=paths))
    content = made(value, metadata_field_exclusion=("endpoint",))
    assert "endpoint" not in content
    assert not content.get("client_context", {}).get("custom", {})


def test_paths_are_those_of_the_record_and_never_reach_into_its_event() -> None:
    paths = (
        "application.title", "device.locale.code", "client_context", "awsAccountId",
        "event_type", "attributes._product_id", "metrics", "session.session_id",
    )  # fmt: skip
    content = made(RECORDS["of a gateway"], account="1", metadata_field_exclusion=paths)
    plain = made(RECORDS["of a gateway"])
    del plain["application"]["title"], plain["device"]["locale"]["code"]
    assert plain == content


def test_an_endpoint_that_is_no_text_of_an_object_stays() -> None:
    for odd in ("x", 7, None, ["a"], "[1]"):
        custom = {"custom": {"endpoint": odd}}
        told = {**FINISHED, "client_context": custom}
        assert custom == made(compact(told), include_location_information=False)["client_context"]


INNER = json.dumps(ENDPOINT)
ODD_FORMS: dict[str, Json] = {
    "a list": {"endpoint": [ENDPOINT]},
    "a text": {"endpoint": INNER},
    "a list in a text": {"client_context": {"custom": {"endpoint": f"[{INNER}]"}}},
    "a text in a text": {"client_context": {"custom": {"endpoint": json.dumps(INNER)}}},
    "behind a mark": {"client_context": {"custom": {"endpoint": f"\ufeff{INNER}"}}},
    "a list of endpoints": {"client_context": {"custom": {"endpoint": [ENDPOINT]}}},
    "custom as a text": {"client_context": {"custom": json.dumps({"endpoint": INNER})}},
    "context as a text": {"client_context": json.dumps({"custom": {"endpoint": INNER}})},
}
HIDING: dict[str, Any] = {
    "include_location_information": False,
    "include_metadata": False,
    "include_user_identities": False,
    "metadata_field_exclusion": ("endpoint.Address",),
}


@pytest.mark.parametrize("setting", HIDING)
@pytest.mark.parametrize("told", ODD_FORMS.values(), ids=ODD_FORMS)
def test_nothing_that_is_hidden_passes_in_a_form_that_it_cannot_be_taken_out_of(
    told: Json, setting: str
) -> None:
    plain = {key: value for key, value in FINISHED.items() if key != "client_context"}
    value = compact({**plain, **told})
    assert made(value) == json.loads(value)
    assert made(value, metadata_field_exclusion=("awsAccountId",))
    out = collected(value, **{setting: HIDING[setting]})
    assert [] == out.batches
    assert ["not_encodable"] == [letter.reason for letter in out.dead_letters]


def test_a_context_that_is_excluded_as_a_whole_needs_no_look_inside() -> None:
    value = compact({**FINISHED, "client_context": "{"})
    paths = ("client_context", "endpoint.Address")
    assert "client_context" not in made(value, metadata_field_exclusion=paths)


def test_what_cannot_be_stripped_is_a_letter() -> None:
    for text in ("{", '{"a":' * 5_000):
        told = {**FINISHED, "client_context": {"custom": {"endpoint": text}}}
        out = collected(compact(told), include_location_information=False)
        assert [] == out.batches
        (letter,) = out.dead_letters
        assert {"lane": 1} == out.accepted
        assert 1 == letter.events


@settings(max_examples=300, deadline=None)
@given(endpoint=LIKE, other=LIKE)
def test_reducing_twice_reduces_nothing_more(endpoint: object, other: object) -> None:
    chosen = Settings(
        include_location_information=False,
        include_metadata=False,
        include_user_identities=False,
        metadata_field_exclusion=("endpoint.Id", "custom.code"),
    )
    policy = RecordPolicy(chosen)
    custom = {"custom": {"endpoint": json.dumps(endpoint)}}
    content = {"endpoint": endpoint, "client_context": custom, "client": other, "device": other}
    try:
        once = policy.reduced(compact(content))
    except ValueError:  # an object in a list
        assert "{" in json.dumps(endpoint)
        return
    assert once == policy.reduced(once)
    assert rawjson.fields(once)


def _ends(content: Json) -> Json:
    return {k: v for k, v in content.items() if k in {"endpoint", "client_context"}}

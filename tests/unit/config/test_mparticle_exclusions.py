"""Excluded paths: what is removed, and that no path is accepted which can never match."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from forwarder.config import loader, mparticle_exclusions
from forwarder.config.connection import Settings
from forwarder.errors import ConfigurationError
from forwarder.formats import rawjson
from forwarder.formats.mparticle.document import ContextPolicy
from tests.configurations import SMALL, Folder
from tests.work import steps

CONNECTION = "connections/acme.yaml"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.chdir(tmp_path)
    return Folder(tmp_path)


def documented(upload: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Return the context of a document for an upload, as these settings have it."""
    fields = rawjson.fields(json.dumps(upload).encode())
    found = ContextPolicy(settings).document_fields(fields, 7)
    return {key: msgspec.json.decode(bytes(raw)) for key, raw in found.items()}


def excluding(*paths: str) -> str:
    return f"{SMALL}settings:\n  metadata_field_exclusion: [{', '.join(map(repr, paths))}]\n"


# ---------------------------------------------------------------------- identities


@pytest.mark.parametrize(
    "given_as",
    [
        {"customerid": "c1", "email": "a@example.com", "other": 4},
        [
            {"identity_type": "customer_id", "identity": "c1", "timestamp_unixtime_ms": 7},
            {"identity_type": "Email", "identity": "a@example.com", "timestamp_unixtime_ms": 7},
            {"identity_type": "other", "identity": "4", "timestamp_unixtime_ms": 7},
        ],
    ],
    ids=["object", "array"],
)
@pytest.mark.parametrize(
    ("paths", "left"),
    [
        (["user_identities.email"], ["c1", "4"]),
        (["user_identities.customer_id"], ["a@example.com", "4"]),
        (["user_identities.customerid"], ["a@example.com", "4"]),
        (["user_identities.email", "user_identities.other"], ["c1"]),
        (["user_identities.alias"], ["c1", "a@example.com", "4"]),
        (["user_identities.customer_id", "user_identities.email", "user_identities.other"], []),
    ],
)
def test_an_identity_is_excluded_by_its_type_in_whichever_form_it_came(
    given_as: object, paths: list[str], left: list[str]
) -> None:
    found = documented(
        {"user_identities": given_as}, Settings(metadata_field_exclusion=tuple(paths))
    )
    assert left == [one["identity"] for one in found["user_identities"]]


@pytest.mark.parametrize("odd", ["text", 5, [1, [], {}, {"identity_type": 5}], [{"identity": 1}]])
def test_identities_of_no_known_form_pass_as_they_are(odd: object) -> None:
    found = documented(
        {"user_identities": odd}, Settings(metadata_field_exclusion=("user_identities.email",))
    )
    assert odd == found["user_identities"]


def test_what_is_not_excluded_keeps_its_bytes() -> None:
    raw = Raw(b'[ {"identity_type" : "other", "identity":1.50} ]')
    found = ContextPolicy(
        Settings(metadata_field_exclusion=("user_identities.email",))
    ).document_fields({"user_identities": raw}, 7)
    assert bytes(raw) == bytes(found["user_identities"])


# ---------------------------------------------------------------------- what can never match

REFUSED = [
    ("events", "reaches into events"),
    ("events.data.location", "reaches into events"),
    ("device_info.*", "without wildcards"),
    ("device_info..model", "without wildcards"),
    ("$.device_info", "without wildcards"),
    ("events[0]", "without wildcards"),
    ("message_id", "every batch needs its id"),
    ("batch_id", "every batch needs its id"),
    ("schema_version", "every batch names its version"),
    ("timestamp_unixtime_ms.x", "every batch carries its time"),
    ("unique_id", "set unique_id: null instead"),
    ("api_key", "never sent; delete it"),
    ("api_keys.x", "never sent; delete it"),
    ("mpid.high", "mpid is a single value; write mpid, or delete it"),
    ("device_info.brand.name", "device_info.brand is a single value"),
    ("context.location.latitude.degrees", "context.location.latitude is a single value"),
    ("system_notifications.gdpr", "system_notifications is a list"),
    ("deleted_user_attributes.age", "deleted_user_attributes is a list"),
    ("user_identities.email.identity", "write user_identities.email, or delete it"),
    ("user_identities.emial", "did you mean email?"),
    ("user_identities.customerId", "did you mean customer_id?"),
    ("user_identity.email", "did you mean user_identities?"),
    ("device_inf.brand", "did you mean device_info?"),
    ("deviceInfo.brand", "did you mean device_info?"),
    ("Device_Info.brand", "did you mean device_info?"),
    ("device_info.ios_idvf", "did you mean ios_idfv?"),
    ("context.data_plans", "did you mean data_plan?"),
    ("userAttributes.age", "did you mean user_attributes?"),
    ("mp_deviceid", "settings.include_mp_deviceid is off"),
    ("consent_state.gdpr", "settings.include_consent_state is off"),
    ("context.location", "settings.include_event_batch_location is off"),
    ("context.location.latitude", "settings.include_event_batch_location is off"),
]
ACCEPTED = [
    *(
        "device_info",
        "device_info.imei",
        "device_info.android_id",
        "context.data_plan",
    ),
    *("user_identities.other_id_11", "user_identities.loyalty", "user_attributes.$Gender"),
    *("brand_new_key", "brand_new_key.deep.er", "user_attributes.a.b", "application_info.package"),
    *("partner_identities.acme", "integration_attributes.7.id", "application_info.build"),
]


@pytest.mark.parametrize(("path", "words"), REFUSED)
def test_a_path_that_can_never_match_is_a_fault(folder: Folder, path: str, words: str) -> None:
    folder.connect(f'{SMALL}settings:\n  metadata_field_exclusion:\n    - job_id\n    - "{path}"\n')
    (fault,) = folder.faults()
    assert fault.startswith(f"{CONNECTION}:9: settings.metadata_field_exclusion[1]: ")
    assert words in fault


@pytest.mark.parametrize("path", ACCEPTED)
def test_a_path_that_may_match_is_none(folder: Folder, path: str) -> None:
    folder.connect(excluding(path))
    assert [] == folder.faults()


def test_a_path_below_one_that_is_removed_whole_is_a_fault(folder: Folder) -> None:
    folder.connect(excluding("device_info.brand", "device_info", "source_info"))
    (fault,) = folder.faults()
    assert "[0]: can never match: device_info is removed whole; delete one of the two" in fault


SWITCHES = sorted(
    {"include_metadata", *(name for all_ in mparticle_exclusions.DROPPED.values() for name in all_)}
)


def _paths(shape: object, above: str = "") -> list[str]:
    if not isinstance(shape, Mapping):
        return []
    found = []
    for name, below in shape.items():
        path = f"{above}{name}"
        found += [path, *_paths(below, f"{path}.")]
    return found


def _full(shape: Mapping[str, object]) -> dict[str, Any]:
    leaves = {"a single value": "x", "a list": ["x"]}
    return {
        name: _full(below)
        if isinstance(below, Mapping)
        else leaves.get(str(below), {"any": {"key": "x"}})
        for name, below in shape.items()
    }


FULL = {**_full(mparticle_exclusions.DOCUMENT), "api_key": "k", "api_keys": ["k"], "batch_id": 5}
PATHS = [
    *_paths(mparticle_exclusions.DOCUMENT),
    *("api_key", "batch_id", "mpid.x", "system_notifications.0", "user_attributes.any"),
    *("device_info.brand.x", "user_identities.email.identity", "consent_state.gdpr.any"),
]


@given(st.sampled_from(PATHS), st.sets(st.sampled_from(SWITCHES)))
def test_check_accepts_a_well_known_path_if_and_only_if_it_removes_something(
    tmp_path_factory: pytest.TempPathFactory, path: str, on: set[str]
) -> None:
    switches: dict[str, Any] = {name: name in on for name in SWITCHES}
    before = documented(FULL, Settings(**switches))
    after = documented(FULL, Settings(**switches, metadata_field_exclusion=(path,)))
    file = tmp_path_factory.getbasetemp() / "exclusion.yaml"
    lines = "".join(f"  {name}: {str(value).lower()}\n" for name, value in switches.items())
    file.write_text(f"{excluding(path)}{lines}")
    try:
        loader.load_connection(file, environ={})
        accepted = True
    except ConfigurationError:
        accepted = False
    assert (before != after) == accepted


def test_a_path_deeper_than_any_document_is_refused_and_costs_no_more() -> None:
    def path(keys: int) -> str:
        return ".".join(["user_attributes", *["a"] * (keys - 1)])

    assert mparticle_exclusions.path_complaint(path(32)) is None
    assert (
        "has more than 32 keys; no document nests that deep, delete it"
        == mparticle_exclusions.path_complaint(path(33))
    )
    assert steps(lambda: mparticle_exclusions.path_complaint(path(100))) == steps(
        lambda: mparticle_exclusions.path_complaint(path(100_000))
    )

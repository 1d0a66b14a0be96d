"""Which lanes an upload goes to."""

from itertools import product

import pytest

from forwarder.config.connection import Match
from forwarder.formats.contract import Reject, Upload
from forwarder.formats.mparticle.decode import MParticleDecoder
from forwarder.formats.registry import MPARTICLE, PINPOINT
from forwarder.rules.match import Router
from tests.builders import PARTITION, encoded


def decoded(value: object) -> Upload:
    """Decode one upload; it has no events unless it says so."""
    content = {"events": [], **value} if isinstance(value, dict) else value
    found = MParticleDecoder(PARTITION, sessions=False, places=False).decode(
        encoded(content), 0, 0, 0
    )
    assert not isinstance(found, Reject)
    return found[0]


def lanes(value: object, *matches: Match) -> list[int]:
    """Return the lanes that get the upload."""
    routed, _ = Router(matches, MPARTICLE, "raw-events").route([decoded(value)])
    return sorted(routed)


def test_without_conditions_every_lane_gets_everything() -> None:
    assert [0, 1] == lanes({"mpid": 1}, Match(), Match())


def test_without_lanes_nothing_matches() -> None:
    uploads = [decoded({"mpid": 1})]
    assert ({}, uploads) == Router([], MPARTICLE, "raw-events").route(uploads)


def test_an_empty_list_of_values_matches_nothing() -> None:
    assert [] == lanes({"mpid": 1}, Match(environment=frozenset()))


@pytest.mark.parametrize(
    ("expected", "context"),
    [
        (True, {"mpid": 1}),
        (True, {"environment": "production"}),
        (True, {"environment": None, "mpid": 1}),
        (True, b'{"events":[],"environment":"pro\\u0064uction"}'),
        (False, {"environment": "development"}),
        (False, {"environment": "Production"}),
    ],
)
def test_environment_defaults_to_production(expected: bool, context: object) -> None:  # noqa: FBT001
    assert expected == bool(lanes(context, Match(environment=frozenset({"production"}))))


@pytest.mark.parametrize("platform", ["iOS", "ios", "IOS", "Android"])
def test_platform_is_compared_in_any_case(platform: str) -> None:
    wanted = Match(platform=frozenset({"ios", "android"}))
    assert [0] == lanes({"device_info": {"platform": platform}}, wanted)
    assert [] == lanes({"device_info": {"platform": "web"}}, wanted)
    assert [] == lanes({"device_info": ["ios"]}, wanted)


def test_any_of_an_uploads_api_keys_will_do() -> None:
    wanted = Match(api_key=frozenset({"k1", "k2"}))
    assert [0] == lanes({"api_key": "k2"}, wanted)
    assert [0] == lanes({"api_key": "x", "api_keys": ["y", "k1"]}, wanted)
    assert [] == lanes({"api_key": "x", "api_keys": ["y"]}, wanted)
    assert [] == lanes({"api_keys": "k1"}, wanted)


@pytest.mark.parametrize(
    ("expected", "topics"),
    [([0], ("raw-events",)), ([0], ("a", "raw-events")), ([], ("a",)), ([], ())],
)
def test_a_topic_is_chosen_by_its_name(expected: list[int], topics: tuple[str, ...]) -> None:
    wanted = Match(topic=frozenset(topics), environment=frozenset({"production"}))
    assert expected == lanes({"mpid": 1}, wanted)
    assert expected == lanes({"mpid": 1}, Match(topic=frozenset(topics)))
    missed = Router([wanted], MPARTICLE, "raw-events").misses(decoded({"mpid": 1}))
    assert ([] if expected else [(0, "topic", "raw-events")]) == missed


def test_an_app_may_be_known_by_any_of_its_names() -> None:
    event = b'{"EventId":"i","EventType":"a","AppPackageName":"shop"}'
    value = b'{"ApplicationId":"a1","EndpointId":"e","Endpoint":{},"Events":[%b]}' % event
    found = PINPOINT.decoder(PARTITION, [], sessions=False).decode(value, 0, 0, 0)
    assert not isinstance(found, Reject)
    names = ("a1", "shop", "other")
    wants = [Match(application=frozenset({name})) for name in names]
    router = Router(wants, PINPOINT, "raw-events")
    assert ({0: found, 1: found}, []) == router.route(found)
    assert [(2, "application", "a1, shop")] == router.misses(found[0])


def test_every_condition_given_has_to_hold() -> None:
    wanted = Match(application=frozenset({"app"}), environment=frozenset({"development"}))
    app = {"application_info": {"package": "app"}}
    assert [0] == lanes({**app, "environment": "development"}, wanted)
    assert [] == lanes(app, wanted)
    assert [] == lanes({"environment": "development"}, wanted)


def test_uploads_that_no_lane_wants_are_told() -> None:
    router = Router(
        [Match(api_key=frozenset({"k"})), Match(platform=frozenset({"ios"}))],
        MPARTICLE,
        "raw-events",
    )
    uploads = [decoded({"api_key": key}) for key in "kxk"]
    assert ({0: [uploads[0], uploads[2]]}, [uploads[1]]) == router.route(uploads)


def test_what_an_upload_misses_of_each_match_is_told_but_no_key() -> None:
    wants = [
        Match(environment=frozenset({"production"}), api_key=frozenset({"k"})),
        Match(application=frozenset({"app"}), platform=frozenset({"ios"})),
        Match(api_key=frozenset({"secret"})),
    ]
    told = {"environment": "development", "api_key": "secret", "device_info": {"platform": "Web"}}
    assert [
        (0, "environment", "development"),
        (0, "api_key", ""),
        (1, "application", ""),
        (1, "platform", "Web"),
    ] == Router(wants, MPARTICLE, "raw-events").misses(decoded(told))


def test_remembered_answers_are_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forwarder.rules.match._MEMO", 2)
    router = Router([Match(api_key=frozenset({"k1", "k5"}))], MPARTICLE, "raw-events")
    uploads = [decoded({"api_key": f"k{i % 7}"}) for i in range(70)]
    assert 20 == len(router.route(uploads)[0][0])


def test_however_the_lanes_are_indexed_each_answer_is_that_of_its_match() -> None:
    values = ("a", "b", None)
    parts = ("environment", "application", "api_key", "platform")
    several = [
        Match(**{part: frozenset({one}) for part, one in zip(parts, chosen, strict=True) if one})
        for chosen in product(values, repeat=4)
    ]
    several += [Match(application=frozenset({"a", "c"}), api_key=frozenset()), Match()]
    for env, app, key, kind in product("ac", repeat=4):
        told = {
            "environment": env,
            "application_info": {"package": app},
            "api_keys": [key, "x"],
            "device_info": {"platform": kind.upper()},
        }
        wanted = [
            lane
            for lane, match in enumerate(several)
            if (match.environment is None or env in match.environment)
            and (match.application is None or app in match.application)
            and (match.platform is None or kind in match.platform)
            and (match.api_key is None or key in match.api_key)
        ]
        assert wanted == lanes(told, *several)

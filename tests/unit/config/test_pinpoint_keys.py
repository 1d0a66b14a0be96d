"""Keys about Pinpoint in ``kafka.topics`` and in connection files."""

import pytest

from forwarder.cli import main
from forwarder.config.loader import load_connection
from forwarder.config.settings import DUPLICATES_MS, INPUT_FORMATS, InputTopic
from forwarder.config.targets import KinesisTarget
from tests.configurations import SMALL, Folder

MINUTE = 60_000


def topics(folder: Folder, written: str) -> tuple[InputTopic, ...]:
    folder.write(f"kafka: {{bootstrap_servers: [a:1], topics: [{written}]}}\n")
    return folder.load().configuration.kafka.topics


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("raw", InputTopic("raw", "mparticle", 0)),
        ("{name: raw}", InputTopic("raw", "mparticle", 0)),
        ("{name: raw, duplicates: 5m}", InputTopic("raw", "mparticle", 5 * MINUTE)),
        ("{name: p, format: pinpoint}", InputTopic("p", "pinpoint", 10 * MINUTE)),
        ("{name: p, format: pinpoint, duplicates: null}", InputTopic("p", "pinpoint", 10 * MINUTE)),
        ("{name: p, format: pinpoint, duplicates: 0s}", InputTopic("p", "pinpoint", 0)),
        ("{name: p, format: pinpoint, duplicates: 2d}", InputTopic("p", "pinpoint", 2880 * MINUTE)),
    ],
)
def test_how_far_a_topic_looks_for_duplicates_follows_from_its_format(
    folder: Folder, written: str, expected: InputTopic
) -> None:
    assert (expected,) == topics(folder, written)


def test_every_input_format_has_a_default() -> None:
    assert set(INPUT_FORMATS) == set(DUPLICATES_MS)


@pytest.mark.parametrize("written", ["10", "8d", "ten minutes", "[10m]"])
def test_what_is_no_such_duration_is_a_fault(folder: Folder, written: str) -> None:
    folder.write(
        f"kafka: {{bootstrap_servers: [a:1], topics: [{{name: t, duplicates: {written}}}]}}\n"
    )
    [fault] = folder.faults()
    assert fault.startswith("forwarder.yaml:1: kafka.topics[0].duplicates: must be a duration")


def test_a_topic_is_shown_with_what_is_not_at_its_default(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.write(
        "kafka:\n  bootstrap_servers: [a:1]\n  topics:\n    - raw\n    - {name: tv}\n"
        "    - {name: p, format: pinpoint, duplicates: 60s}\n"
    )
    assert 0 == main(["check", "forwarder.yaml"])
    shown = "topics: [raw, tv, {name: p, format: pinpoint, duplicates: 1m}]\n"
    assert shown in capsys.readouterr().out


def test_a_connection_may_choose_by_topic_and_say_what_records_hold(folder: Folder) -> None:
    file = folder.connect(
        f'{SMALL}  format: pinpoint\n  app_id: shop\n  aws_account_id: "111122223333"\n'
        "match: {topic: [pinpoint-events, more]}\n"
        "settings: {screen_view_event_types: [pageView, screen]}\n"
    )
    found = load_connection(file).connection
    assert frozenset({"pinpoint-events", "more"}) == found.match.topic
    assert ("pageView", "screen") == found.settings.screen_view_event_types
    assert ("pinpoint", "shop", "111122223333") == (
        found.sink.format, found.sink.app_id, found.sink.aws_account_id
    )  # fmt: skip


def test_an_app_id_is_no_secret_though_it_looks_like_one(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    app = "810c7aab86d42fb2b56c8c966a1b2c3d"
    file = folder.connect(
        f"{SMALL}  format: pinpoint\n  app_id: {app}\nmatch: {{application: [{app}]}}\n"
    )
    assert 0 == main(["check", str(file)])
    printed = capsys.readouterr().out
    assert (2, 0) == (printed.count(app), printed.count("looks like a secret"))


@pytest.mark.parametrize("key", ["us1-0123456789abcdef0123456789abcdef", "AKIAIOSFODNN7EXAMPLE"])
def test_a_key_in_its_place_looks_like_one(
    folder: Folder, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    file = folder.connect(f"{SMALL}match: {{application: [{key}]}}\n")
    assert 0 == main(["check", str(file)])
    printed = capsys.readouterr().out
    assert (0, 1) == (printed.count(key), printed.count("looks like a secret"))


@pytest.mark.parametrize(
    ("sink", "key", "what"),
    [
        ("format: pinpiont", "sink.format", "must be mparticle or pinpoint"),
        ("app_id: a/b", "sink.app_id", "must be an app id"),
        ("aws_account_id: 111122223333", "sink.aws_account_id", "must be an AWS account id"),
        ('aws_account_id: "1111"', "sink.aws_account_id", "must be an AWS account id"),
    ],
)
def test_what_records_cannot_hold_is_a_fault(
    folder: Folder, sink: str, key: str, what: str
) -> None:
    folder.connect(f"{SMALL}  {sink}\n")
    [fault] = folder.faults()
    assert f"acme.yaml:6: {key}: {what}" in fault


@pytest.mark.parametrize("written", ["[]", "[a b]", "pinpoint-events", '[""]'])
def test_what_names_no_topics_is_a_fault(folder: Folder, written: str) -> None:
    folder.connect(f"{SMALL}match: {{topic: {written}}}\n")
    [fault] = folder.faults()
    assert "acme.yaml:6: match.topic" in fault


STREAM = f'{SMALL}  format: pinpoint\n  aws_account_id: "111122223333"\n'
IGNORED = "is ignored: of sink.format pinpoint every event is a record of its own"
NOTES = [
    (STREAM + "settings: {send_as_batch: true}\n", ["settings.send_as_batch"], IGNORED),
    (
        STREAM + "settings: {wait_for_complete_batch: true}\n",
        ["settings.wait_for_complete_batch"],
        IGNORED,
    ),
    (STREAM + "settings: {send_as_batch: false}\n", [], ""),
    (
        STREAM + "batching: {max_age: 1m, max_events: 5, session_timeout: 1m, session_max: 2h}\n",
        [
            "batching.max_age",
            "batching.max_events",
            "batching.session_max",
            "batching.session_timeout",
        ],
        "has no effect: every event is sent at once, as its own document",
    ),
    (
        STREAM + "settings: {unique_id: u, int64_as_string: true}\n",
        ["settings.int64_as_string", "settings.unique_id"],
        "has no effect: records of sink.format pinpoint hold no such thing",
    ),
    (
        STREAM + "settings: {metadata_field_exclusion: [attributes.a, session, endpoint.Id]}\n",
        ["settings.metadata_field_exclusion", "settings.metadata_field_exclusion"],
        "it reaches into the event",
    ),
    (
        f'{SMALL}  app_id: a\n  aws_account_id: "111122223333"\n',
        ["sink.app_id", "sink.aws_account_id"],
        "has no effect: sink.format is mparticle, not pinpoint",
    ),
    (
        "name: f\nsink: {type: file, path: out, app_id: a}\n",
        ["sink.app_id"],
        "has no effect: sink.format is mparticle",
    ),
    (f"{SMALL}  format: pinpoint\n", ["sink.aws_account_id"], "will have no awsAccountId"),
    (STREAM, [], ""),
]


@pytest.mark.parametrize(("text", "keys", "what"), NOTES)
def test_what_has_no_effect_is_noted(folder: Folder, text: str, keys: list[str], what: str) -> None:
    noted = load_connection(folder.connect(text)).noted
    assert keys == sorted(note.key for note in noted)
    assert not [note for note in noted if what not in note.text]


def test_records_of_pinpoint_are_partitioned_by_endpoint_unless_the_file_says(
    folder: Folder,
) -> None:
    def partition_key(text: str) -> str:
        sink = load_connection(folder.connect(text)).connection.sink
        assert isinstance(sink, KinesisTarget)
        return sink.partition_key

    assert "mpid" == partition_key(STREAM)
    assert "device" == partition_key(f"{STREAM}  partition_key: device\n")
    assert "device" == partition_key(SMALL)


BOTH = "raw, {name: p, format: pinpoint}"
IN_VAIN = [
    (BOTH, "match: {topic: [q]}\n", "match.topic", "q is not in kafka.topics, so nothing comes"),
    (BOTH, "match: {api_key: [k]}\n", "match.api_key", "takes nothing from those topics: no event"),
    ("raw", "match: {api_key: [k]}\n", "", ""),
    (BOTH, "match: {api_key: [k], topic: [raw]}\n", "", ""),
    (BOTH, "match: {api_key: [k], topic: [p]}\n", "match.api_key", "takes nothing: no event"),
    (BOTH, "match: {topic: [p]}\n", "", ""),
]


@pytest.mark.parametrize(("read", "match", "key", "what"), IN_VAIN)
def test_what_is_named_in_vain_for_the_topics_read_is_noted(
    folder: Folder, read: str, match: str, key: str, what: str
) -> None:
    folder.connect(STREAM + match)
    topics(folder, read)
    noted = folder.load().noted
    assert ([key] if key else []) == [note.key for note in noted]
    assert not [note for note in noted if what not in note.text]


UPLOADS_ONLY = "settings: {include_consent_state: true, send_crash_events: false}\n"
RECORDS_ONLY = "settings: {include_mp_deviceid: true}\n"
PAGES = "settings: {screen_view_event_types: [screen]}\n"
WITHOUT_EFFECT = [
    ("{name: p, format: pinpoint}", STREAM + UPLOADS_ONLY, 2),
    ("{name: p, format: pinpoint}", SMALL + UPLOADS_ONLY, 2),
    (BOTH, SMALL + UPLOADS_ONLY, 0),
    (BOTH, f"{SMALL}match: {{topic: [p]}}\n{UPLOADS_ONLY}", 2),
    ("{name: p, format: pinpoint}", STREAM + RECORDS_ONLY, 1),
    ("{name: p, format: pinpoint}", SMALL + RECORDS_ONLY, 0),
    ("raw", STREAM + RECORDS_ONLY, 0),
    ("raw", SMALL + PAGES, 1),
    ("raw", STREAM + PAGES, 0),
    ("{name: p, format: pinpoint}", SMALL + PAGES, 0),
    ("raw", f"{SMALL}settings: {{screen_view_event_types: [pageView]}}\n", 0),
]


@pytest.mark.parametrize(("read", "text", "count"), WITHOUT_EFFECT)
def test_settings_of_what_never_comes_or_goes_are_noted(
    folder: Folder, read: str, text: str, count: int
) -> None:
    folder.connect(text)
    topics(folder, read)
    noted = folder.load().noted
    assert [True] * count == [" has no such thing" in note.text for note in noted]

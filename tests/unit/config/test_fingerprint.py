from dataclasses import replace

import pytest

from forwarder.config.connection import Connection
from forwarder.config.targets import FileTarget, FirehoseTarget, KinesisTarget
from tests.builders import Setting, connection


def test_the_fingerprint_of_default_settings_is_what_stored_batches_have() -> None:
    assert "ae453c84174cf92b" == connection().fingerprint.hex()


def test_the_fingerprint_of_changed_settings_is_what_stored_batches_have() -> None:
    changed = connection(
        unique_id="a", send_as_batch=False, metadata_field_exclusion=("ip",)
    )  # fmt: skip
    assert "de41ad431326504b" == changed.fingerprint.hex()


@pytest.mark.parametrize(
    "sink",
    [
        FileTarget("elsewhere"),
        KinesisTarget("s", "us-east-1", newline=True),
        FirehoseTarget("d", "us-east-1"),
        FileTarget("out", app_id="unused", aws_account_id="111122223333"),
    ],
)
def test_where_documents_go_changes_no_fingerprint(
    sink: FileTarget | KinesisTarget | FirehoseTarget,
) -> None:
    assert connection().fingerprint == connection(sink=sink).fingerprint


PINPOINT = FileTarget("out", format="pinpoint")
DIFFERENT: list[Connection] = [
    connection(),
    connection(screen_view_event_types=()),
    connection(screen_view_event_types=("pageView", "screen")),
    connection(sink=PINPOINT),
    connection(sink=replace(PINPOINT, app_id="shop")),
    connection(sink=replace(PINPOINT, app_id="other")),
    connection(sink=replace(PINPOINT, aws_account_id="111122223333")),
    connection(sink=replace(PINPOINT, app_id="111122223333")),
    connection(sink=PINPOINT, screen_view_event_types=()),
]


def test_whatever_changes_a_document_changes_the_fingerprint() -> None:
    assert len(DIFFERENT) == len({one.fingerprint for one in DIFFERENT})


@pytest.mark.parametrize("settings", [{}, {"screen_view_event_types": ("pageView",)}])
def test_a_setting_at_its_default_does_not(settings: dict[str, Setting]) -> None:
    assert connection().fingerprint == connection(**settings).fingerprint

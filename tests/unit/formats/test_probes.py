"""What the doctor puts is a document of the sink's format, and says that it is a test."""

import json

import pytest

from forwarder.config.targets import SINK_FORMATS, FileTarget, FirehoseTarget, KinesisTarget
from forwarder.formats.pinpoint import kinds
from forwarder.formats.registry import PROBES
from tests.builders import connection

NOW, SENT = 1_700_000_000_123, "2023-11-14T22:13:20+00:00"


def test_every_format_of_sinks_has_a_probe() -> None:
    assert set(SINK_FORMATS) == set(PROBES)


def test_mparticles_is_no_batch_and_holds_no_event() -> None:
    made = json.loads(PROBES["mparticle"](connection("acme"), "probe-1", NOW, SENT))
    assert made == {
        "message_type": "forwarder_test",
        "message_id": "probe-1",
        "connection": "acme",
        "sent_at": SENT,
        "events": [],
    }


@pytest.mark.parametrize(
    ("sink", "app", "account"),
    [
        (FileTarget("out", format="pinpoint"), "forwarder-doctor", None),
        (
            KinesisTarget(
                "s", "us-east-1", format="pinpoint", app_id="shop", aws_account_id="111122223333"
            ),
            "shop",
            "111122223333",
        ),
        (FirehoseTarget("d", "us-east-1", format="pinpoint", app_id="a"), "a", None),
    ],
)
def test_pinpoints_is_the_test_event_of_an_event_stream(
    sink: FileTarget | KinesisTarget | FirehoseTarget, app: str, account: str | None
) -> None:
    made = json.loads(PROBES["pinpoint"](connection("acme", sink=sink), "probe-1", NOW, SENT))
    assert (kinds.TEST_EVENT, NOW, NOW, "3.1") == (
        made["event_type"],
        made["event_timestamp"],
        made["arrival_timestamp"],
        made["event_version"],
    )
    assert (app, "probe-1", account) == (
        made["application"]["app_id"], made["client"]["client_id"], made.get("awsAccountId")
    )  # fmt: skip


def test_settings_leave_no_probe_out() -> None:
    off = connection("acme", sink=FileTarget("out", format="pinpoint"), send_custom_events=False)
    assert b"_test.event_stream" in PROBES["pinpoint"](off, "probe-1", NOW, SENT)

"""The name of the rule by which a lane keeps events: stored with windows, so it must be exact."""

from typing import Any

import pytest

from forwarder.config.connection import Settings
from forwarder.formats.mparticle.event_filter import SETTING_BY_EVENT_TYPE, rule_of

USUAL = rule_of(Settings())

JUDGING = sorted({setting for setting in SETTING_BY_EVENT_TYPE.values() if setting})
OTHERS = [
    "include_location_information",
    "int64_as_string",
    "send_batches_without_events",
    "send_unknown_events",
]


@pytest.mark.parametrize("name", [*JUDGING, *OTHERS])
def test_every_setting_that_keeps_or_changes_events_is_part_of_the_rule(name: str) -> None:
    changed: dict[str, Any] = {name: not getattr(Settings(), name)}
    assert USUAL != rule_of(Settings(**changed))


def test_what_keeps_the_same_has_the_same_rule() -> None:
    assert USUAL == rule_of(Settings(wait_for_complete_batch=True))


def test_the_rule_is_the_same_in_every_process() -> None:
    # It fails where the settings' meaning was changed: pin it anew then.
    assert USUAL == "a08df8d18b0c411511c79d40112ed63e"

"""Which setting governs an event of Pinpoint, by its type.

AWS, "Amazon Pinpoint: event stream data" and the SDKs name the types that begin with an underscore;
what apps send of their own has any name. The table with its sources is in docs/pinpoint-format.md.
"""

from collections.abc import Sequence

from forwarder.formats.contract import DUPLICATE, DUPLICATES, UNKNOWN

SESSION_START = "_session.start"
SESSION_STOP = "_session.stop"
TEST_EVENT = "_test.event_stream"
"""What Pinpoint writes when a stream is set up: never of an app's user, and never forwarded."""

TEST_EVENTS = "test_events"
"""The reason by which test events are left out, beside the settings."""

SCREEN_VIEWS = "send_screen_views"
CUSTOM_EVENTS = "send_custom_events"
UNKNOWN_EVENTS = "send_unknown_events"

SETTING_BY_PREFIX = {
    "_session.": "send_lifecycle_events",
    "_monetization.": "send_commerce_events",
    "_userauth.": "send_profile_change_events",
    "_campaign.": "send_push_registrations_and_receipts",
    "_journey.": "send_push_registrations_and_receipts",
    "_SMS.": "send_push_registrations_and_receipts",
    "_email.": "send_push_registrations_and_receipts",
}
"""How a type begins, up to its first dot -> the setting that lets it pass."""

SETTINGS = (
    *dict.fromkeys(SETTING_BY_PREFIX.values()),
    SCREEN_VIEWS,
    CUSTOM_EVENTS,
    UNKNOWN_EVENTS,
)
"""All settings that leave out events of Pinpoint."""


def setting_of(kind: str, screen_views: Sequence[str]) -> str:
    """Return the setting that governs events of a type, or the reason why none of it passes.

    ``screen_views``: the types that are screen views.
    """
    if kind is DUPLICATE:
        return DUPLICATES
    if kind == TEST_EVENT:
        return TEST_EVENTS
    if kind in screen_views:
        return SCREEN_VIEWS
    if kind == UNKNOWN:
        return UNKNOWN_EVENTS
    prefix, dot, _ = kind.partition(".")
    return SETTING_BY_PREFIX.get(prefix + dot, CUSTOM_EVENTS)


def is_message(kind: str) -> bool:
    """Tell whether an event is of a message that was sent, not of an app."""
    return kind.startswith(("_campaign.", "_journey.", "_SMS.", "_email."))


def is_campaign(kind: str) -> bool:
    """Tell whether an event is of a campaign or a journey."""
    return kind.startswith(("_campaign.", "_journey."))

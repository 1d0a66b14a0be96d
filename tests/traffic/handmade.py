"""Events that mParticle's SDK has no model for, as other senders write them."""

import random
from typing import Any

from mparticle.api_client import ApiClient
from mparticle.models.event_base import EventBase

from tests.traffic.devices import Device
from tests.traffic.sdk_events import Common, Maker

EXACT = '"exact":{"price":1.10,"tiny":1e-7,"huge":123456789012345678901234567890}'
"""Numbers that a parser and writer of floats would spell otherwise, or lose digits of."""

PLACEHOLDER = '"exact":"numbers"'


def plain(common: Common) -> dict[str, Any]:
    """Return the common fields as the SDK serialises them."""
    content: dict[str, Any] = ApiClient.sanitize_for_serialization(common)
    return {key: value for key, value in content.items() if value is not None}


def of_type(event_type: str, **own: object) -> Maker:
    """Return the maker of a hand-made event."""

    def make(_: random.Random, __: Device, common: Common) -> object:
        return EventBase(data=plain(common) | own, event_type=event_type)

    return make


def user_identity_change(_: random.Random, device: Device, common: Common) -> object:
    """Make an e-mail address that changed."""
    before, after = (
        {
            "identity_type": "email",
            "identity": f"{name}{device.number}@example.com",
            "timestamp_unixtime_ms": common["timestamp_unixtime_ms"],
            "created_this_batch": new,
        }
        for name, new in (("old", False), ("new", True))
    )
    return EventBase(
        data=plain(common) | {"old": before, "new": after}, event_type="user_identity_change"
    )


def odd_custom_event(rng: random.Random, _: Device, common: Common) -> object:
    """Make a custom event as users really write it: NULs, own places, exact numbers."""
    content = plain(common)
    content["custom_attributes"] = {
        "location": "aisle 7",
        "note": "before\0after",
        "emoji": "🛒",
        "count": rng.randrange(10),
        "ratio": 0.1,
        "member": True,
        "missing": None,
    }
    content["custom_flags"] = {"location": ["shelf", 3], "nested": {"list": [1, "2", None]}}
    content |= {"event_name": 'odd "names"\\', "custom_event_type": "other", "exact": "numbers"}
    return EventBase(data=content, event_type="custom_event")


push_reaction = of_type("push_reaction", push_message_type="action", action_identifier="open")
uninstall = of_type("uninstall")
pre_attribution = of_type("pre_attribution", attributed=False)
validation_result = of_type("validation_result", validation_errors=["unplanned attribute"])
unheard_of = of_type("media_session_summary", media_session_id="m-1", chapters=[1, 2, 3])


def write_exact_numbers(text: str) -> str:
    """Put the exact spellings in place; they cannot come out of any JSON writer."""
    return text.replace(PLACEHOLDER, EXACT)

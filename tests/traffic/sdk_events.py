"""Events made with the models of mParticle's SDK."""

import random
from collections.abc import Callable
from typing import Any

import mparticle as sdk
from mparticle.models.breadcrumb_event import BreadcrumbEvent
from mparticle.models.event_base import EventBase
from mparticle.models.user_attribute_change_event import UserAttributeChangeEvent

from tests.traffic.devices import Device

Common = dict[str, Any]
"""What every event has: its ids, time, session, place and state."""

Maker = Callable[[random.Random, Device, Common], Any]

SCREENS = ("Home", "Search", "Product", "Basket", "Checkout", "Account")
REPORT_BYTES = 100_000


def location(rng: random.Random, device: Device) -> sdk.GeoLocation:
    """Return a place near the device's home."""
    latitude, longitude, _ = device.home
    return sdk.GeoLocation(
        latitude=round(latitude + rng.uniform(-0.05, 0.05), 6),
        longitude=round(longitude + rng.uniform(-0.05, 0.05), 6),
        accuracy=rng.choice((5.0, 65, 1414.5)),
    )


def device_state(rng: random.Random) -> sdk.DeviceCurrentState:
    """Return the state a device reports with its events."""
    return sdk.DeviceCurrentState(
        time_since_start_ms=rng.randrange(1_000_000),
        battery_level=round(rng.random(), 2),
        data_connection_type=rng.choice(("wifi", "mobile")),
        gps_state=False,
        total_system_memory_usage_bytes=rng.randrange(2**32, 2**33),
        disk_space_free_bytes=rng.randrange(2**34, 2**38),
        application_memory_available_bytes=rng.randrange(2**28),
        device_orientation="portrait",
    )


def custom_event(rng: random.Random, _: Device, common: Common) -> object:
    """Make a custom event whose flags hold lists and numbers, as the mobile SDKs send them."""
    event = sdk.AppEvent(rng.choice(("Add Filter", "Play", "Share")), **common)
    event.custom_event_type = rng.choice(("navigation", "search", "social", "other"))
    event.custom_flags = {"campaigns": ["autumn", "winter"], "score": rng.randrange(100)}
    return event


def screen_view(rng: random.Random, _: Device, common: Common) -> object:
    """Make a screen."""
    return sdk.ScreenViewEvent(screen_name=rng.choice(SCREENS), **common)


def commerce_event(rng: random.Random, _: Device, common: Common) -> object:
    """Make a purchase, a promotion or an impression."""
    product = sdk.Product(
        id=f"sku-{rng.randrange(500)}", name="Café table", price=149.9, quantity=rng.randrange(1, 4)
    )
    kind = rng.choice(("promotion", "impression", "purchase"))
    if kind == "promotion":
        promotion = sdk.PromotionAction("view", [sdk.Promotion(id="autumn", position="1")])
        return sdk.CommerceEvent(None, promotion_action=promotion, **common)
    if kind == "impression":
        shown = sdk.ProductImpression("Related", [product])
        return sdk.CommerceEvent(None, product_impressions=[shown], **common)
    action = sdk.ProductAction(
        rng.choice(("add_to_cart", "checkout", "purchase")),
        transaction_id=f"t-{rng.randrange(10**9)}",
        total_amount=149.9,
        products=[product],
    )
    return sdk.CommerceEvent(action, currency_code="EUR", **common)


def crash_report(rng: random.Random, device: Device, common: Common) -> sdk.CrashReportEvent:
    """Make a crash whose breadcrumbs have places of their own; one in 40 is of 100 kB."""
    steps = [
        BreadcrumbEvent(
            label=f"opened {screen}",
            session_uuid=common["session_uuid"],
            location=location(rng, device) if device.locates else None,
        )
        for screen in rng.sample(SCREENS, 2)
    ]
    large = "UExDUkFTSA==" * (REPORT_BYTES // 12) if rng.randrange(40) == 0 else None
    return sdk.CrashReportEvent(
        breadcrumbs=steps,
        class_name="IllegalStateException",
        severity="fatal",
        message="Basket is «closed»",
        stack_trace="at Basket.add(Basket.kt:42)\n\tat Shop.main(Shop.kt:7)",
        exception_handled=False,
        pl_crash_report_file_base64=large,
        session_number=device.launches,
        **common,
    )


def rightly_labelled(rng: random.Random, device: Device, common: Common) -> object:
    """Make a crash report under its own name, its breadcrumbs as the schema spells them.

    The SDK's batches call it ``commerce_event``, and its breadcrumbs are no events.
    """
    report = crash_report(rng, device, common)
    crumbs = [EventBase(data=crumb, event_type="breadcrumb") for crumb in report.breadcrumbs]
    report.breadcrumbs = crumbs
    return EventBase(data=report, event_type="crash_report")


def network_performance(rng: random.Random, _: Device, common: Common) -> object:
    """Make an HTTP call the app made."""
    return sdk.NetworkPerformanceEvent(
        http_verb="GET",
        url="https://api.example.com/v2/products?page=2",
        time_elapsed=rng.randrange(20, 900),
        bytes_in=rng.randrange(50_000),
        bytes_out=rng.randrange(2_000),
        response_code=200,
        **common,
    )


def transition(kind: str, *, first: bool = False) -> Maker:
    """Return the maker of a change of the application's state."""

    def make(_: random.Random, __: Device, common: Common) -> object:
        event = sdk.ApplicationStateTransitionEvent(
            successfully_closed=True, is_first_run=first, is_upgrade=False, **common
        )
        event.application_transition_type = kind
        return event

    return make


def breadcrumb(rng: random.Random, device: Device, common: Common) -> object:
    """Make a step noted for later crash reports."""
    label = f"tapped {rng.choice(SCREENS)}"
    return BreadcrumbEvent(label=label, session_number=device.launches, **common)


def push_message(rng: random.Random, _: Device, common: Common) -> object:
    """Make a push message that arrived."""
    return sdk.PushMessageEvent(
        push_message_token=f"token-{rng.randrange(10**6)}",
        push_message_type="received",
        message="Your parcel is on its way",
        network="apn",
        push_notification_payload='{"aps":{"alert":"…"}}',
        **common,
    )


def push_registration(rng: random.Random, _: Device, common: Common) -> object:
    """Make a device that agreed to push messages."""
    token = f"{rng.getrandbits(256):064x}"
    return sdk.PushRegistrationEvent(register=True, registration_token=token, **common)


def profile(_: random.Random, __: Device, common: Common) -> object:
    """Make a change of profile, without the mpids that the schema asks for."""
    event = sdk.ProfileEvent(**common)
    event.profile_event_type = "update"
    return event


def opt_out(_: random.Random, __: Device, common: Common) -> object:
    """Make a user who wants no more tracking; always forwarded."""
    return sdk.OptOutEvent(is_opted_out=True, **common)


def user_attribute_change(rng: random.Random, _: Device, common: Common) -> object:
    """Make a user attribute that changed."""
    return UserAttributeChangeEvent(
        user_attribute_name="visits", new=rng.randrange(9), old=None, deleted=False, **common
    )


def first_run(_: random.Random, __: Device, common: Common) -> object:
    """Make the first start after the installation."""
    return sdk.FirstRunEvent(**common)


def session_start(_: random.Random, __: Device, common: Common) -> object:
    """Make the start of a session."""
    return sdk.SessionStartEvent(**common)


def session_end(rng: random.Random, _: Device, common: Common) -> object:
    """Make the end of a session."""
    return sdk.SessionEndEvent(session_duration_ms=rng.randrange(600_000), **common)

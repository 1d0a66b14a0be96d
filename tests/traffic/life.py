"""What a device does next: sessions with a beginning, an end, or none."""

import random
from collections.abc import Iterator

from tests.traffic import handmade, sdk_events
from tests.traffic.devices import Device, Session, int64, uuid4
from tests.traffic.sdk_events import Maker

Act = tuple[Maker, Session | None]
"""An event to come, and the session it belongs to."""

SHARES: dict[Maker, int] = {
    sdk_events.custom_event: 30,
    sdk_events.screen_view: 24,
    sdk_events.commerce_event: 8,
    sdk_events.network_performance: 6,
    sdk_events.breadcrumb: 4,
    sdk_events.push_message: 3,
    sdk_events.user_attribute_change: 3,
    handmade.odd_custom_event: 3,
    sdk_events.transition("application_background"): 2,
    sdk_events.crash_report: 1,
    sdk_events.rightly_labelled: 1,
    sdk_events.push_registration: 1,
    sdk_events.profile: 1,
    sdk_events.opt_out: 1,
    handmade.push_reaction: 1,
    handmade.user_identity_change: 1,
    handmade.uninstall: 1,
    handmade.pre_attribution: 1,
    handmade.validation_result: 1,
    handmade.unheard_of: 1,
}
"""What happens within a session; a hundred events hold every kind at least once."""

LAUNCH = sdk_events.transition("application_foreground")
FIRST_LAUNCH = sdk_events.transition("application_initialized", first=True)

ENDS, QUITS, LATE = 0.20, 0.07, 0.04
"""Chances per upload: a proper end, a force-quit, an event of the session before."""


def endless_deck(rng: random.Random) -> Iterator[Maker]:
    """Deal the shares in random order, again and again: no kind is ever left out for long."""
    while True:
        cards = [maker for maker, copies in SHARES.items() for _ in range(copies)]
        rng.shuffle(cards)
        yield from cards


def next_acts(rng: random.Random, device: Device, deck: Iterator[Maker], now_ms: int) -> list[Act]:
    """Return the events of the device's next upload and move its session on."""
    acts: list[Act] = []
    if device.session is None and not device.on_server:
        acts += _launch(rng, device, now_ms)
    if device.earlier is not None and rng.random() < LATE:
        acts.append((sdk_events.screen_view, device.earlier))
    acts += [(next(deck), device.session) for _ in range(rng.choice((1, 1, 2, 2, 3, 5, 8)))]
    if device.session is not None:
        acts += _leave(rng, device)
    return acts


def _launch(rng: random.Random, device: Device, now_ms: int) -> list[Act]:
    acts: list[Act] = []
    if device.left_open is not None:
        # Half of the apps that were force-quit report the end of that session when they return.
        if rng.random() < 0.5:
            acts.append((sdk_events.session_end, device.left_open))
        device.left_open = None
    device.session = session = Session(int64(rng), uuid4(rng), now_ms)
    if device.launches == 0:
        acts += [(sdk_events.first_run, session), (FIRST_LAUNCH, session)]
    device.launches += 1
    device.attributes["visits"] = device.launches
    return [*acts, (sdk_events.session_start, session), (LAUNCH, session)]


def _leave(rng: random.Random, device: Device) -> list[Act]:
    chance = rng.random()
    if chance >= ENDS + QUITS:
        return []
    session, device.session, device.earlier = device.session, None, device.session
    if chance < QUITS:
        device.left_open = session
        return []
    return [(sdk_events.session_end, session)]

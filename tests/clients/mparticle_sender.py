"""Send uploads with mParticle's official SDK for Python, as its users' servers do."""

import random
from typing import NamedTuple

from mparticle import Batch, Configuration, EventsApi

from tests.traffic import devices, sdk_events

KINDS: tuple[sdk_events.Maker, ...] = (
    sdk_events.session_start,
    sdk_events.custom_event,
    sdk_events.screen_view,
    sdk_events.commerce_event,
    sdk_events.push_message,
    sdk_events.push_registration,
    sdk_events.profile,
    sdk_events.breadcrumb,
    sdk_events.network_performance,
    sdk_events.transition("application_background"),
    sdk_events.session_end,
)
SESSION = 7346244611012968789


class Input(NamedTuple):
    """Where uploads go, and the credentials of one input."""

    url: str
    api_key: str
    api_secret: str


def batches(users: int, now_ms: int, seed: int = 1) -> list[Batch]:
    """Return an upload for each user, with one event of every kind that is forwarded."""
    rng = random.Random(seed)  # noqa: S311  # repeatable, not secret
    found = []
    for number in range(users):
        device = devices.make_device(rng, number)
        events = []
        for place, make in enumerate(KINDS):
            common = {
                "timestamp_unixtime_ms": now_ms - 60_000 + 1000 * place,
                "event_id": devices.int64(rng),
                "source_message_id": devices.uuid4(rng),
                "session_id": SESSION + number,
                "custom_attributes": {"screen": "Hömë ✓", "position": str(place)},
            }
            events.append(make(rng, device, common))
        found.append(
            Batch(
                environment="production",
                source_request_id=devices.uuid4(rng),
                device_info=devices.device_info(device),
                application_info=devices.application_info(device),
                user_identities=devices.identities(device),
                user_attributes={"plan": "gold"},
                mpid=SESSION + number,
                ip="203.0.113.7",
            )
        )
        # Assigned, and only then, the SDK says of each event what it is.
        found[-1].events = events
    return found


def api(source: Input) -> EventsApi:
    """Return the SDK's client of one input."""
    configuration = Configuration()
    configuration.host = f"{source.url}/v2"
    configuration.api_key = source.api_key
    configuration.api_secret = source.api_secret
    return EventsApi(configuration)


def send(source: Input, uploads: list[Batch]) -> None:
    """Send the first upload by itself and the rest together; raises the SDK's ApiException."""
    client = api(source)
    client.upload_events(uploads[0])
    client.bulk_upload_events(uploads[1:])

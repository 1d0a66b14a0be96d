"""What a gateway offers."""

from forwarder.config.gateway import (
    App,
    AppAuth,
    EventsApi,
    EventsApiInput,
    Gateway,
    GatewayConfiguration,
    PinpointApi,
)
from forwarder.config.settings import Kafka
from forwarder.gateway.contract import Action
from forwarder.gateway.operations import make_operations
from forwarder.gateway.producer import EventProducer
from tests.doubles import LoopClock
from tests.unit.gateway.doubles import Broker, GatewayNotes, Memory, Room

PINPOINT = PinpointApi("p", (App("shop", AppAuth.NONE),), "111122223333")
EVENTS_API = EventsApi("u", (EventsApiInput("key", "secret"),))
UPLOADS = {Action.UPLOAD, Action.BULK_UPLOAD}


async def offered(gateway: Gateway) -> set[Action]:
    producer = EventProducer(Broker().connect, Room(1), LoopClock(), GatewayNotes())
    configuration = GatewayConfiguration(gateway, Kafka(("localhost:1",), ()))
    return set(make_operations(configuration, Memory(), producer, GatewayNotes()).carry_out)


async def test_every_action_of_what_is_configured_has_its_operation() -> None:
    assert set(Action) == await offered(Gateway(pinpoint=PINPOINT, mparticle=EVENTS_API))
    assert set(Action) - UPLOADS == await offered(Gateway(pinpoint=PINPOINT))
    assert UPLOADS == await offered(Gateway(mparticle=EVENTS_API))

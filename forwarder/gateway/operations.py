"""What a gateway offers: every action of the APIs that are configured, with its operation."""

from forwarder.config.gateway import GatewayConfiguration
from forwarder.gateway.app_operations import AppOperations
from forwarder.gateway.contract import Action, AnswerBusy, Operation, Operations
from forwarder.gateway.endpoint_operations import EndpointOperations
from forwarder.gateway.endpoints.contract import EndpointStore
from forwarder.gateway.event_operations import EventOperations
from forwarder.gateway.producer import EventProducer
from forwarder.gateway.upload_operations import UploadOperations
from forwarder.ops.gateway_reporter import GatewayReporter


def make_operations(
    configuration: GatewayConfiguration,
    store: EndpointStore | None,
    producer: EventProducer,
    reporter: GatewayReporter,
) -> Operations:
    """Return the operations of what is configured. Caller: the composition root, once.

    ``store``: needed where Pinpoint's API is. Store and producer are opened and closed by the
    caller.
    """
    gateway = configuration.gateway
    carry_out: dict[Action, Operation] = {}
    busy: dict[Action, AnswerBusy] = {}
    if gateway.pinpoint is not None and store is not None:
        limits = gateway.limits
        events = EventOperations(gateway.pinpoint, limits, store, producer, reporter)
        apps = AppOperations(gateway.pinpoint, configuration.connections, configuration.modified_ms)
        carry_out[Action.PUT_EVENTS] = events.put_events
        busy[Action.PUT_EVENTS] = events.put_events_busy
        carry_out |= EndpointOperations(limits, store, reporter).by_action()
        carry_out |= apps.by_action()
    if gateway.mparticle is not None:
        carry_out |= UploadOperations(gateway.mparticle.topic, producer, reporter).by_action()
    return Operations(carry_out, busy)

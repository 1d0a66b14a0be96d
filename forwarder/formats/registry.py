"""Which formats there are: the one place, beside the composition root, that names them."""

from collections.abc import Callable, Mapping

from forwarder.config.connection import Connection
from forwarder.formats.across.to_mparticle import MParticleFromPinpoint
from forwarder.formats.across.to_pinpoint import PinpointFromMParticle
from forwarder.formats.contract import Formats
from forwarder.formats.mparticle.document import MParticleDocuments
from forwarder.formats.mparticle.format import MParticleInput
from forwarder.formats.mparticle.probe import probe_document as mparticle_probe
from forwarder.formats.pinpoint.document import PinpointDocuments
from forwarder.formats.pinpoint.format import PinpointInput
from forwarder.formats.pinpoint.probe import probe_document as pinpoint_probe

MPARTICLE = MParticleInput()
PINPOINT = PinpointInput()

BUILT_IN = Formats(
    inputs={MPARTICLE.name: MPARTICLE, PINPOINT.name: PINPOINT},
    documents={
        (MPARTICLE.name, MPARTICLE.name): MParticleDocuments,
        (PINPOINT.name, PINPOINT.name): PinpointDocuments,
        (PINPOINT.name, MPARTICLE.name): MParticleFromPinpoint,
        (MPARTICLE.name, PINPOINT.name): PinpointFromMParticle,
    },
)
"""What ``topics[].format`` and ``sink.format`` may name (``config`` lists the same names)."""

PROBES: Mapping[str, Callable[[Connection, str, int, str], bytes]] = {
    MPARTICLE.name: mparticle_probe,
    PINPOINT.name: pinpoint_probe,
}
"""By ``sink.format``, what makes a document that tells a reader that it is a test.

Given the connection, the probe's name and the time, in milliseconds and in words. Caller:
``forwarder doctor``.
"""

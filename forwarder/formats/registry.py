"""Which formats there are: the one place, beside the composition root, that names them."""

from forwarder.formats.across.to_mparticle import MParticleFromPinpoint
from forwarder.formats.across.to_pinpoint import PinpointFromMParticle
from forwarder.formats.contract import Formats
from forwarder.formats.mparticle.document import MParticleDocuments
from forwarder.formats.mparticle.format import MParticleInput
from forwarder.formats.pinpoint.document import PinpointDocuments
from forwarder.formats.pinpoint.format import PinpointInput

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

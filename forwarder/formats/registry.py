"""Which formats there are: the one place, beside the composition root, that names them."""

from forwarder.formats.contract import Formats
from forwarder.formats.mparticle.document import MParticleDocuments
from forwarder.formats.mparticle.format import MParticleInput

MPARTICLE = MParticleInput()

BUILT_IN = Formats(
    inputs={MPARTICLE.name: MPARTICLE},
    documents={(MPARTICLE.name, MPARTICLE.name): MParticleDocuments},
)
"""What ``topics[].format`` and ``sink.format`` may name (``config`` lists the same names)."""

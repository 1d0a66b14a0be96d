"""Realistic uploads for demo, acceptance and soak: deterministic, and every event can be found.

Each event carries a unique ``source_message_id``. What mParticle's own SDK can express is made
with its models and its serialisation; the rest (quirks met in the wild) is made by hand.
"""

from tests.traffic.generate import traffic
from tests.traffic.malformed import Malformed, poison
from tests.traffic.odd import Odd, odd
from tests.traffic.upload import Upload

__all__ = ["Malformed", "Odd", "Upload", "odd", "poison", "traffic"]

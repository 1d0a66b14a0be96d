"""Real clients of Pinpoint and of mParticle's Events API, and what they put on the wire."""

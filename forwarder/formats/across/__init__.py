"""Documents of one format made of the other's uploads: Pinpoint's and mParticle's."""

"""mParticle's event batches: how they are read, filtered, merged and written."""

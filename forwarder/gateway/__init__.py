"""The gateway: Pinpoint's events API and mParticle's, written to Kafka. A process of its own."""

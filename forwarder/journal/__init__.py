"""The journal: outbox, state and commits, one Kafka transaction a tick; its pure bookkeeping."""

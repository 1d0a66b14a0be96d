"""Delivering: the batches of the outbox to their sinks, in order per device, retried for ever."""

"""Forward app events from Kafka into Kinesis, in batches per device, losing nothing."""

__version__ = "0.1.0"

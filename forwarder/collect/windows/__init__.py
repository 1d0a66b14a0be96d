"""Open windows of one lane of one partition: what waits, when it closes, what is saved of it."""

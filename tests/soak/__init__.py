"""The soak: a mixed load flows while workers are killed, and then everything is counted."""

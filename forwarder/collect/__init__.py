"""Collecting: records in, closed batches out; pure. ``pipeline`` has the order."""

"""Pinpoint's events: what a gateway writes, finished 3.1 records, and the stream's record."""

"""Random histories of whole workers on a model of Kafka, of the group and of destinations.

The workers are the real ones, from the poll to the put; everything they talk to is a model that
can fail in every way the real thing can. ``python -m tests.model`` runs as many as you like.
"""

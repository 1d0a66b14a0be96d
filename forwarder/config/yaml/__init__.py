"""YAML read with its lines kept: all faults of a file are told at once, each at its place."""

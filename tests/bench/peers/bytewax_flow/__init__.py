"""A flow that does what is measured, and the lock file of its environment."""

"""What the worker costs: CPU seconds and memory of the real process, beside what it rests on."""

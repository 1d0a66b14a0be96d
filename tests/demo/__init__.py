"""The demo: the real worker, a real broker, an emulated AWS, and a kill -9 in the middle.

Run it with ``make demo``, or ``python -m tests.demo --help``.
"""

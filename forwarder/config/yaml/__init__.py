"""YAML read by hand: every fault with its line, key and remedy, all of them in one run.

Knows values, units and sections, and nothing of connections or workers; ``nodes`` first, then
``values`` and ``units``, then ``sections``.

Why by hand: the whole connection file was tried as pydantic v2 models over the same nodes, and all
tests of faults passed. It took as much code (some 500 lines of adapting against 540 here), for none
of pydantic's messages can be shown, and its checks across keys run only once every key is valid.
And it made each command start 60 ms later (``forwarder check``: 179 ms instead of 118).
"""

"""The native core: compiled twins of what the hot path does for every event, where they are built.

Pure Python is the reference and does all of it alone. Whoever has a native twin asks ``core`` for
it when it is made (never per event) and uses its own Python where that is None. Both give the same
results byte for byte: one contract suite runs on both, and they are compared on millions of inputs.
``make native`` builds it; ``FORWARDER_NATIVE=0`` in the environment leaves it aside.
"""

import os
from importlib import import_module
from types import ModuleType

VARIABLE = "FORWARDER_NATIVE"
"""The environment variable that leaves the native core aside where it is ``0``."""


def _built() -> ModuleType | None:
    try:
        return import_module("forwarder.native._core")
    except ImportError:  # not built here
        return None


_chosen = _built() if os.environ.get(VARIABLE) != "0" else None


def core() -> ModuleType | None:
    """Return the native core, None where it is not built or left aside."""
    return _chosen


def name() -> str:
    """Return which core runs, as ``--version`` and ``build_info`` say it."""
    return "python" if _chosen is None else f"native {_chosen.VERSION}"

"""Which core runs: what a test makes and calls meanwhile uses the native one, or pure Python."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest

from forwarder import native

NATIVE, PYTHON = "native", "python"
_BUILT: ModuleType | None = native.core()


def is_built() -> bool:
    """Tell whether there is a native core, and nobody has left it aside."""
    return _BUILT is not None


@contextmanager
def on(core: str) -> Iterator[None]:
    """Have ``native.core()`` return this core, to whoever asks meanwhile."""
    before, chosen = native._chosen, _BUILT if core == NATIVE else None  # noqa: SLF001
    native._chosen = chosen  # noqa: SLF001
    try:
        yield
    finally:
        native._chosen = before  # noqa: SLF001


def chosen() -> list[str]:
    """Return the cores that tests are run with: not one that the environment leaves aside."""
    return [PYTHON] if os.environ.get(native.VARIABLE) == "0" else [NATIVE, PYTHON]


@pytest.fixture(params=chosen())
def core(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run a test with each core in turn; the native one is skipped where it is not built."""
    which: str = request.param
    if which == NATIVE and not is_built():
        pytest.skip("the native core is not built: there is no Rust here, or make native failed")
    with on(which):
        yield which

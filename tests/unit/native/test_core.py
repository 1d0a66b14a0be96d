import os
import subprocess
import sys

import pytest

from forwarder import native

SAYS = "from forwarder import native; print(native.name(), native.core() is None)"


def said(**variables: str) -> str:
    command = [sys.executable, "-c", SAYS]
    environment = {**os.environ, **variables}
    return subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=environment
    ).stdout.strip()


def test_the_environment_leaves_the_native_core_aside() -> None:
    assert "python True" == said(**{native.VARIABLE: "0"})


def test_where_it_is_built_it_runs() -> None:
    pytest.importorskip("forwarder.native._core", exc_type=ImportError)
    assert said(**{native.VARIABLE: "1"}).startswith("native ")
    assert said(**{native.VARIABLE: "1"}).endswith(" False")

"""The house: rooms, names and arrows as docs/architecture.md and docs/walk.md say they are."""

import ast
import importlib
import pkgutil
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import forwarder

ROOT = Path(__file__).parents[3]
HOUSE = ROOT / "forwarder"
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
WALK = (ROOT / "docs" / "walk.md").read_text()
LOOSE = {"__init__", "__main__", "app", "cancellation", "clock", "errors", "model", "retry"}
CLOCKS = {"monotonic", "monotonic_ns", "now", "perf_counter", "time", "time_ns", "utcnow"}
STEPS = 15


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(HOUSE.rglob("*.py")):
        yield path, ast.parse(path.read_text())


def rooms() -> set[str]:
    return {
        path.parent.relative_to(HOUSE).as_posix()
        for path in HOUSE.rglob("__init__.py")
        if path.parent != HOUSE
    }


def test_nothing_but_the_ground_lies_loose() -> None:
    assert LOOSE == {path.stem for path in HOUSE.glob("*.py")}


def test_a_class_name_stands_for_one_thing() -> None:
    found = defaultdict(list)
    for path, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found[node.name.lstrip("_")].append(path.relative_to(HOUSE).as_posix())
    assert {} == {name: places for name, places in found.items() if len(places) > 1}


def test_only_one_module_reads_a_clock() -> None:
    reads = [
        f"{path.relative_to(HOUSE)}:{node.lineno}"
        for path, tree in modules()
        if path.name != "clock.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in CLOCKS
        and _is_a_clock(node.func.value)
    ]
    assert [] == reads


def _is_a_clock(owner: ast.expr) -> bool:
    """Tell whether an expression is the loop, or a module or class that tells the time."""
    if isinstance(owner, ast.Call):
        return _is_a_clock(owner.func)
    name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
    return name.lstrip("_") in {"time", "datetime", "date", "loop", "get_running_loop"}


def test_tests_mirror_the_tree() -> None:
    tests = ROOT / "tests" / "unit"
    mirrored = {
        path.parent.relative_to(tests).as_posix()
        for path in tests.rglob("__init__.py")
        if path.parent not in {tests, tests / "harness"}
    }
    assert set() == mirrored - rooms()
    assert {"config/yaml"} >= rooms() - mirrored, "rooms without tests of their own"


def test_the_architecture_page_has_one_line_for_every_room() -> None:
    lines = re.findall(r"^  ([a-z_/]+)/  +\S.*$", ARCHITECTURE, re.MULTILINE)
    assert sorted(rooms()) == sorted(lines)


def test_every_module_that_the_architecture_page_names_is_there() -> None:
    named = set(re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", ARCHITECTURE))
    assert named
    assert set() == {
        name for name in named if not ((HOUSE / name).exists() or (ROOT / name).exists())
    }


def steps() -> list[tuple[int, list[str]]]:
    """Return the numbered steps of the walk, each with the names of code in it."""
    parts = re.split(r"^(\d+)\. ", WALK, flags=re.MULTILINE)[1:]
    return [
        (int(number), re.findall(r"`((?:[a-z_]+\.)+[A-Za-z_][\w.]*)`", text))
        for number, text in zip(parts[::2], parts[1::2], strict=True)
    ]


def test_the_walk_has_its_steps_and_each_names_the_function_that_does_it() -> None:
    assert list(range(1, STEPS + 1)) == [number for number, _ in steps()]
    assert [] == [number for number, names in steps() if not names]


@pytest.mark.parametrize("name", sorted({name for _, names in steps() for name in names}))
def test_a_name_in_the_walk_is_one_of_the_code(name: str) -> None:
    assert callable(_resolved(name))


def _resolved(name: str) -> object:
    """Return what a dotted name below ``forwarder`` stands for; raises AttributeError."""
    found: object = forwarder
    for part in name.split("."):
        if isinstance(found, ModuleType) and part in _submodules(found):
            found = importlib.import_module(f"{found.__name__}.{part}")
        else:
            found = getattr(found, part)
    return found


def _submodules(package: ModuleType) -> set[str]:
    return {one.name for one in pkgutil.iter_modules(getattr(package, "__path__", []))}

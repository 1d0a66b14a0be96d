"""Flattening is bounded: in depth, in number, and in what paths add to what came."""

import json
import time

import pytest
from msgspec import Raw

from forwarder.formats.across import flatten
from forwarder.formats.across.flatten import Flat


def flat(value: object, name: str = "a") -> Flat:
    """Return a value flattened under a name."""
    made = Flat()
    made.add_all("", {name: Raw(json.dumps(value, separators=(",", ":")).encode())})
    return made


def deep(levels: int) -> object:
    """Return an object in an object, and so on."""
    value: object = 1
    for _ in range(levels):
        value = {"x": value}
    return value


def test_scalars_stay_the_bytes_they_are_and_other_values_texts() -> None:
    made = Flat()
    made.add_all("p.", {
        "n": Raw(b"1.50"), "t": Raw(b'"\\u00e9"'), "yes": Raw(b"true"), "no": Raw(b"null"),
        "list": Raw(b"[1, null]"), "empty": Raw(b"{}"), "none": Raw(b"[]"), "mpid": Raw(b"7"),
    })  # fmt: skip
    assert {"p.n": b"1.50"} == {k: bytes(v) for k, v in made.metrics.items()}
    assert {
        "p.t": b'"\\u00e9"', "p.yes": b'"true"', "p.list": b'"[1, null]"', "p.empty": b'"{}"',
        "p.none": b'"[]"', "p.mpid": b'"7"',
    } == {k: bytes(v) for k, v in made.attributes.items()}  # fmt: skip


def test_what_stands_deep_is_its_json_at_the_deepest_level() -> None:
    made = flat(deep(flatten.MAX_DEPTH))
    assert ["a" + ".x" * flatten.MAX_DEPTH] == [*made.metrics]
    made = flat(deep(flatten.MAX_DEPTH + 2))
    assert {"a" + ".x" * flatten.MAX_DEPTH: '{"x":{"x":1}}'} == {
        name: json.loads(bytes(raw)) for name, raw in made.attributes.items()
    }


@pytest.mark.parametrize("many", [flatten.MAX_VALUES, flatten.MAX_VALUES + 1])
def test_too_many_values_are_one_text(many: int) -> None:
    value = {str(n): n for n in range(many)}
    made = flat(value)
    if many <= flatten.MAX_VALUES:
        assert many == len(made.metrics)
    else:
        assert value == json.loads(json.loads(bytes(made.attributes["a"])))


def test_what_is_left_of_a_list_stands_by_path_where_parts_of_it_are_too_many() -> None:
    made = flat({"action": "purchase", "products": [{"id": n} for n in range(3000)]})
    assert {"a.action", "a.products"} == set(made.attributes)
    assert 3000 == len(json.loads(json.loads(bytes(made.attributes["a.products"]))))


def test_long_paths_do_not_multiply() -> None:
    for value in (
        {"k" * 10_000: {str(n): n for n in range(1_900)}},
        [{"k" * 1_000: {"l" * 1_000: {str(n): 0 for n in range(300)}}} for _ in range(6)],
    ):
        size = len(json.dumps(value))
        made = flat(value)
        names = [*made.attributes, *made.metrics]
        grown = sum(map(len, names)) + sum(map(len, made.attributes.values()))
        assert grown <= 2 * size + 2 * flatten.MAX_PATH_CHARACTERS


def test_hostile_values_take_no_long_time() -> None:
    wide = [{"a": [{"b": n}]} for n in range(50_000)]
    chain = {"data." * n + "x": n for n in range(300)}
    begun = time.process_time()
    made = flat(wide)
    made.add_own({name: Raw(b'"%d"' % n) for name, n in chain.items()})
    for _ in range(100):
        made.add_all("", {"x": Raw(b'"again"')})
    assert time.process_time() - begun < 5
    assert 401 == len(made.attributes)

"""Some thousands of mutated records make the same on both cores; ``make fuzz`` tries millions."""

import random
from typing import Any

import pytest

from forwarder.formats.contract import Reject, Scan
from forwarder.formats.record_decoder import PollDecoder
from forwarder.formats.registry import BUILT_IN
from tests import cores
from tests.builders import PARTITION, START
from tests.fuzz import extremes
from tests.fuzz.__main__ import mutator, run
from tests.fuzz.pairs import FORMS, PAIRS, Block, compared, given
from tests.fuzz.seeds import seeds

SEED = 20
BLOCKS = {"scan": 12, "collect": 5}


@pytest.fixture(autouse=True)
def _built() -> None:
    if not cores.is_built():
        pytest.skip("the native core is not built here, or left aside")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("way", PAIRS)
def test_both_cores_make_the_same_of_it(way: str, form: str) -> None:
    count, found = run(tuple(Block(SEED, way, form, number) for number in range(BLOCKS[way])))
    assert [] == found
    assert count > 100 * BLOCKS[way]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("way", PAIRS)
def test_both_cores_make_the_same_of_what_is_cut_short_nested_or_large(way: str, form: str) -> None:
    block = Block(SEED, way, form, 0)
    values = [
        *extremes.cut_short(seeds(form)[:2]),
        *extremes.nested(form, 1026),
        *extremes.enormous(form, 20_000),
    ]
    assert (len(values), None) == compared(block, given(values))


@pytest.mark.parametrize("way", PAIRS)
def test_a_core_that_differs_by_a_byte_is_found(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scan_in_python = PollDecoder.scan_in_python

    def nearly(self: PollDecoder, *args: Any) -> Scan:  # noqa: ANN401
        found = scan_in_python(self, *args)
        for upload in found.uploads[-1:]:
            upload.owner += b"x"
        return found

    monkeypatch.setattr(PollDecoder, "scan_in_python", nearly)
    _, (difference,) = run((Block(SEED, way, "mparticle", 0),))
    assert difference.native != difference.python


@pytest.mark.parametrize("form", FORMS)
def test_mutations_leave_enough_to_be_read_and_enough_to_be_rejected(form: str) -> None:
    """A fuzzer whose input is all rubbish, or all fine, finds nothing."""
    rng, made = random.Random(SEED), mutator(form)  # noqa: S311  # repeatable, not secret
    decoder = BUILT_IN.inputs[form].decoder(PARTITION, [], sessions=True)
    values = [made.value(rng) for _ in range(1000)]
    rejected = [isinstance(decoder.decode(one, 1, START, START), Reject) for one in values]
    assert 200 < sum(rejected) < 700
    assert len({*values} - {*seeds(form)}) > 600

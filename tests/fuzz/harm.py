"""All that is given to a core that is watched: mutated, cut short, nested, enormous."""

import sys
from collections.abc import Iterator

from tests.fuzz import extremes
from tests.fuzz.__main__ import Outcome, mutator
from tests.fuzz.pairs import FORMS, PAIRS, Block, Difference, Polls, compared, given, mutated
from tests.fuzz.seeds import seeds

CUT = 12
"""Seeds of a format of which every beginning is tried."""


def compare_all(cases: int, seed: int) -> Outcome:
    """Compare it all, ``cases`` mutated records; return the number of records, and differences."""
    count = 0
    found: list[Difference] = []

    def compare(block: Block, polls: Polls) -> int:
        more, difference = compared(block, polls)
        if difference is not None:
            found.append(difference)
        return more

    for name, block, polls in extreme(seed):
        more = compare(block, polls)
        sys.stdout.write(f"{block.form}, {block.way}, {name}: {more:,} records\n")
        sys.stdout.flush()
        count += more
    mutations, number = 0, 0
    while mutations < cases:
        for form in FORMS:
            way = "collect" if number % 5 == 4 else "scan"
            mutations += compare(Block(seed, way, form, number), mutated(mutator(form)))
        number += 1
    sys.stdout.write(f"mutated: {mutations:,} records\n")
    return count + mutations, found


def extreme(seed: int) -> Iterator[tuple[str, Block, Polls]]:
    """Yield what each part is called, its block, and what makes its polls."""
    for form in FORMS:
        good = [*dict.fromkeys(seeds(form))]
        chosen = good[:: len(good) // CUT]
        for number, way in enumerate(PAIRS):
            block = Block(seed, way, form, number)
            yield "cut short", block, given(extremes.cut_short(chosen, 1 if way == "scan" else 7))
            yield "nested", block, given(extremes.nested(form))
            yield "large", block, given(extremes.enormous(form, 30_000))
            yield "enormous", block, given(extremes.enormous(form))

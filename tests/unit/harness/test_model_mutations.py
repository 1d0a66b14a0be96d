"""The model finds each of many faults put into the real code on purpose."""

import pytest

from forwarder import native
from tests.model import found
from tests.model.history import history, kind, play, quietly
from tests.model.mutations import MUTATIONS, Mutation, applied

TRIES = 250
"""Further histories that may find a fault, when code or histories have changed."""

FOUND = found.load()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.name)
def test_a_fault_in_the_protocol_is_found(mutation: Mutation) -> None:
    known = FOUND.get(mutation.name)
    stories = [] if known is None else [(known.setting, known.actions), history(known.seed)]
    with quietly():
        for setting, actions in [*stories, *map(history, range(TRIES))]:
            assert play(setting, actions)[0] is None
            with applied(mutation):
                fault, _ = play(setting, actions)
            if fault is not None:
                assert kind(fault), fault
                return
    pytest.fail(
        f"{mutation.step}: nobody notices that {mutation.wrong}; "
        f"look for a history with: python -m tests.model --mutations {mutation.name}"
    )


def test_a_mutation_of_what_is_gone_says_so() -> None:
    gone = Mutation("gone", "K1", "nothing", ((found, "no_such_name", lambda right: right),))
    core = native.core()
    with pytest.raises(LookupError, match="no_such_name"):
        applied(gone)
    assert core is native.core(), "nothing of it stays"


def test_histories_are_kept_for_present_mutations_only() -> None:
    assert {mutation.name for mutation in MUTATIONS} >= FOUND.keys()

"""What is known of the ends of the logs, and what a commit says of them."""

import pytest

from forwarder.errors import JournalError
from forwarder.journal import outbox_bounds
from forwarder.journal.contract import Commit
from forwarder.model import Partition

LOG = Partition("forwarder.outbox.raw-events", 3)


def test_a_log_ends_behind_what_was_stored_last() -> None:
    assert 9 == outbox_bounds.risen(LOG, 5, [6, 7, 8])
    assert 5 == outbox_bounds.risen(LOG, 5, [])


def test_a_record_below_the_end_known_is_in_another_log() -> None:
    with pytest.raises(JournalError, match=r"raw-events/3 stored a record at offset 4.*at 5"):
        outbox_bounds.risen(LOG, 5, [4, 5])


@pytest.mark.parametrize(
    "text", ["", "by hand", "[]", "{}", '{"outbox":"7"}', '{"outbox":-7}', '{"outbox":null}']
)
def test_metadata_that_says_no_number_says_nothing(text: str) -> None:
    assert 0 == outbox_bounds.number(Commit(1, text), "outbox")


def test_metadata_says_its_numbers_by_name() -> None:
    assert 7 == outbox_bounds.number(Commit(1, '{"v":1,"n":3,"outbox":7}'), "outbox")
    assert 0 == outbox_bounds.number(None, "outbox")

"""Where the logs of a partition end."""

import pytest

from forwarder.errors import JournalError
from forwarder.journal.partition_logs import risen_end
from forwarder.model import Partition

LOG = Partition("forwarder.outbox.raw-events", 3)


def test_a_log_ends_behind_what_was_stored_last() -> None:
    assert 9 == risen_end(LOG, 5, [6, 7, 8])
    assert 5 == risen_end(LOG, 5, [])


def test_a_record_below_the_end_known_is_in_another_log() -> None:
    with pytest.raises(JournalError, match=r"raw-events/3 stored a record at offset 4.*at 5"):
        risen_end(LOG, 5, [4, 5])

"""What looking for duplicates may rely on, asked of every format."""

import pytest

from forwarder.config.connection import Settings
from forwarder.formats.contract import DUPLICATE, DUPLICATES, Reject, Upload
from forwarder.formats.rawjson import split_values
from tests.builders import START
from tests.format_senders import SENDERS, Sender, decoder

pytestmark = pytest.mark.usefixtures("core")


@pytest.fixture(params=SENDERS)
def sender(request: pytest.FixtureRequest) -> Sender:
    """Return each format's sender in turn."""
    found: Sender = SENDERS[request.param]
    return found


def read(sender: Sender, value: bytes, offset: int = 7, *, duplicates: bool = True) -> Upload:
    found = decoder(sender, duplicates=duplicates).decode(value, offset, START, START)
    assert not isinstance(found, Reject)
    return found[0]


def test_nothing_is_said_of_duplicates_unless_asked_for(sender: Sender) -> None:
    value = sender.record(sender.event(1), sender.event(2))
    assert [] == [*read(sender, value, duplicates=False).duplicate_keys]


def test_what_is_sent_again_is_known_by_the_same_wherever_it_stands(sender: Sender) -> None:
    value = sender.record(sender.event(1), sender.event(2))
    first, again = read(sender, value), read(sender, value, 4_711)
    assert 2 == len(first.duplicate_keys)
    assert all(first.duplicate_keys)
    assert [*first.duplicate_keys] == [*again.duplicate_keys]


def test_other_events_and_other_devices_are_known_by_something_else(sender: Sender) -> None:
    event, other = sender.event(1), sender.event(2)
    values = (sender.record(event), sender.record(other), sender.record(event, device="d2"))
    assert 3 == len({read(sender, value).duplicate_keys[0] for value in values})


def test_an_upload_without_events_has_none_to_come_again(sender: Sender) -> None:
    assert [] == [*read(sender, sender.record()).duplicate_keys]


@pytest.mark.parametrize("passes", [True, False])
def test_every_filter_leaves_duplicates_out_and_says_so(sender: Sender, *, passes: bool) -> None:
    settings = Settings(send_unknown_events=passes, include_location_information=passes)
    made = sender.form.event_filter("lane", settings)
    upload = read(sender, sender.record(*[sender.event(n, sender.view) for n in range(3)]))
    assert made.keeps_all(upload) or not passes
    upload.types[1] = DUPLICATE
    assert not made.keeps_all(upload)
    filtered: dict[tuple[str, str], int] = {}
    [(_, pieces)], failed = made.sift([upload], filtered)
    events = [bytes(one) for one in split_values(upload.body)]
    assert [(0, 1, events[0]), (2, 1, events[2])] == [(p[1], p[2], p[4]) for p in pieces]
    assert ([], {("lane", DUPLICATES): 1}) == (failed, filtered)


def test_no_record_can_name_the_type_of_a_duplicate() -> None:
    assert str(DUPLICATE) != DUPLICATE
    assert DUPLICATE not in ["duplicate", "".join(DUPLICATE)]
    assert ["custom_event", DUPLICATE].index(DUPLICATE) == 1

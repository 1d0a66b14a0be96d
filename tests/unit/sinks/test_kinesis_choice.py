"""What a Kinesis sink remembers: which action is allowed, and the last numbers of devices."""

from forwarder.config.targets import PutMode
from forwarder.sinks.kinesis import PROBE_SECONDS, PutActionSelector, SequenceNumbers
from tests.services.fake_kinesis import FakeClock


def test_sequences_forget_the_key_put_longest_ago() -> None:
    last = SequenceNumbers(size=2)
    for key, number in ((b"a", "1"), (b"b", "2"), (b"a", "3"), (b"c", "4")):
        last.put(key, number)
    assert [last.get(key) for key in (b"a", b"b", b"c")] == ["3", None, "4"]
    last.forget(b"a")
    last.forget(b"never")
    assert last.get(b"a") is None


def test_a_choice_is_made_by_setting_and_experience() -> None:
    clock = FakeClock()
    for mode, many in ((PutMode.RECORD, False), (PutMode.RECORDS, True)):
        choice = PutActionSelector(mode)
        assert choice.use_put_records(clock.now) is many
        assert choice.note_put_records_denied(clock.now) is False
        assert choice.use_put_records(clock.now) is many
    auto = PutActionSelector(PutMode.AUTO)
    assert auto.use_put_records(0.0)
    assert auto.note_put_records_denied(0.0)
    assert not auto.use_put_records(PROBE_SECONDS - 1)
    auto.note_put_record_denied()
    assert auto.use_put_records(1.0)

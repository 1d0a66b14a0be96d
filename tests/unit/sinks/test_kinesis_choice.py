"""What a Kinesis sink remembers: which action is allowed, and the last numbers of devices."""

from forwarder.config.targets import PutMode
from forwarder.sinks.kinesis import PROBE_SECONDS, Choice, Sequences
from tests.services.fake_kinesis import FakeClock


def test_sequences_forget_the_key_put_longest_ago() -> None:
    last = Sequences(size=2)
    for key, number in ((b"a", "1"), (b"b", "2"), (b"a", "3"), (b"c", "4")):
        last.put(key, number)
    assert [last.get(key) for key in (b"a", b"b", b"c")] == ["3", None, "4"]
    last.forget(b"a")
    last.forget(b"never")
    assert last.get(b"a") is None


def test_a_choice_is_made_by_setting_and_experience() -> None:
    clock = FakeClock()
    for mode, many in ((PutMode.RECORD, False), (PutMode.RECORDS, True)):
        choice = Choice(mode)
        assert choice.together(clock.now) is many
        assert choice.together_denied(clock.now) is False
        assert choice.together(clock.now) is many
    auto = Choice(PutMode.AUTO)
    assert auto.together(0.0)
    assert auto.together_denied(0.0)
    assert not auto.together(PROBE_SECONDS - 1)
    auto.single_denied()
    assert auto.together(1.0)

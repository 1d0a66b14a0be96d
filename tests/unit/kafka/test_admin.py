"""What brokers tell of offsets and members is taken for what it can be, and for nothing else."""
# ruff: noqa: SLF001  # the clients behind a cluster are put in place by hand

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment

from forwarder.errors import JournalError
from forwarder.kafka import admin
from forwarder.kafka.admin import GroupMember, KafkaAdmin
from forwarder.model import Commit, LogBounds, Partition
from tests.services.kafka_world import World

WHERE = Partition("raw-events", 0)
TP = TopicPartition("raw-events", 0)


class Answers:
    """Stands for both clients: every offset is the same, and so is every member."""

    def __init__(self, offset: int = 0, assignment: bytes | None = b"") -> None:
        self._offset = offset
        self._assignment = assignment

    async def beginning_offsets(self, _: object) -> dict[TopicPartition, int]:
        return {TP: self._offset}

    end_offsets = beginning_offsets

    async def list_consumer_group_offsets(self, *_: object, **__: object) -> dict[Any, Any]:
        return {TP: SimpleNamespace(offset=self._offset, metadata=None)}

    async def describe_consumer_groups(self, _: object) -> list[Any]:
        member = ("me", "client", "host", b"", self._assignment)
        groups = [(0, "group", "Stable", "consumer", "range", [member])]
        return [SimpleNamespace(groups=groups)]


def cluster(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> KafkaAdmin:
    monkeypatch.setattr(admin, "ANSWER_SECONDS", 0.3)
    found = KafkaAdmin(World("127.0.0.1:1").settings().kafka, "me")
    found._admin = found._offsets = answers
    return found


async def test_offsets_that_a_log_can_have_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = cluster(Answers(7), monkeypatch)
    assert {WHERE: LogBounds(7, 7)} == await asked.bounds([WHERE])
    assert 7 == await asked.end(WHERE)
    assert {WHERE: Commit(7, "")} == await asked.committed("group", [WHERE])


async def test_no_commit_is_one_number_and_none_but_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever takes another for it reads from the start what it has read already."""
    assert {WHERE: None} == await cluster(Answers(-1), monkeypatch).committed("group", [WHERE])
    for offset in (-2, -(1 << 63)):
        with pytest.raises(JournalError, match=f"makes no sense .*offset {offset}"):
            await cluster(Answers(offset), monkeypatch).committed("group", [WHERE])


async def test_an_offset_below_every_log_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = cluster(Answers(-1), monkeypatch)
    with pytest.raises(JournalError, match="makes no sense"):
        await asked.bounds([WHERE])
    with pytest.raises(JournalError, match="makes no sense"):
        await asked.end(WHERE)


@pytest.mark.parametrize("assignment", [None, b"", b"\0", b"\0\0\xff\xff\xff\xff\0\0", b"json{}"])
async def test_a_member_that_says_in_a_way_of_its_own_what_it_holds_holds_nothing(
    assignment: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = await cluster(Answers(0, assignment), monkeypatch).members("group")
    assert [GroupMember("client", "host", frozenset(), "me")] == members


async def test_one_that_says_it_as_all_do_holds_that(monkeypatch: pytest.MonkeyPatch) -> None:
    held = ConsumerProtocolMemberAssignment(0, [("raw-events", [0])], b"").encode()
    members = await cluster(Answers(0, held), monkeypatch).members("group")
    assert [GroupMember("client", "host", frozenset({WHERE}), "me")] == members

"""Only an action's own form of receipt says that a record is stored."""

from typing import Any

import orjson
import pytest
from msgspec.json import Decoder

from forwarder.aws import replies
from forwarder.aws.receipts import Memory, Receipts
from forwarder.model import OutcomeKind

NUMBER = {"SequenceNumber": "1" * 56, "ShardId": "shardId-000000000000"}
ID = {"RecordId": "x", "Encrypted": False}
TRUE = [
    (replies.ONE, NUMBER),
    (replies.ONE, {**NUMBER, "EncryptionType": "KMS"}),
    (replies.RECORDS, {"FailedRecordCount": 0, "Records": [NUMBER]}),
    (replies.RECORDS, {"Records": [NUMBER]}),
    (replies.RESPONSES, {"FailedPutCount": 0, "RequestResponses": [ID]}),
]
FALSE = [
    (replies.ONE, ID),
    (replies.ONE, {"Records": [NUMBER]}),
    (replies.ONE, {**NUMBER, "ErrorCode": "InternalFailure"}),
    (replies.ONE, {**NUMBER, "__type": "InternalFailure"}),
    (replies.ONE, {**NUMBER, "__type": ""}),
    (replies.ONE, {**NUMBER, "SequenceNumber": "1x"}),
    (replies.ONE, {**NUMBER, "ShardId": "x" * 129}),
    (replies.ONE, {**NUMBER, "ShardId": None, "RecordId": "x"}),
    (replies.RECORDS, NUMBER),
    (replies.RECORDS, {"Records": [ID]}),
    (replies.RECORDS, {"Records": [NUMBER, NUMBER]}),
    (replies.RECORDS, {"Records": [NUMBER], "__type": "InternalFailure"}),
    (replies.RECORDS, {"RequestResponses": [ID]}),
    (replies.RESPONSES, {"RequestResponses": [NUMBER]}),
    (replies.RESPONSES, {"RequestResponses": [{**ID, "ErrorCode": "InternalFailure"}]}),
    (replies.RESPONSES, {"RequestResponses": [ID], "__type": "InternalFailure"}),
    (replies.RESPONSES, {"Records": [NUMBER]}),
]


def acknowledges(form: Decoder[Any], told: object) -> bool:
    """Tell whether an answer acknowledges the one record of a request."""
    reply = form.decode(orjson.dumps(told))
    if replies.wrong(reply, Receipts(Memory()), 1):
        return False
    (one,) = reply.each
    return one.stored is not None and one.stored.kind is OutcomeKind.DELIVERED


@pytest.mark.parametrize(("form", "told"), TRUE)
def test_the_receipt_of_an_action_acknowledges(form: Decoder[Any], told: object) -> None:
    assert acknowledges(form, told)


@pytest.mark.parametrize(("form", "told"), FALSE)
def test_what_another_action_or_an_error_says_acknowledges_nothing(
    form: Decoder[Any], told: object
) -> None:
    assert not acknowledges(form, told)

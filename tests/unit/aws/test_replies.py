"""Only an action's own form of receipt says that a record is stored."""

from typing import Any

import orjson
import pytest
from msgspec.json import Decoder

from forwarder.aws import replies
from forwarder.aws.receipts import ReceiptMemory, Receipts
from forwarder.model import OutcomeKind

NUMBER = {"SequenceNumber": "1" * 56, "ShardId": "shardId-000000000000"}
ID = {"RecordId": "x", "Encrypted": False}
TRUE = [
    (replies.PUT_RECORD, NUMBER),
    (replies.PUT_RECORD, {**NUMBER, "EncryptionType": "KMS"}),
    (replies.PUT_RECORDS, {"FailedRecordCount": 0, "Records": [NUMBER]}),
    (replies.PUT_RECORDS, {"Records": [NUMBER]}),
    (replies.PUT_RECORD_BATCH, {"FailedPutCount": 0, "RequestResponses": [ID]}),
]
FALSE = [
    (replies.PUT_RECORD, ID),
    (replies.PUT_RECORD, {"Records": [NUMBER]}),
    (replies.PUT_RECORD, {**NUMBER, "ErrorCode": "InternalFailure"}),
    (replies.PUT_RECORD, {**NUMBER, "__type": "InternalFailure"}),
    (replies.PUT_RECORD, {**NUMBER, "__type": ""}),
    (replies.PUT_RECORD, {**NUMBER, "SequenceNumber": "1x"}),
    (replies.PUT_RECORD, {**NUMBER, "ShardId": "x" * 129}),
    (replies.PUT_RECORD, {**NUMBER, "ShardId": None, "RecordId": "x"}),
    (replies.PUT_RECORDS, NUMBER),
    (replies.PUT_RECORDS, {"Records": [ID]}),
    (replies.PUT_RECORDS, {"Records": [NUMBER, NUMBER]}),
    (replies.PUT_RECORDS, {"Records": [NUMBER], "__type": "InternalFailure"}),
    (replies.PUT_RECORDS, {"RequestResponses": [ID]}),
    (replies.PUT_RECORD_BATCH, {"RequestResponses": [NUMBER]}),
    (replies.PUT_RECORD_BATCH, {"RequestResponses": [{**ID, "ErrorCode": "InternalFailure"}]}),
    (replies.PUT_RECORD_BATCH, {"RequestResponses": [ID], "__type": "InternalFailure"}),
    (replies.PUT_RECORD_BATCH, {"Records": [NUMBER]}),
]


def acknowledges(form: Decoder[Any], told: object) -> bool:
    """Tell whether an answer acknowledges the one record of a request."""
    reply = form.decode(orjson.dumps(told))
    if replies.contradiction(reply, Receipts(ReceiptMemory()), 1):
        return False
    (stored,) = reply.stored()
    return stored is not None and stored.kind is OutcomeKind.DELIVERED


@pytest.mark.parametrize(("form", "told"), TRUE)
def test_the_receipt_of_an_action_acknowledges(form: Decoder[Any], told: object) -> None:
    assert acknowledges(form, told)


@pytest.mark.parametrize(("form", "told"), FALSE)
def test_what_another_action_or_an_error_says_acknowledges_nothing(
    form: Decoder[Any], told: object
) -> None:
    assert not acknowledges(form, told)

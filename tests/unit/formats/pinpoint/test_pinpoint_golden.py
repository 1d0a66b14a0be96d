"""The stream's records and the keys of windows, byte for byte as they were first written.

What is stored and sent again rests on them: whoever changes a record raises ``ENCODER_VERSION``,
whoever changes a key writes a rule of keying.
``python -m tests.unit.formats.pinpoint.test_pinpoint_golden`` writes the files anew.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from forwarder.formats.contract import Reject
from forwarder.formats.registry import PINPOINT
from tests.builders import DATA
from tests.unit.formats.pinpoint.samples import ENVELOPE, EVENT, FINISHED, compact, event, record
from tests.unit.formats.pinpoint.test_decode import decode
from tests.unit.formats.pinpoint.test_documents import collected

FOLDER = DATA / "pinpoint" / "stream"
ALL_OFF: dict[str, Any] = {
    "include_location_information": False,
    "include_metadata": False,
    "include_user_identities": False,
    "metadata_field_exclusion": ("endpoint.ChannelType", "awsAccountId"),
}
SESSION = {
    "Id": "s-2",
    "StartTimestamp": "2026-10-01T12:00:00+0200",
    "StopTimestamp": "2026-10-01T12:01:00.5",
    "Duration": 60_500,
}
INPUT = [
    record(EVENT, event("_session.stop", Session=SESSION)),
    record(event("_campaign.opened_notification", Attributes={"campaign_id": "c"})),
    record(event("_SMS.SUCCESS", Metrics={"price_in_millicents_usd": 645.0})),
    record(event("a", AppPackageName="x"), event("b"), Endpoint=None, EndpointId="é/\u2028"),
    record(event("a"), EndpointId="x" * 300, ApplicationId=None, Endpoint={"User": {"UserId": 7}}),
    record(event("odd", Attributes={"n": 1.50, "d": "\ud800"}, Metrics={"m": 10**30, "e": None})),
    record(event("_test.event_stream")),
    record(event("nobody"), EndpointId=None),
    compact(FINISHED),
    compact(ENVELOPE),
    json.dumps({**FINISHED, "event_type": "tap"}, indent=1).encode(),
]


def documents() -> Iterator[bytes]:
    """Yield the records of the stream that become of the input, for each choice of settings."""
    for chosen in ({}, ALL_OFF):
        for batch in collected(*INPUT, account="111122223333", **chosen).batches:
            yield b"%b %b" % (batch.mpid.encode(), batch.payload)


def uploads() -> Iterator[bytes]:
    """Yield what windows are keyed by, and the contexts that wait in them."""
    for value in INPUT:
        found = decode(value)
        assert not isinstance(found, Reject)
        for one in found:
            told = (one.device, one.owner, *one.sessions, *map(bytes, one.duplicate_keys))
            yield b" ".join([*told, *PINPOINT.applications(one), one.context])


FILES = {"records.ndjson": documents, "uploads.txt": uploads}


@pytest.mark.parametrize("name", FILES)
def test_what_was_written_once_is_written_so_for_ever(name: str) -> None:
    expected = (FOLDER / name).read_bytes().split(b"\n")[:-1]
    assert expected == [*FILES[name]()]


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, lines in FILES.items():
        (FOLDER / name).write_bytes(b"".join([line + b"\n" for line in lines()]))

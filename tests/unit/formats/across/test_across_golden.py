"""Documents across, byte for byte as they were when they were first written.

What is stored and sent again rests on them: whoever changes them raises ``ENCODER_VERSION``.
``python -m tests.unit.formats.across.test_across_golden`` writes the files anew.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from forwarder.formats.ids import PLACEHOLDER_IDS
from tests.builders import DATA, START
from tests.unit.formats.across import test_to_mparticle, test_to_pinpoint
from tests.unit.formats.across.senders import (
    BARE,
    PHONE,
    READER,
    from_mparticle,
    from_pinpoint,
    written,
)

FOLDER = DATA / "pinpoint" / "across"
ALL_ON = {
    "include_mp_deviceid": True,
    "include_consent_state": True,
    "include_event_batch_location": True,
    "int64_as_string": True,
    "unique_id": "mine",
}
ALL_OFF = {
    "include_location_information": False,
    "include_metadata": False,
    "include_user_identities": False,
    "include_system_notifications": False,
}
CHOSEN: dict[str, dict[str, Any]] = {"defaults": {}, "all-on": ALL_ON, "all-off": ALL_OFF}


def mparticle_documents() -> Iterator[bytes]:
    """Yield a document of each kind of endpoint, for each choice of settings."""
    for settings in CHOSEN.values():
        maker = from_pinpoint(**settings)
        for context in (PHONE, READER, BARE):
            frame = maker.frame(written(context), START, START)
            events = [maker.render(frame, written(one)) for one in test_to_mparticle.EVENTS]
            yield maker.document(frame, b",".join(events), PLACEHOLDER_IDS)


def pinpoint_records() -> Iterator[bytes]:
    """Yield a record of each kind of event, for each choice of settings."""
    events = test_to_pinpoint.EVENTS
    told = ((test_to_pinpoint.PHONE, events), (test_to_pinpoint.WEB, events[:3]))
    for settings in CHOSEN.values():
        maker = from_mparticle(test_to_pinpoint.SINK, **settings)
        for context, sent in told:
            frame = maker.frame(written(context), START, START)
            for event in sent:
                yield maker.render(frame, written(event))


FILES = {
    "mparticle-documents.ndjson": mparticle_documents,
    "pinpoint-records.ndjson": pinpoint_records,
}


@pytest.mark.parametrize("name", FILES)
def test_documents_are_the_bytes_that_they_were(name: str) -> None:
    expected = (FOLDER / name).read_bytes().splitlines()
    found = list(FILES[name]())
    assert len(expected) == len(found)
    for line, made in zip(expected, found, strict=True):
        assert line == made


if __name__ == "__main__":
    for file, documents in FILES.items():
        (FOLDER / file).write_bytes(b"".join(one + b"\n" for one in documents()))

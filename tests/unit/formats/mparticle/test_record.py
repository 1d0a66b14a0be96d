"""What a gateway writes of an upload, read by the decoder of the topic."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from forwarder.formats.contract import Reject
from forwarder.formats.mparticle.decode import MParticleDecoder
from forwarder.formats.mparticle.format import MParticleInput
from forwarder.formats.mparticle.record import UploadRecord, UploadRecords
from forwarder.model import Partition

RECORDS = UploadRecords()
DECODER = MParticleDecoder(Partition("t", 0), sessions=True, places=True, duplicates=True)

odd = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
names = st.sampled_from(
    ["events", "mpid", "mp_deviceid", "device_info", "api_key", "api_keys", "environment",
     "source_request_id", "user_identities", "event_type", "data", "batch", "x"]
)  # fmt: skip
events = st.lists(st.dictionaries(st.sampled_from(["event_type", "data", "x"]), odd, max_size=3))
uploads = st.dictionaries(names, odd, max_size=6) | st.fixed_dictionaries(
    {"events": events}, optional={"mpid": odd, "api_key": odd, "environment": odd}
)


@given(uploads)
def test_what_is_taken_is_an_upload_of_the_input_and_nothing_else_of_it_changes(
    upload: dict[str, Any],
) -> None:
    made = RECORDS.make(encoded(upload), "own", "development")
    if isinstance(made, Reject):
        assert isinstance(DECODER.decode(encoded(upload), 0, 0, 0), Reject)
        return
    assert isinstance(made, UploadRecord)
    decoded = DECODER.decode(made.value, 0, 0, 0)
    assert isinstance(decoded, list)
    [one] = decoded
    assert made.events == len(one.types)
    assert (b'"own"',) == MParticleInput().api_keys(one)
    written = json.loads(made.value)
    for name in ("api_key", "api_keys", "environment"):
        written.pop(name, None)
        upload.pop(name, None)
    assert json.loads(encoded(upload)) == written
    assert made.key


def encoded(value: Any) -> bytes:  # noqa: ANN401  # any JSON
    return json.dumps(value, ensure_ascii=False).encode()

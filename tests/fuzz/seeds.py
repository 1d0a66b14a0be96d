"""What mutations begin with: values of each format as they come, and some that were odd once."""

import json
from pathlib import Path

from forwarder.formats.contract import Reject
from forwarder.formats.registry import BUILT_IN
from tests.bench import load, pinpoint_load
from tests.builders import DATA, PARTITION, START
from tests.format_senders import SENDERS
from tests.traffic import malformed
from tests.traffic.generate import traffic
from tests.traffic.odd import odd
from tests.unit.formats.pinpoint import samples

LONGEST = 6_000
"""Bytes of a seed: what is longer costs too many others their turn."""


def seeds(form: str) -> list[bytes]:
    """Return the values of a format in a fixed order; one in ten is none."""
    found = _mparticle() if form == "mparticle" else _pinpoint()
    once = dict.fromkeys(one for one in found if one.strip() and len(one) <= LONGEST)
    decode = BUILT_IN.inputs[form].decoder(PARTITION, [], sessions=True).decode
    fine = {one: not isinstance(decode(one, 0, START, START), Reject) for one in once}
    good = [one for one in once if fine[one]]
    return good * (9 * (len(once) - len(good)) // len(good) + 1) + [
        one for one in once if not fine[one]
    ]


def _mparticle() -> list[bytes]:
    sender = SENDERS["mparticle"]
    events = [path.read_bytes().strip() for path in sorted(DATA.glob("*_event_*.json"))]
    return [
        *(value for _, value in load.written(range(4))),
        *(value for _, value in load.written(range(4), events=5)),
        *map(_upload, _lines(*sorted((DATA / "corpus").glob("*/input.ndjson")))),
        *(_compacted(path.read_bytes()) for path in sorted(DATA.glob("*batch*.json"))),
        *(b'{"events":[%b],"mp_deviceid":"d"}' % _compacted(event) for event in events),
        *(upload.value for upload in traffic(1, 12, 300, START)),
        *(one.value for one in odd(1, 40, START)),
        *(value for _, value in malformed.SHAPES + malformed.LATER),
        *sender.broken,
        *sender.foreign,
        sender.record(sender.event(1), sender.event(2, session="s"), tag="t"),
        sender.record(),
    ]


def _pinpoint() -> list[bytes]:
    sender = SENDERS["pinpoint"]
    folder = DATA / "pinpoint"
    known = folder / "records.ndjson", folder / "finished.ndjson"
    streams = (
        *sorted((folder / "stream").glob("*.ndjson")),
        folder / "across/pinpoint-records.ndjson",
    )
    return [
        *(value for _, value in pinpoint_load.written(range(4))),
        *(line.replace(b"ARRIVAL", b"%d" % START) for line in _lines(*known)),
        *(line[line.index(b"{") :] for line in _lines(*streams)),
        *(
            _compacted(path.read_bytes())
            for path in (folder / "envelope.json", folder / "request.json")
        ),
        samples.record(samples.EVENT, samples.event(), samples.event("pageView", Metrics={"a": 1})),
        samples.record(samples.event(Session={"Id": "s"}), Application={"AppPackageName": "shop"}),
        samples.record(samples.EVENT, Endpoint=None),
        samples.record(),
        samples.compact(samples.FINISHED),
        samples.compact(samples.ENVELOPE),
        *sender.broken,
        *sender.foreign,
        sender.record(sender.event(1), sender.event(2, session="s"), tag="t"),
    ]


def _lines(*paths: Path) -> list[bytes]:
    return [line for path in paths for line in path.read_bytes().splitlines() if line]


def _upload(line: bytes) -> bytes:
    """Return the upload of a line of the corpus, which may give it a time of its own."""
    head, found, upload = line.partition(b'"upload": ')
    return upload[:-1] if found and head.startswith(b'{"timestamp_ms"') else line


def _compacted(value: bytes) -> bytes:
    """Return JSON on one line; what is none stays as it is."""
    try:
        return json.dumps(json.loads(value), separators=(",", ":"), ensure_ascii=False).encode()
    except ValueError:
        return value

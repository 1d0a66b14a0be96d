"""Tuples of numbers and bytes that the native core makes are none that garbage is looked for in."""

import gc

import pytest

from forwarder import native
from forwarder.formats.mparticle.decode import MParticleDecoder
from forwarder.formats.pinpoint.decode import PinpointDecoder
from forwarder.model import Partition
from tests import builders
from tests.bench import load, pinpoint_load
from tests.builders import NOW, START, Rec, connection, event, records, upload

pytest.importorskip("forwarder.native._core", exc_type=ImportError)
pytestmark = pytest.mark.skipif(native.core() is None, reason="the native core is left aside")

PARTITION = Partition("raw", 0)


def mparticle() -> MParticleDecoder:
    return MParticleDecoder(PARTITION, sessions=False, places=False)


class Number(int):
    """A number that may refer to something."""


@pytest.mark.parametrize(
    ("decoder", "value"),
    [
        (mparticle(), next(load.written([7]))[1]),
        (
            PinpointDecoder(PARTITION, sessions=False, duplicates=False),
            next(pinpoint_load.written([7]))[1],
        ),
    ],
    ids=["mparticle", "pinpoint"],
)
def test_pieces(decoder: MParticleDecoder | PinpointDecoder, value: bytes) -> None:
    scan = decoder.scan([Rec(5, START, value), Rec(6, START, value)], START, NOW, bool)
    pieces = [one.piece for one in scan.uploads]
    bodies = [one.body for one in scan.uploads]
    assert [(5, 0, 1, START, bodies[0]), (6, 0, 1, START, bodies[1])] == pieces
    assert [False, False] == [gc.is_tracked(piece) for piece in pieces]


def test_a_piece_of_which_a_number_may_refer_to_something() -> None:
    (_, value) = next(load.written([7]))
    (one,) = mparticle().scan([Rec(Number(5), START, value)], START, NOW, bool).uploads
    assert gc.is_tracked(one.piece)


def test_positions_of_batches() -> None:
    uploads = records(upload(event(), event()), upload(event(), event(), event()))
    out = builders.run(connection(), uploads)
    (batch,), (closing,) = out.batches, out.closings
    assert ((0, 0), (1, 2), (1, 2)) == (batch.first, batch.last, closing.last)
    assert [False] * 3 == [gc.is_tracked(one) for one in (batch.first, batch.last, closing.last)]

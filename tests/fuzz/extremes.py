"""Values at the edges of what can come in: cut short, nested deeply, enormous."""

from collections.abc import Iterator

from tests.builders import START
from tests.format_senders import SENDERS

DEPTHS = (63, 64, 65, 127, 128, 129, 511, 512, 1023, 1024, 1025, 1026, 4096, 100_000, 1_000_000)
MIB = 1024 * 1024


def cut_short(seeds: list[bytes], step: int = 1) -> Iterator[bytes]:
    """Yield beginnings of values, each ``step`` bytes longer than the one before."""
    for seed in dict.fromkeys(seeds):
        for size in range(0, len(seed), step):
            yield seed[:size]


def nested(form: str, most: int = DEPTHS[-1]) -> Iterator[bytes]:
    """Yield values that are nested deeply, in every place, whole and cut off."""
    sender = SENDERS[form]
    whole = sender.record(sender.event(1), tag="PLACE")
    inner = sender.record(b"PLACE", sender.event(2))
    for depth in [one for one in DEPTHS if one <= most]:
        for begin, end in ((b"[", b"]"), (b'{"a":', b"}"), (b'[{"data":', b"}]")):
            deep = begin * depth + b"1" + end * depth
            yield deep
            yield begin * depth
            yield whole.replace(b'"PLACE"', deep)
            yield whole.replace(b'"PLACE"', begin * depth)
            yield inner.replace(b"PLACE", deep)
            yield inner.replace(b"PLACE", b'{"event_type":"tap","data":%b}' % deep)
            yield inner.replace(b"PLACE", b'{"EventType":"tap","Attributes":{"a":%b}}' % deep)
            yield b'{"a":%b,' % deep + whole[1:]


def enormous(form: str, size: int = MIB) -> Iterator[bytes]:
    """Yield values of about ``size`` bytes, one part of each grown."""
    sender = SENDERS[form]
    event = sender.event(1)
    whole = sender.record(event, tag="PLACE")
    for grown in (
        b'"%b"' % (b"x" * size),
        b'"%b"' % ("é" * (size // 2)).encode(),
        b'"%b"' % (b"\\u0061" * (size // 6)),
        b'"%b"' % (b'\\"' * (size // 2)),
        b'"%b' % (b"\\" * size),
        b"9" * size,
        b"-" * size,
        b"0." + b"1" * size,
        b"[%b]" % b",".join([b"1"] * (size // 2)),
        b"[%b" % (b"[]," * (size // 3)),
        b"{%b}" % b",".join([b'"k%d":0' % number for number in range(size // 9)]),
        b"{%b}" % b",".join([b'"k":0'] * (size // 6)),
        b" " * size + b"1",
    ):
        yield grown
        yield whole.replace(b'"PLACE"', grown)
        yield whole.replace(b'"d1"', grown)
        yield sender.record(sender.event(1).replace(b'"tap"', grown))
        yield b"{%b:1," % (grown if grown[:1] == b'"' else b'"x"') + whole[1:]
    yield sender.record(*[event] * (size // len(event)))
    yield sender.record(*[b"{}"] * (size // 3))
    yield sender.record(*[b"1"] * (size // 2))
    yield b"[%b]" % b",".join([whole] * (size // len(whole)))
    yield b"[" * size
    yield b"{" * size
    yield b'"' * size
    yield b"\x00" * size
    yield b"\xff" * size
    yield b"%d" % START * (size // 13)

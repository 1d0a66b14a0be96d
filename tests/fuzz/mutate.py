"""Values made at random out of others: tokens replaced, members doubled, bytes broken."""

import random
import re
from collections.abc import Callable, Sequence

TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[-+.0-9eE]+|[a-z]+|\s+|.', re.DOTALL)
"""JSON's tokens, and any other byte by itself."""

NESTED = (1, 2, 3, 30, 127, 128, 129, 1023, 1024, 1025, 5000)
"""How deep a value is put into others."""

ODD: tuple[bytes, ...] = (
    *b'""|" "|"0"|"null"|"unknown"|"undefined"|"None"|"-1"|"NULL"|"\\u006eull"|"\\n"'.split(b"|"),
    *b"0|-0|-1|1|1.0|1.10|1e3|1E+400|1e-5|-0.0|9007199254740993|9223372036854775807".split(b"|"),
    *b"9223372036854775808|-9223372036854775808|-9223372036854775809|1700000000000".split(b"|"),
    *b"18446744073709551615|18446744073709551616".split(b"|"),
    *b'true|false|null|{}|[]|[[]]|[{}]|{"a":1}|[1,2]|{"a":null}|[null]|{"":0}'.split(b"|"),
    *b'{"a":1,"a":2}|{"location":1}|{"session_id":7}|[{"event_type":"tap"}]'.split(b"|"),
    *rb'"\u0061"|"\ud83d\ude00"|"\u0000"|"\/"|"\\"|"\""|"\\\""|"\b\f\r\t"'.split(b"|"),
    *(f'"{one}"'.encode() for one in ("é", "☕", "😀", "\u2028", "\x7f", "\ufeff")),
    b'"00000000-0000-0000-0000-000000000000"', b'"00000000000000000000000000000000"',
    b'"9774d56d682e549c"', b'"0C2F-AA"', b'"0c2f-aa"',
    *(b'"%b"' % (b"x" * size) for size in (127, 253, 254, 255, 256, 257, 1024, 1025)),
    *(b"%d" % 10**size for size in (17, 18, 19, 20, 40, 400)),
    *(b'"%d"' % 10**size for size in (17, 18, 19, 20)),
    b'"2026-10-01T12:00:00.123456Z"', b'"1970-01-01T00:00:00z"', b'"2026-13-01T00:00:00Z"',
)  # fmt: skip
"""Values that a reader may take for something else."""

WRONG: tuple[bytes, ...] = (
    *b"00|01|-|1.|.5|1e|0x1|+1|1_0|--1|nul|True|NaN|Infinity|-Infinity|'a'|//".split(b"|"),
    *rb'"\ud800"|"\udc00\ud800"|"\ud800\ud800"|"\ud800a"|"\ud800\u0041"'.split(b"|"),
    *rb'"\x"|"\u12"|"\u12g4"|"a\"|"a'.split(b"|"),
    *(b'"%b"' % one for one in (b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80")),
    b'"\xc0\x80"',
    b'"\x00"', b'"\x1f"', b'"a\nb"',
)  # fmt: skip
"""What is no JSON, or half a character."""

KEYS: tuple[bytes, ...] = tuple(
    b'"%b"' % name
    for name in (
        b"events|event_type|data|location|breadcrumbs|session_id|session_uuid|mpid|mp_deviceid|"
        b"environment|api_key|application_info|package|device_info|platform|user_identities|"
        b"user_attributes|deleted_user_attributes|system_notifications|source_request_id|context|"
        b"timestamp_unixtime_ms|batch_id|schema_version|message_id|consent_state|integration_attributes|"
        b"ios_advertising_id|android_uuid|amp_id|type|batch|payload|unheard_of|"
        rb"loc\u0061tion|ev\u0065nts|d\u0061ta|mp\u0069d|session\u005fid|EVENTS|"
        b"ApplicationId|EndpointId|ArrivalTimestamp|Endpoint|Events|EventId|EventType|Timestamp|Session|"
        b"Attributes|Metrics|Id|StartTimestamp|StopTimestamp|Duration|AppPackageName|AppTitle|"
        b"AppVersionCode|SdkName|ClientSdkVersion|Application|User|UserId|UserAttributes|Demographic|"
        b"Location|ChannelType|OptOut|Address|RequestId|EffectiveDate|event_timestamp|"
        b"arrival_timestamp|event_version|application|client|session|attributes|metrics|app_id|"
        b"client_context|awsAccountId|facets|"
    ).split(b"|")
)  # fmt: skip
"""Names that mean something to one format or the other, and spellings of them."""

SPACES = (b" ", b"\n", b"\t", b"\r\n", b"  ", b"\x0b", b"\xc2\xa0", b"\x00")
FRONTS = (
    b"\xef\xbb\xbf",
    b"\x00\x00\x00\x00\x07",
    b"\xff\xfe",
    b"\x00",
    b" ",
    b"\n",
    b"[",
    b"\x1f\x8b",
)
MARKS = (b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\")

Tokens = list[bytes]
_WRAPS = ((b"[", b"]"), (b'{"a":', b"}"), (b'{"location":', b"}"), (b'{"data":', b"}"), (b"[", b""))


class Mutator:
    """Makes values of seeds; the same generator of numbers gives the same values."""

    def __init__(self, seeds: Sequence[bytes]) -> None:
        """Take the seeds apart once."""
        self._seeds = [TOKEN.findall(seed) for seed in seeds]
        self._changes: tuple[Callable[[random.Random, Tokens], None], ...] = (
            *[self._replace] * 8, *[self._rename] * 5, *[self._double] * 5, *[self._spell] * 4,
            *[self._space] * 2, *[self._nest] * 2, self._borrow, self._remove, self._repeat,
            self._swap, self._mark,
        )  # fmt: skip

    def value(self, rng: random.Random) -> bytes:
        """Return the next value: a fifth are seeds as they are."""
        chance = rng.random()
        tokens = self._seed(rng)
        if chance < 0.2:
            return b"".join(tokens)
        tokens = tokens.copy()
        for _ in range(1 if chance < 0.6 else 1 + int(rng.random() * 4)):
            if not tokens:
                break
            self._changes[int(rng.random() * len(self._changes))](rng, tokens)
        value = b"".join(tokens)
        if chance > 0.97:
            return self._several(rng, value)
        if chance > 0.8:
            return _broken(rng, value)
        return value

    def _seed(self, rng: random.Random) -> Tokens:
        return self._seeds[int(rng.random() * len(self._seeds))]

    def _several(self, rng: random.Random, value: bytes) -> bytes:
        """Return uploads in an array, or with something before or after them."""
        other = b"".join(self._seed(rng))
        return rng.choice(
            (
                b"[%b,%b]" % (value, other), b"[%b]" % value, b"%b%b" % (value, other),
                b"[%b,]" % value, rng.choice(FRONTS) + value, value + rng.choice(SPACES),
                b"[%b,\n%b , %b]" % (value, other, value), rng.choice(FRONTS) + b"[%b]" % value,
            )
        )  # fmt: skip

    def _replace(self, rng: random.Random, tokens: Tokens) -> None:
        values = ODD if rng.random() < 0.9 else WRONG
        tokens[_value(rng, tokens)] = values[int(rng.random() * len(values))]

    def _borrow(self, rng: random.Random, tokens: Tokens) -> None:
        other = self._seed(rng)
        tokens[_value(rng, tokens)] = other[int(rng.random() * len(other))]

    def _rename(self, rng: random.Random, tokens: Tokens) -> None:
        tokens[_key(rng, tokens)] = KEYS[int(rng.random() * len(KEYS))]

    def _double(self, rng: random.Random, tokens: Tokens) -> None:
        """Put a member in, often one that is there already, in front of another."""
        at = _key(rng, tokens)
        name = tokens[_key(rng, tokens)] if rng.random() < 0.6 else rng.choice(KEYS)
        value = rng.choice(ODD) if rng.random() < 0.7 else tokens[_value(rng, tokens)]
        tokens[at:at] = [name, b":", value, b","]

    def _spell(self, rng: random.Random, tokens: Tokens) -> None:
        """Write a character of a text as an escape."""
        at = _key(rng, tokens) if rng.random() < 0.7 else int(rng.random() * len(tokens))
        text = tokens[at]
        if len(text) > 2 and text[:1] == b'"':
            place = 1 + int(rng.random() * (len(text) - 2))
            if 0x20 <= text[place] < 0x7F and text[place] not in b'\\"' and text[place - 1] != 0x5C:
                form = b"\\u%04x" if rng.random() < 0.8 else b"\\u%04X"
                tokens[at] = text[:place] + form % text[place] + text[place + 1 :]

    def _nest(self, rng: random.Random, tokens: Tokens) -> None:
        depth = NESTED[int(rng.random() ** 3 * len(NESTED))]
        at = _value(rng, tokens)
        before, after = rng.choice(_WRAPS)
        tokens[at] = before * depth + tokens[at] + after * depth

    def _space(self, rng: random.Random, tokens: Tokens) -> None:
        for _ in range(1 + int(rng.random() * 4)):
            tokens.insert(
                int(rng.random() * (len(tokens) + 1)), SPACES[int(rng.random() ** 4 * len(SPACES))]
            )

    def _remove(self, rng: random.Random, tokens: Tokens) -> None:
        at = int(rng.random() * len(tokens))
        del tokens[at : at + 1 + int(rng.random() ** 2 * 8)]

    def _repeat(self, rng: random.Random, tokens: Tokens) -> None:
        at = int(rng.random() * len(tokens))
        run = tokens[at : at + 1 + int(rng.random() * 30)]
        tokens[at:at] = run * (1 + int(rng.random() ** 4 * 40))

    def _swap(self, rng: random.Random, tokens: Tokens) -> None:
        one, other = int(rng.random() * len(tokens)), int(rng.random() * len(tokens))
        tokens[one], tokens[other] = tokens[other], tokens[one]

    def _mark(self, rng: random.Random, tokens: Tokens) -> None:
        tokens.insert(int(rng.random() * (len(tokens) + 1)), rng.choice(MARKS))


def _value(rng: random.Random, tokens: Tokens) -> int:
    """Return where a token stands, mostly one that is a value."""
    at = int(rng.random() * len(tokens))
    for place in range(at, min(at + 8, len(tokens))):
        if tokens[place] == b":" and place + 1 < len(tokens):
            return place + 1
    return at


def _key(rng: random.Random, tokens: Tokens) -> int:
    """Return where a token stands, mostly one that names a member."""
    at = int(rng.random() * len(tokens))
    for place in range(at, min(at + 8, len(tokens))):
        if tokens[place] == b":" and place:
            return place - 1
    return at


def _broken(rng: random.Random, value: bytes) -> bytes:
    """Return a value with some bytes changed, or cut short."""
    content = bytearray(value)
    for _ in range(1 + int(rng.random() ** 3 * 8)):
        if not content:
            break
        at, way = int(rng.random() * len(content)), rng.random()
        if way < 0.3:
            content[at] ^= 1 << int(rng.random() * 8)
        elif way < 0.5:
            content[at] = int(rng.random() * 256)
        elif way < 0.65:
            content[at:at] = rng.choice(
                (b"\x00", b"\\", b'"', b"\xff", b"\xc3", b"\xed\xa0\x80", b" ")
            )
        elif way < 0.8:
            del content[at : at + 1 + int(rng.random() * 16)]
        elif way < 0.9:
            content[at:at] = content[at : at + 1 + int(rng.random() * 64)]
        else:
            del content[at:]
    return bytes(content)

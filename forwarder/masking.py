"""Hide what looks like a secret in a text for people, wherever somebody has put it.

``mask`` is for messages that name what was written: a key in the wrong place of a file, an
argument, a path. It knows no secret, and rather hides too much. ``KnownSecrets`` hides values that
are known to be secret, in whatever is logged.
"""

import itertools
import re
from collections.abc import Iterable

MASK = "****"

_NAMES = r"secret|passw|token|api_?key|private_?key|access_?key(?!_?id)|credential|jaas"
# Every repetition has an end: a text without end takes no more than linear time.
_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]{1,60}-----.*", re.DOTALL)
_USER_INFO = re.compile(r"(?<![^\s\"'/@,])[^\s\"'/@:,]{1,100}:(?!//)[^\s\"'@]{1,200}@(?=[^\s\"'@])")
# A value after the name of a secret: quoted to its end, else to the next blank, comma or bracket.
_NAMED = re.compile(
    rf"(?P<name>[\w.-]{{0,40}}(?:{_NAMES})[\w.-]{{0,40}}[\"']?\s{{0,9}}[=:]\s{{0,9}})"
    r"(?P<value>\"(?:[^\"\\]|\\.)*\"?|'[^']*'?|(?!\$\{)[^\s,;}\]\"']+)",
    re.IGNORECASE,
)
_OPTION = re.compile(
    rf"(?P<name>--?[\w-]{{0,40}}(?:{_NAMES})[\w-]{{0,40}}\s{{1,9}})"
    r"(?P<value>(?!-|\$\{)[^\s,;\"']+)",
    re.IGNORECASE,
)
_KNOWN_FORMS = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{12,}"  # access key ids (IAM User Guide, unique identifiers)
    r"|eyJ[\w-]{8,1000}\.[\w.-]+"  # JSON web tokens
    r"|gh[opsur]_\w{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}"
    r"|xox[abeoprs]-[\w-]{10,}|[srp]k_(?:live|test)_\w{10,}|AIza[\w-]{30,}"
    r"|us[1-9]-[0-9a-f]{32}"  # mParticle's API keys
    r")"
)
_WORD = re.compile(r"[A-Za-z0-9+/=_-]{20,}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_HEX = re.compile(r"(?=.*[0-9])(?=.*[a-f])[0-9a-f]{32,}", re.IGNORECASE)
# 40 characters of base64 (IAM User Guide, secret access keys), in a path perhaps of base64url.
_AWS_SECRET = re.compile(r"(?=.*[A-Z])(?=.*[a-z])(?=.*[0-9+/])[A-Za-z0-9+/_-]{40}")

_LONG, _LONGEST_IN_PATH = 32, 100
_CHANGES = 0.33
"""Changes between upper case, lower case and digits, a character, of what is random.

Random base64 has 0.6; words joined by capitals, digits, dashes or slashes stay below.
"""
_FEWEST_CHANGES = 8


def mask(text: str) -> str:
    """Return what somebody wrote with everything that looks like a secret replaced by ``MASK``."""
    text = _NAMED.sub(rf"\g<name>{MASK}", _PEM.sub(MASK, text))
    return mask_line(_OPTION.sub(rf"\g<name>{MASK}", text))


def mask_line(text: str) -> str:
    """Do so in a message of the program, which may itself name keys of secrets before a colon."""
    text = _USER_INFO.sub(f"{MASK}@", _PEM.sub(MASK, text))
    return _WORD.sub(_masked_word, _KNOWN_FORMS.sub(MASK, text))


def _masked_word(match: re.Match[str]) -> str:
    return "=".join(map(_masked_part, match.group().split("=")))


def _masked_part(word: str) -> str:
    """Hide a word, or what looks like a key between slashes: a path may lead to it."""
    if _is_random(word):
        return MASK
    parts = word.split("/")
    for start in range(len(parts)):
        for end in range(start + 1, len(parts) + 1):
            inner = "/".join(parts[start:end])
            if len(inner) > _LONGEST_IN_PATH:
                break
            if _is_random(inner):
                rest = _masked_part("/".join(parts[end:]))
                return "/".join([*parts[:start], MASK, *([rest] if rest else [])])
    return word


def _is_random(word: str) -> bool:
    """Tell whether a word has the length of a key and the look of chance."""
    if len(word) < _LONG or _UUID.fullmatch(word):
        return False
    if _HEX.fullmatch(word):
        return True
    kinds = [_kind(character) for character in word]
    pairs = itertools.pairwise(kinds)
    changes = sum(a != b and "other" not in {a, b} for a, b in pairs)
    if _AWS_SECRET.fullmatch(word):
        return changes >= _FEWEST_CHANGES
    return "digit" in kinds and changes >= _CHANGES * len(word)


def _kind(character: str) -> str:
    if character.isdigit():
        return "digit"
    if character.isupper():
        return "upper"
    return "lower" if character.islower() else "other"


_BEGINNING = 4


class KnownSecrets:
    """Values to hide wherever they occur, however many: a text costs its own length alone.

    One expression of all of them would take seconds to compile for the 40,000 API keys that a
    configuration may hold.
    """

    def __init__(self) -> None:
        """Know none."""
        self._values: set[str] = set()
        self._beginning = _BEGINNING
        self._lengths: dict[str, list[int]] = {}

    def add(self, values: Iterable[str]) -> None:
        """Hide these, too; empty ones hide nothing."""
        self._values |= set(filter(None, values))
        self._beginning = min([_BEGINNING, *map(len, self._values)])
        lengths: dict[str, set[int]] = {}
        for value in self._values:
            lengths.setdefault(value[: self._beginning], set()).add(len(value))
        self._lengths = {begin: sorted(found, reverse=True) for begin, found in lengths.items()}

    def mask(self, text: str) -> str:
        """Return the text with each of them replaced by ``MASK``, the longest that fits first."""
        if not self._values:
            return text
        parts, start, at = list[str](), 0, 0
        while at < len(text):
            found = self._length_at(text, at)
            if found:
                parts += [text[start:at], MASK]
                start = at + found
            at += found or 1
        return "".join([*parts, text[start:]]) if parts else text

    def _length_at(self, text: str, at: int) -> int:
        """Return how long the secret is that begins here, 0 if none does."""
        for length in self._lengths.get(text[at : at + self._beginning], ()):
            if text[at : at + length] in self._values:
                return length
        return 0

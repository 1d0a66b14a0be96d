"""Hide what looks like a secret in a text for people, wherever it stands.

``mask`` is for messages that name what was written: a key in the wrong place of a file, an
argument, a path. It knows no secret, and rather hides too much. ``KnownSecrets`` hides values that
are known to be secret, in whatever is logged.
"""

import itertools
import re
from collections.abc import Iterable

MASK = "****"

PASSWORDS = (
    r"passw|pass[_-]?phrase|passcode|pwd|pgpass(?![a-z])|(?<![a-z])pass(?![a-z])"
    r"|(?-i:(?<=[a-z])Pass(?![a-z]))"  # keystorePass; neither bypass nor passenger
)
"""What names a password, whatever the case; ``logs`` hides values under such keys, too."""

_NAMES = (
    rf"secret|{PASSWORDS}|token|api[_-]?key|private[_-]?key|access[_-]?key(?![_-]?id)"
    r"|credential|jaas|authorization|signature"
)
# Every repetition has an end, or none that begins anew within it: a text without end takes no more
# than linear time.
_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]{1,60}-----.*", re.DOTALL)
# Before the last @, for a password may hold others; in an address the user alone may be the secret.
_USER_INFO = re.compile(
    r"(?<![^\s\"'/@,])(?:[^\s\"'/@:,]{1,100}|(?<=//)):(?!//)[^\s\"']{1,200}@(?=[^\s\"'@])"
    r"|(?<=://)[^\s\"'/@:]{1,200}@(?=[^\s\"'@])"
)
# After the name of a secret: what is quoted to the end of the quotes, else all to the line's end,
# for a password may hold blanks and commas. References alone, ${…}, are shown; so is what follows
# the name of an error.
_NAMED = re.compile(
    rf"(?P<name>[\w.-]{{0,40}}(?:{_NAMES})[\w.-]{{0,40}}(?-i:(?<!Error)(?<!Exception))"
    r"[\"']?\s{0,9}(?:[=:]|%3[ad])\s{0,9}+)"
    r"(?P<value>(?:\"(?:[^\"\\]|\\.)*+\"?+|'(?:[^']|'')*+'?+)(?![^\s,;:)}\]\"'])"
    r"|(?!\$\{[^${}\r\n]{0,200}\}[\"']?\s{0,9}(?:[\r\n,;)}\]]|\Z))[^\r\n]+)",
    re.IGNORECASE,
)
_OPTION = re.compile(
    rf"(?P<name>--?[\w-]{{0,40}}(?:{_NAMES})[\w-]{{0,40}}\s{{1,9}})"
    r"(?P<value>\"[^\"]*+\"?+|'[^']*+'?+|(?!-|\$\{)[^\s,;\"']+)",
    re.IGNORECASE,
)
# RFC 6750, 2.1 and RFC 7617, 2; a word of prose after these has neither digits nor, within, a
# capital.
_SIGNED = re.compile(
    r"\b(?P<scheme>(?i:bearer|basic)\s{1,9})"
    r"(?=[^\s\"',;]*(?:[0-9_=~+]|[a-z][A-Z]|\.\w)|[^\s\"',;]{16})[^\s\"',;]+"
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

# Names join their parts with dashes, dots and underscores; a key has none, and may have slashes.
_WHOLE_WORD = re.compile(r"(?<![A-Za-z0-9+_.-])[A-Za-z0-9+/=]{32,}(?![A-Za-z0-9+/=_.-])")
_WORDY = re.compile(r"[a-z]{7}")
"""Is in nearly every name of that length that people can read, and by chance hardly ever."""

_LONG, _LONGEST_IN_PATH = 32, 100
_MAX_PARTS = 8
"""Of a key that its slashes cut into parts: of 100 random characters of base64 two are slashes."""
_CHANGES = 0.33
"""Changes between upper case, lower case and digits, a character, of what is random.

Random base64 has 0.6; words joined by capitals, digits, dashes or slashes stay below.
"""
_FEWEST_CHANGES = 8


def mask(text: str) -> str:
    """Return a text with everything that looks like a secret replaced by ``MASK``."""
    text = _NAMED.sub(rf"\g<name>{MASK}", _PEM.sub(MASK, text))
    return mask_line(_OPTION.sub(rf"\g<name>{MASK}", text))


def mask_line(text: str) -> str:
    """Do so in a message of the program, which may itself name keys of secrets before a colon."""
    text = _USER_INFO.sub(f"{MASK}@", _PEM.sub(MASK, text))
    text = _SIGNED.sub(rf"\g<scheme>{MASK}", text)
    return _WORD.sub(_masked_word, _KNOWN_FORMS.sub(MASK, text))


def mask_keys(text: str) -> str:
    """Replace what is surely a key: for names that programs make, which have the look of chance.

    CloudFormation calls a stream ``AnalyticsStackEventStream1A2B3C4D-AbCdEfGh1234``, say. A key
    without a form of its own is known by its length, by the look of chance throughout, and because
    nothing joins its parts.
    """
    return _WHOLE_WORD.sub(_masked_key, _KNOWN_FORMS.sub(MASK, text))


def mask_known_forms(text: str) -> str:
    """Replace what begins as keys of known services do: for ids that are as random as a key."""
    return _KNOWN_FORMS.sub(MASK, text)


def _masked_key(match: re.Match[str]) -> str:
    word = match.group()
    return MASK if _is_random(word) and not _WORDY.search(word) else word


def _masked_word(match: re.Match[str]) -> str:
    return "=".join(map(_masked_part, match.group().split("=")))


def _masked_part(word: str) -> str:
    """Hide a word, or what looks like a key between slashes: a path may lead to it."""
    if _is_random(word):
        return MASK
    parts, shown, start = word.split("/"), list[str](), 0
    while start < len(parts):
        end = _end_of_random(parts, start)
        shown.append(MASK if end else parts[start])
        start = end or start + 1
    return "/".join(shown)


def _end_of_random(parts: list[str], start: int) -> int:
    """Return where the parts end that look like a key, slashes included; 0 if none begins here."""
    for end in range(start + 1, min(start + _MAX_PARTS, len(parts)) + 1):
        inner = "/".join(parts[start:end])
        if len(inner) > _LONGEST_IN_PATH:
            break
        if _is_random(inner):
            return end
    return 0


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

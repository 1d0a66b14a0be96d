"""Times as clients of Pinpoint write them, in milliseconds since the epoch."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_DAY_SECONDS = 86_400
MAX_DIGITS = 18
"""Of milliseconds as an integer: what a bigint of the stream's table holds in any case."""


def milliseconds(text: str) -> int | None:
    """Return the time that a text tells; None: it tells none.

    ISO 8601 with ``Z``, an offset with or without a colon, or no zone, which is UTC; any number of
    digits of a second, of which three count. Digits alone are milliseconds already.
    """
    if text[4:5] != "-":
        return _of_digits(text)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return milliseconds(text.upper()) if text[-1] == "z" else None
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    since = time - _EPOCH
    return (since.days * _DAY_SECONDS + since.seconds) * 1000 + since.microseconds // 1000


def iso(milliseconds: int) -> str:
    """Return a time as Pinpoint writes it; empty: its year has more than four digits."""
    try:
        time = _EPOCH + milliseconds * _MILLISECOND
    except OverflowError:
        return ""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _of_digits(text: str) -> int | None:
    digits = text[1:] if text[:1] == "-" else text
    if digits.isascii() and digits.isdigit() and len(digits) <= MAX_DIGITS:
        return int(text)
    return None

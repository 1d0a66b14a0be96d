"""What commands print."""

import json
import os
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import TextIO

from forwarder.config.masking import KnownSecrets
from forwarder.errors import ForwarderError

WIDTH = 120
"""Columns that tables and texts for people take at most."""

MIN_COLUMN_CHARS = 12
"""Characters of a column below which nothing is cut: it would tell nothing any more."""


_suspects = KnownSecrets()


def hide_suspects(values: Iterable[str]) -> None:
    """Hide these from now on, and nothing else, in what is printed: what looked like a secret."""
    global _suspects  # noqa: PLW0603  # one process prints for one configuration
    _suspects = KnownSecrets()
    _suspects.add(values)


def mask_suspects(text: str) -> str:
    """Return a text without them."""
    return _suspects.mask(text)


def print_text(text: str) -> None:
    """Write a text to stdout, suspected secrets masked.

    A reader that has seen enough (``| head``) is no error. Raises ForwarderError where stdout takes
    nothing: a full disk, a closed descriptor.
    """
    text = mask_suspects(text)
    print_bytes(text.encode(_encoding(), "backslashreplace"), text)


def print_bytes(data: bytes, text: str | None = None) -> None:
    """Print bytes as they are; ``text`` is what streams that only take text are given."""
    stream = _stdout()
    try:
        if (buffer := getattr(stream, "buffer", None)) is not None:
            stream.flush()
            buffer.write(data)
        else:
            stream.write(data.decode(errors="replace") if text is None else text)
        stream.flush()
    except OSError as error:
        _stop_output(error)


def flush_stdout() -> None:
    """Flush what argparse printed (``--help``); raises ForwarderError as ``print_text`` does."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        _stop_output(error)


def _stdout() -> TextIO:
    stream: TextIO | None = sys.stdout
    if stream is None:
        msg = "cannot print: stdout is closed"
        raise ForwarderError(msg)
    return stream


def _encoding() -> str:
    return getattr(sys.stdout, "encoding", None) or "utf-8"


def _stop_output(error: OSError) -> None:
    """Print nothing more; raises ForwarderError unless the reader has only seen enough."""
    # The interpreter flushes once more as it exits, and would print a traceback after all.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(error, BrokenPipeError):
        msg = f"cannot print: {error.strerror or error}"
        raise ForwarderError(msg) from error


def wrap_text(text: str) -> str:
    """Return a text in lines of ``WIDTH`` at most; words that are longer stay whole."""
    return textwrap.fill(
        text, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def print_json(content: object) -> None:
    """Print one JSON document."""
    print_text(json_text(content) + "\n")


def json_text(content: object) -> str:
    """Return JSON that stdout takes as it is: with JSON's own escapes where it is not UTF-8."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    try:
        text.encode(_encoding())
    except UnicodeEncodeError:  # half a surrogate pair, too: that is no UTF-8 either
        return json.dumps(content, indent=2)
    return text


def format_table(heads: Sequence[str], rows: Iterable[Sequence[object]], width: int = 0) -> str:
    """Return lines in columns; a column whose every value is a number stands to the right.

    With a ``width`` no line is longer, as far as numbers allow: the longest texts are cut.
    """
    texts = [["-" if cell is None else str(cell) for cell in row] for row in rows]
    columns = list(zip(heads, *texts, strict=True))
    widths = [max(map(len, column)) for column in columns]
    if width:
        widths = _fitted(columns, widths, width)
        texts = [[_cut(cell, n) for cell, n in zip(row, widths, strict=True)] for row in texts]
        columns = list(zip(heads, *texts, strict=True))
    right = [bool(texts) and all(map(_is_number, column[1:])) for column in columns]
    lines = [
        "  ".join(
            cell.rjust(width) if numeric else cell.ljust(width)
            for cell, width, numeric in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in [list(heads), *texts]
    ]
    return "\n".join(lines) + "\n"


def _fitted(columns: Sequence[Sequence[str]], widths: list[int], most: int) -> list[int]:
    """Return widths whose sum fits, taken from the widest column of texts time and again."""
    fitted = list(widths)
    free = [i for i, column in enumerate(columns) if not all(map(_is_number, column[1:]))]
    while sum(fitted) + 2 * (len(fitted) - 1) > most:
        widest = max(free, key=lambda i: fitted[i], default=None)
        if widest is None or fitted[widest] <= MIN_COLUMN_CHARS:
            break
        fitted[widest] -= 1
    return fitted


def _cut(text: str, width: int) -> str:
    """Return a text without its middle where it is too long: names differ at their ends."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


def _is_number(cell: str) -> bool:
    return cell.strip("+").replace(".", "").isdigit()

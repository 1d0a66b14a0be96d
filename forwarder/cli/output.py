"""What commands print."""

import json
import os
import sys
from collections.abc import Iterable, Sequence


def show(text: str) -> None:
    """Print to stdout; a reader that has seen enough (``| head``) is no error."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more as it exits, which would print a traceback after all.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def document(content: object) -> None:
    """Print one JSON document."""
    show(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return lines in columns; a column whose every value is a number stands to the right."""
    texts = [["-" if cell is None else str(cell) for cell in row] for row in rows]
    columns = list(zip(heads, *texts, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [bool(texts) and all(map(_is_number, column[1:])) for column in columns]
    lines = [
        "  ".join(
            cell.rjust(width) if numeric else cell.ljust(width)
            for cell, width, numeric in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in [list(heads), *texts]
    ]
    return "\n".join(lines) + "\n"


def _is_number(cell: str) -> bool:
    return cell.strip("+").replace(".", "").isdigit()

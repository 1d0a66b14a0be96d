"""What a look at something found: fine, worth knowing, or to be mended, and how."""

from enum import StrEnum

import msgspec


class FindingGrade(StrEnum):
    """How a finding is to be taken."""

    OK = "ok"
    NOTE = "note"
    FAIL = "FAIL"


class Finding(msgspec.Struct, frozen=True):
    """One line for a person; ``remedy`` says what to do about a failure."""

    grade: FindingGrade
    what: str
    remedy: str = ""


def ok(what: str) -> Finding:
    """Return what is as it must be."""
    return Finding(FindingGrade.OK, what)


def note(what: str, remedy: str = "") -> Finding:
    """Return what stops nothing."""
    return Finding(FindingGrade.NOTE, what, remedy)


def fail(what: str, remedy: str = "") -> Finding:
    """Return what has to be mended."""
    return Finding(FindingGrade.FAIL, what, remedy)

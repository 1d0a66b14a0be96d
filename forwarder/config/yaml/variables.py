"""``${NAME}`` and ``${file:PATH}`` in configuration values; ``$${`` stands for ``${``."""

import re
from collections.abc import Mapping
from pathlib import Path

from forwarder.config import masking
from forwarder.config.yaml.files import NotAFileError, read_bounded

_REFERENCE = re.compile(r"\$\$\{|\$\{(?P<inside>[^${}]*)\}|(?P<open>\$\{)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BEGINNING = re.compile(r"file:.*|\s*\w*\s*", re.DOTALL | re.ASCII)
_SURROGATE = re.compile("[\ud800-\udfff]")
_MAX_FILE_BYTES = 65_536


def has_references(text: str) -> bool:
    """Tell whether a value holds anything to expand."""
    return "${" in text


def references(text: str) -> str:
    """Return the references of a value without what they stand for, such as ``${NAME}``."""
    insides = [m.group("inside") for m in _REFERENCE.finditer(text)]
    return (
        ", ".join(_printable_reference(inside) for inside in insides if inside is not None) or "$${"
    )


def referenced_files(text: str, folder: Path) -> list[Path]:
    """Return the files that a value is taken from."""
    insides = [m.group("inside") or "" for m in _REFERENCE.finditer(text)]
    return [
        folder / inside.removeprefix("file:") for inside in insides if inside.startswith("file:")
    ]


def _printable_reference(inside: str) -> str:
    """Return a reference fit for print; in ``${NAME:-DEFAULT}`` the default may be a secret."""
    if masking.mask(inside) != inside:  # whoever wrote it took ${…} for quotes
        return f"${{{masking.MASK}}}"
    match = _BEGINNING.match(inside)
    beginning = match.group() if match else ""
    return f"${{{beginning}{'' if beginning == inside else '…'}}}"


def expand_references(
    text: str, environ: Mapping[str, str], folder: Path
) -> tuple[str, list[str], list[str]]:
    """Return the text with every reference replaced, and a complaint for each that cannot be.

    Relative files start from ``folder``. Complaints never hold a value; the last list is those
    about what is not here.
    """
    complaints: list[str] = []
    absent: list[str] = []

    def replacement(match: re.Match[str]) -> str:
        if match.group("open") is not None:
            complaints.append("has a ${ without its }; close it, or write $${ for a plain ${")
            return ""
        inside = match.group("inside")
        if inside is None:
            return "${"
        try:
            return _look_up(inside, environ, folder)
        except _AbsentError as error:
            absent.append(str(error))
        except ValueError as error:
            complaints.append(str(error))
        return ""

    return _REFERENCE.sub(replacement, text), complaints, absent


class _AbsentError(ValueError):
    """What a reference names is not here."""


def _look_up(inside: str, environ: Mapping[str, str], folder: Path) -> str:
    """Return what a reference stands for; raises ValueError with a complaint."""
    if inside.startswith("file:"):
        return _content(folder / inside.removeprefix("file:"), _printable_reference(inside))
    if not _NAME.fullmatch(inside):
        shown = _printable_reference(inside)
        text = f"{shown} is no variable; write ${{NAME}}, ${{file:PATH}}, or $${{ for ${{"
        raise ValueError(text)
    if inside not in environ:
        text = f"the environment variable {inside} is not set; set it for the process"
        raise _AbsentError(text)
    value = environ[inside]
    if _SURROGATE.search(value):  # how Python keeps bytes that are no UTF-8 (PEP 383)
        text = f"the environment variable {inside} is not UTF-8 text; store the value as text"
        raise ValueError(text)
    return value


def _content(path: Path, reference: str) -> str:
    try:
        content = read_bounded(path, _MAX_FILE_BYTES)
    except NotAFileError:
        text = f"{reference} is a pipe, a device or a socket; point to a file of text"
        raise ValueError(text) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        text = f"{reference} cannot be read ({reason}); mount it, or correct the path"
        raise _AbsentError(text) from None
    if len(content) > _MAX_FILE_BYTES:
        text = f"{reference} is larger than 64 KiB; point to the file of the secret itself"
        raise ValueError(text)
    try:
        return content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        text = f"{reference} is not UTF-8 text; store the secret as text"
        raise ValueError(text) from None
